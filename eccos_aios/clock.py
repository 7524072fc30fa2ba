"""Clock: where every wait, deadline and pause takes its time from, so that tests can advance it by hand."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable


class Clock(ABC):
    """Seconds that never run backwards, and waiting for a moment of them.

    Waits take a moment, not a duration: a clock that is advanced between the caller's look at it and its
    wait then ends the wait at once.
    """

    @abstractmethod
    def now_s(self) -> float:
        """Seconds since some fixed moment."""

    @abstractmethod
    def wait(self, condition: threading.Condition, until_s: float | None = None) -> bool:
        """Wait for a notification of `condition`, whose lock the caller holds.

        Parameters
        ----------
        condition : Condition
        until_s : float, optional
            When to give up. Default: never.

        Returns
        -------
        bool
            False if the moment came first.
        """

    def wait_for(
        self, condition: threading.Condition, predicate: Callable[[], bool], until_s: float | None = None
    ) -> bool:
        """Wait until `predicate` holds.

        Parameters
        ----------
        condition : Condition
            Its lock is held by the caller.
        predicate : callable
            Called with the lock held, at first and after each notification.
        until_s : float, optional
            When to give up. Default: never.

        Returns
        -------
        bool
            Whether the predicate holds.
        """
        while not predicate():
            if not self.wait(condition, until_s):
                return predicate()
        return True

    def sleep(self, seconds: float) -> None:
        """Wait for that long."""
        condition, until_s = threading.Condition(), self.now_s() + seconds
        with condition:
            self.wait_for(condition, lambda: False, until_s)


class MonotonicClock(Clock):
    """The system's monotonic clock."""

    def now_s(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, until_s: float | None = None) -> bool:
        if until_s is None or until_s == float("inf"):
            return condition.wait()
        return condition.wait(max(0.0, until_s - time.monotonic()))


MONOTONIC_CLOCK = MonotonicClock()
