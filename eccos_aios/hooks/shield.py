"""shielded: contains every failure of a hook, so that AIOS is unaffected while ECCOS is off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eccos_aios.errors import AiosError, ConfigError, EccosError
from eccos_aios.hooks.active import ACTIVE
from eccos_aios.hooks.launcher import checkout_of_process, has_module, kernel_module, runs_kernel
from eccos_aios.hooks.switch import has_config, needs_of_process, needs_on_disk
from eccos_aios.hooks.targets import ANY_NEED, WRAPPED_MODULES

_done: set[str] = set()  # what happens once in a process; no LogOnce, as every start of AIOS imports this


class Refusal(SystemExit):
    """Ends the start of a kernel with a one-line message."""


@contextmanager
def shielded(needed_for: Iterable[str] = ANY_NEED, *, importing: bool = False) -> Iterator[None]:
    """Contain an exception of the body.

    Where the config asks for something that needs the hook, the exception ends the start of the kernel, or
    fails its refresh and leaves the running scheduler as it is. Otherwise it is logged, once in a process,
    and AIOS goes on.

    Parameters
    ----------
    needed_for : iterable of str
        Of `targets.ANY_NEED`.
    importing : bool
        AIOS is only being imported: then only a kernel is stopped, as other programs may use AIOS without
        ECCOS.
    """
    starting = not ACTIVE.was_set
    try:
        yield
    except Refusal:
        raise
    except (Exception, SystemExit) as error:
        needs = _needs()
        if needs.isdisjoint(needed_for) or (importing and not _in_kernel()):
            _log(error, needs)
        elif starting:
            raise Refusal(f"eccos-aios: {_in_one_line(error)}") from None
        elif isinstance(error, EccosError):
            raise
        else:
            raise EccosError(_in_one_line(error)) from error


def check_shape(kernel: Path | None = None) -> None:
    """Check that AIOS has what ECCOS hooks into: once, in a kernel before it loads models.

    A missing module is never imported, so no hook would notice. Outside of kernels only that is checked.

    Parameters
    ----------
    kernel : Path, optional
        The checkout whose kernel this process is about to start. Default: found out.
    """
    checkout = kernel or checkout_of_process()
    if checkout is None or "shape" in _done:
        return
    starts = kernel is not None or runs_kernel(checkout)
    if starts:
        _done.add("shape")
    elif all(has_module(checkout, module) for module in WRAPPED_MODULES) or not has_config(checkout):
        return
    with shielded(importing=kernel is None):
        _require_shape(checkout, needs_on_disk(checkout) or ANY_NEED)


def _needs() -> frozenset[str]:
    try:
        return needs_of_process()
    except ConfigError:
        return frozenset(ANY_NEED)  # it asks for ECCOS, with an error


def _in_kernel() -> bool:
    checkout = checkout_of_process()
    return kernel_module() is not None or (checkout is not None and runs_kernel(checkout))


def _require_shape(checkout: Path, needs: Iterable[str]) -> None:
    from eccos_aios.hooks.shape import faults_on_disk, require_none
    from eccos_aios.hooks.targets import targets_for

    require_none(faults_on_disk(checkout, targets_for(needs)), checkout)


def _log(error: BaseException, needs: frozenset[str]) -> None:
    if "line" in _done:
        return
    _done.add("line")
    import logging

    asked = f"the config asks for ECCOS as {' and '.join(sorted(needs))}" if needs else "ECCOS is off"
    logging.getLogger(__name__).warning("eccos-aios: %s; %s, and AIOS goes on", _in_one_line(error), asked)


def _in_one_line(error: BaseException) -> str:
    """The error in one line, or what AIOS lacks, where that is the cause."""
    if isinstance(error, EccosError):
        return str(error)
    checkout = checkout_of_process()
    try:
        if checkout is not None:
            _require_shape(checkout, ANY_NEED)
    except AiosError as fault:
        return str(fault)
    except Exception:  # noqa: BLE001 - too much is broken; report the first error
        return _unexpected(error)
    return _unexpected(error)


def _unexpected(error: BaseException) -> str:
    """An unexpected error, with the line of this package that it came from."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if "eccos_aios" in file.parts and file.name != Path(__file__).name:
            place = f" ({file.name}:{trace.tb_lineno})"
        trace = trace.tb_next
    remedy = "; reinstall eccos-aios" if isinstance(error, ImportError | SyntaxError) else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}{remedy}"
