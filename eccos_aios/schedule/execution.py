"""What the clockwork asks of whoever sends its calls to cores, and the errors that it answers itself."""

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
    """Whoever waited for the call has gone before it was sent."""


class OverloadedError(EccosError):
    """As many calls wait already as may wait.

    Attributes
    ----------
    retry_after_s : float
        Seconds after which there may be room.
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
    """What a core answered.

    Attributes
    ----------
    value : object
        The answer itself.
    outcome : AttemptOutcome
        What that means.
    """

    value: object
    outcome: AttemptOutcome = ANSWERED

    @property
    def failed(self) -> bool:
        """Whether it is no answer."""
        return self.outcome.kind is not OutcomeKind.ANSWERED


Execute = Callable[[Call, str], ExecutionResult]
"""Sends a call to the core of that name and waits for the answer, at most as long as `current_attempt` has
left; what it raises is classified as `classify` does."""


class Prober(Protocol):
    """Finds out whether a core that is down is well again, with requests of its own."""

    def look(self, core: str) -> AttemptOutcome | None:
        """Ask for something that costs nothing and holds no slot; None: there is no such thing."""

    def ping(self, core: str) -> AttemptOutcome:
        """Send the smallest call that there is; within `current_attempt`, in a slot of the core."""
