"""What the clockwork asks of whoever sends its calls to cores, and the errors that it answers itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eccos_aios.errors import EccosError
from eccos_aios.schedule.call import Call, CallResult


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


@dataclass(frozen=True)
class Executed:
    """What a core answered.

    Attributes
    ----------
    value : object
        The answer itself.
    failed : bool
        Whether it is an error.
    retryable : bool
        Whether another core may do better.
    core_is_well : bool
        Whether the core works all the same, so that its breaker has nothing to do with it.
    """

    value: object
    failed: bool = False
    retryable: bool = False
    core_is_well: bool = False


Execute = Callable[[Call, str], Executed]
"""Sends a call to the core of that name and waits for its answer; what it raises counts as retryable."""
