"""The shield: where whatever goes wrong in a hook ends, so that AIOS never meets it while ECCOS is off."""

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
    """Ends the start of a kernel with one line."""


@contextmanager
def shielded(needed_for: Iterable[str] = ANY_NEED, *, importing: bool = False) -> Iterator[None]:
    """Keep what goes wrong inside from AIOS.

    Where the config asks for something that needs the hook, it ends the start of the kernel, or fails its
    refresh and leaves what runs as it is. Else it is logged, once in a process, and AIOS goes on.

    Parameters
    ----------
    needed_for : iterable of str
        Of `targets.ANY_NEED`.
    importing : bool
        AIOS is only being imported: then none but a kernel is stopped, for others may want of AIOS what
        needs no ECCOS.
    """
    starting = not ACTIVE.taken
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
    """Has AIOS what ECCOS hooks into? Looked at once, in a kernel before it loads models.

    A module that has gone is never imported, so no hook would notice. Other processes are only shown that.

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
        return frozenset(ANY_NEED)  # it asks, in wrong words


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
    told = f"eccos-aios: {_in_one_line(error)}; {asked}, and AIOS goes on"
    logging.getLogger(__name__).warning("%s", told)


def _in_one_line(error: BaseException) -> str:
    """What went wrong; where AIOS lacks something that ECCOS relies on, that."""
    if isinstance(error, EccosError):
        return str(error)
    checkout = checkout_of_process()
    try:
        if checkout is not None:
            _require_shape(checkout, ANY_NEED)
    except AiosError as fault:
        return str(fault)
    except Exception:  # noqa: BLE001 - so much is broken that only the first fault can be told
        return _unforeseen(error)
    return _unforeseen(error)


def _unforeseen(error: BaseException) -> str:
    """An error that nobody foresaw, with the line of ours that it came from."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if "eccos_aios" in file.parts and file.name != Path(__file__).name:
            place = f" ({file.name}:{trace.tb_lineno})"
        trace = trace.tb_next
    remedy = "; install eccos-aios anew" if isinstance(error, ImportError | SyntaxError) else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}{remedy}"
