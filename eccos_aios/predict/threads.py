"""One BLAS thread while fitting."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep BLAS to one thread within a ``with``, where threadpoolctl is there to do it.

    The matrices of a fit are small, and BLAS threads wait for each other by spinning: with other work on
    the machine, two threads fitted tools12 in 46 s and one in 16 s. It also makes a fit repeatable to the
    last bit, which sums over threads are not.
    """
    # Every scikit-learn so far requires threadpoolctl. It is no dependency of this package's own: without
    # it a fit is slower and right all the same.
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
