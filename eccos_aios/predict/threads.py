"""BLAS threads: one while fitting, none for a few calls."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

FEW_ROWS = 8  # calls that are estimated together; more are worth BLAS


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


def product(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """``rows @ columns.T``, for a few rows without BLAS.

    Even for one row OpenBLAS wakes its threads, and a thread that slept or has to share its processor
    keeps all of them waiting: 2 to 6 ms in one call of ten beside other work, against 0.15 ms so.
    """
    if len(rows) > FEW_ROWS:
        return np.asarray(rows @ columns.T, dtype=np.float32)
    return np.asarray(np.einsum("nd,md->nm", rows, columns), dtype=np.float32)
