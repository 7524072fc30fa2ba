"""The clockwork: calls wait, are estimated and planned in rounds, and leave through a core's slot."""

from eccos_aios.schedule.affinity import Conversation
from eccos_aios.schedule.call import TRANSITIONS, Call, CallResult, CallState
from eccos_aios.schedule.execute import (
    AbandonedError,
    CallTimeoutError,
    Execute,
    Executed,
    OverloadedError,
    StoppedError,
)
from eccos_aios.schedule.limits import Needs, allowed_cores, why_none
from eccos_aios.schedule.retry import RetryPolicy
from eccos_aios.schedule.scheduler import Scheduler
from eccos_aios.schedule.settings import SchedulerSettings
from eccos_aios.schedule.slots import CoreSlots

__all__ = [
    "TRANSITIONS",
    "AbandonedError",
    "Call",
    "CallResult",
    "CallState",
    "CallTimeoutError",
    "Conversation",
    "CoreSlots",
    "Execute",
    "Executed",
    "Needs",
    "OverloadedError",
    "RetryPolicy",
    "Scheduler",
    "SchedulerSettings",
    "StoppedError",
    "allowed_cores",
    "why_none",
]
