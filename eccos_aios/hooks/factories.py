"""The counterparts of AIOS's functions in ``aios/hooks/modules/scheduler.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eccos_aios.hooks.active import ACTIVE
from eccos_aios.hooks.kernel_config import kernel_config
from eccos_aios.hooks.log_setup import set_up_log
from eccos_aios.hooks.scheduler import EccosScheduler
from eccos_aios.hooks.usage import listen_to_providers


def eccos_scheduler_nonblock(**params: Any) -> EccosScheduler:
    """Make the active `EccosScheduler`, which takes over the service that runs in this process, if any.

    Parameters
    ----------
    **params
        Those of AIOS's ``SchedulerParams``; a ``get_*_syscall`` of None means AIOS's own queue.

    Raises
    ------
    ConfigError, HistoryError
        The configuration, the manifest or the history is wrong; a running scheduler continues.
    """
    from aios.hooks.stores import _global
    from aios.hooks.types.scheduler import SchedulerParams

    checked = SchedulerParams(**params).model_dump()
    for kind in ("llm", "memory", "storage", "tool"):
        if checked[f"get_{kind}_syscall"] is None:
            checked[f"get_{kind}_syscall"] = getattr(_global, f"global_{kind}_req_queue_get_message")
    set_up_log(kernel_config().log_format)
    scheduler = EccosScheduler(**checked, service=ACTIVE.service)
    listen_to_providers()
    ACTIVE.set_eccos(scheduler)
    return scheduler


def useEccosScheduler(**params: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Functions that start and stop an `EccosScheduler`; parameters as `eccos_scheduler_nonblock`."""
    scheduler = eccos_scheduler_nonblock(**params)
    return scheduler.start, scheduler.stop
