"""Scheduling: calls wait, are estimated and planned in rounds, and leave through a core's slot."""

from eccos_aios.requirements import Requirements, allowed_cores, why_none
from eccos_aios.schedule.affinity import Conversation
from eccos_aios.schedule.attempt import Attempt, Usage, attempt_under_way, current_attempt
from eccos_aios.schedule.budget import BudgetExhaustedError
from eccos_aios.schedule.call import TRANSITIONS, Call, CallResult, CallState
from eccos_aios.schedule.classify import Observation, classify
from eccos_aios.schedule.execution import (
    AbandonedError,
    CallFailedError,
    CallTimeoutError,
    Execute,
    ExecutionResult,
    OverloadedError,
    Prober,
    StoppedError,
    UnavailableError,
)
from eccos_aios.schedule.outcome_kinds import ANSWERED, AttemptOutcome, OutcomeKind
from eccos_aios.schedule.plan import Pass, Plan
from eccos_aios.schedule.plan_rows import PlanSource
from eccos_aios.schedule.plan_stages import Judge, Stage
from eccos_aios.schedule.retry import RetryPolicy
from eccos_aios.schedule.round_batch import RoundBatch
from eccos_aios.schedule.scheduler import Scheduler
from eccos_aios.schedule.settings import SchedulerSettings
from eccos_aios.schedule.slots import CoreSlots

__all__ = [
    "ANSWERED",
    "TRANSITIONS",
    "AbandonedError",
    "Attempt",
    "AttemptOutcome",
    "BudgetExhaustedError",
    "Call",
    "CallFailedError",
    "CallResult",
    "CallState",
    "CallTimeoutError",
    "Conversation",
    "CoreSlots",
    "Execute",
    "ExecutionResult",
    "Judge",
    "Observation",
    "OutcomeKind",
    "OverloadedError",
    "Pass",
    "Plan",
    "PlanSource",
    "Prober",
    "Requirements",
    "RetryPolicy",
    "RoundBatch",
    "Scheduler",
    "SchedulerSettings",
    "Stage",
    "StoppedError",
    "UnavailableError",
    "Usage",
    "allowed_cores",
    "attempt_under_way",
    "classify",
    "current_attempt",
    "why_none",
]
