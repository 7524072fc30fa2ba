"""The clockwork: calls wait, are estimated and planned in rounds, and leave through a core's slot."""

from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.limits import Needs, allowed_cores, why_none
from eccos_aios.schedule.scheduler import (
    CallTimeoutError,
    Execute,
    Executed,
    Scheduler,
    SchedulerSettings,
    StoppedError,
)
from eccos_aios.schedule.slots import CoreSlots

__all__ = [
    "Call",
    "CallResult",
    "CallTimeoutError",
    "CoreSlots",
    "Execute",
    "Executed",
    "Needs",
    "Scheduler",
    "SchedulerSettings",
    "StoppedError",
    "allowed_cores",
    "why_none",
]
