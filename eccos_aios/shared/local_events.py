"""LocalEventLog: the log of the kernels of one process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.shared.events import START, Event, LoggedEvent, place_order

CAPACITY = 100_000  # events; older ones are forgotten


class LocalEventLog:
    """`EventLog` in memory.

    Parameters
    ----------
    clock : Clock, optional
    """

    def __init__(self, clock: Clock = MONOTONIC_CLOCK) -> None:
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._events: list[LoggedEvent] = []
        self._count = 0
        self._leader: tuple[str, float] = "", float("-inf")
        self._written = START

    def append(self, events: Sequence[Event]) -> list[str]:
        """As `EventLog.append`."""
        with self._changed:
            places = [f"{self._count + 1 + number}-0" for number in range(len(events))]
            self._count += len(events)
            self._events += map(LoggedEvent, places, events)
            del self._events[:-CAPACITY]
            self._changed.notify_all()
            return places

    def read(self, after: str, count: int, timeout_s: float) -> list[LoggedEvent]:
        """As `EventLog.read`."""
        with self._changed:
            until_s = self._clock.now_s() + timeout_s
            self._clock.wait_for(self._changed, lambda: self._count > place_order(after)[0], until_s)
            first = max(0, place_order(after)[0] - (self._count - len(self._events)))
            return self._events[first : first + count]

    def entries(self, after: str, count: int) -> list[LoggedEvent]:
        """As `EventLog.entries`."""
        return self.read(after, count, 0.0)

    def end(self) -> str:
        """As `EventLog.end`."""
        with self._changed:
            return f"{self._count}-0"

    def lead(self, kernel: str, lease_s: float) -> bool:
        """As `EventLog.lead`."""
        with self._changed:
            now_s = self._clock.now_s()
            if self._leader[0] != kernel and self._leader[1] > now_s:
                return False
            self._leader = kernel, now_s + lease_s
            return True

    def resign(self, kernel: str) -> None:
        """As `EventLog.resign`."""
        with self._changed:
            if self._leader[0] == kernel:
                self._leader = "", float("-inf")

    def written(self) -> str:
        """As `EventLog.written`."""
        with self._changed:
            return self._written

    def note_written(self, kernel: str, place: str) -> bool:
        """As `EventLog.note_written`."""
        with self._changed:
            leads = self._leader[0] == kernel and self._leader[1] > self._clock.now_s()
            if leads:
                self._written = place
            return leads

    def generation(self) -> str:
        """As `EventLog.generation`."""
        return "local"

    def close(self) -> None:
        """As `EventLog.close`."""
