"""The interfaces to the code that sends calls to cores, and the scheduler's own errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from eccos_aios.errors import EccosError
from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.outcome_kinds import ANSWERED, AttemptOutcome, OutcomeKind


class StoppedError(EccosError):
    """The scheduler was stopped before the call was answered."""


def stopped(reason: str) -> CallResult:
    """The result of a call that a stopped scheduler does not serve."""
    return CallResult(None, error=StoppedError(reason), failed=True)


class CallTimeoutError(EccosError):
    """No core answered the call in the time that a call may take."""


class AbandonedError(EccosError):
    """The agent left before the call was sent."""


class OverloadedError(EccosError):
    """`max_pending` calls wait already.

    Attributes
    ----------
    retry_after_s : float
        Seconds after which the agent may ask again.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(EccosError):
    """Every core that may take the call is down."""


class CallFailedError(EccosError):
    """The scheduler itself failed on a call."""


@dataclass(frozen=True)
class ExecutionResult:
    """A core's answer.

    Attributes
    ----------
    value : object
        The answer itself.
    outcome : AttemptOutcome
        Its classification.
    """

    value: object
    outcome: AttemptOutcome = ANSWERED

    @property
    def failed(self) -> bool:
        """Whether the outcome is anything but an answer."""
        return self.outcome.kind is not OutcomeKind.ANSWERED


Execute = Callable[[Call, str], ExecutionResult]
"""Sends a call to the core of that name and waits for the answer, at most until `current_attempt` times
out; an exception is classified as in `classify`."""


class Prober(Protocol):
    """Checks whether a core that is down has recovered, with requests of its own."""

    def look(self, core: str) -> AttemptOutcome | None:
        """Send a request that is free and needs no slot; None: the core offers none."""

    def ping(self, core: str) -> AttemptOutcome:
        """Send the smallest possible call; within `current_attempt`, in a slot of the core."""
