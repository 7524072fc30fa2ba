"""FakeClock: a clock that stands still until a test advances it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from eccos_aios.clock import Clock

HANGS_S = 10.0  # real seconds; a test that waits this long hangs
QUIET_S = 0.002  # real seconds in which no thread begins or ends a wait: all have got as far as they get
BLOCKED_S = 0.05  # real seconds after which a thread that does not wait on the clock counts as blocked


class FakeClock(Clock):
    """Threads wait on it as on the real clock; advancing it wakes those whose moment has come.

    A thread that computes its moment while the clock is advanced is woken too, as it waits for a moment
    and not for a duration.
    """

    def __init__(self, start_s: float = 1000.0) -> None:
        self._changed = threading.Condition()  # guards all; notified when a thread begins or ends a wait
        self._now_s = start_s
        self._waiting: dict[object, tuple[float, threading.Condition]] = {}
        self._idle: set[threading.Thread] = set()  # threads that wait, with or without a moment
        self._seen: set[threading.Thread] = set()  # threads that ever waited
        self._events = 0  # waits that began or ended

    def now_s(self) -> float:
        return self._now_s

    def wait(self, condition: threading.Condition, until_s: float | None = None) -> bool:
        until_s = float("inf") if until_s is None else until_s
        ticket, thread = object(), threading.current_thread()
        with self._changed:
            if until_s <= self._now_s:
                return False
            self._waiting[ticket] = until_s, condition
            self._idle.add(thread)
            self._seen.add(thread)
            self._note_event()
        try:
            condition.wait()
        finally:
            with self._changed:
                self._waiting.pop(ticket, None)
                self._idle.discard(thread)
                self._note_event()
        return self._now_s < until_s

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake the threads whose moment comes; does not wait for what they then do."""
        self._advance_to(self._now_s + seconds)

    def _note_event(self) -> None:
        self._events += 1
        self._changed.notify_all()

    def _advance_to(self, moment_s: float) -> None:
        with self._changed:
            self._now_s = moment_s
            due = [ticket for ticket, (until_s, _) in self._waiting.items() if until_s <= self._now_s]
            conditions = [self._waiting.pop(ticket)[1] for ticket in due]
        for condition in conditions:
            with condition:  # the waiter holds this lock until it waits
                condition.notify_all()

    def advance_waiters(self, seconds: float) -> None:
        """As `advance`, once some thread waits for a moment within these seconds."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._next_s() <= self._now_s + seconds, HANGS_S), (
                f"no thread waits for a moment within {seconds:g} s"
            )
        self.advance(seconds)

    def advance_until(self, done: Callable[[], bool], limit_s: float) -> None:
        """Go from one moment that some thread waits for to the next, until `done`, for `limit_s` at most.

        Advances when every thread that ever waited here waits again, or is blocked elsewhere.
        """
        end_s, hangs_s = self._now_s + limit_s, time.monotonic() + HANGS_S
        events, since_s = -1, 0.0
        while not done():
            assert time.monotonic() < hangs_s, f"not done after {limit_s:g} s on the clock"
            with self._changed:
                if events != self._events:
                    events, since_s = self._events, time.monotonic()
                self._changed.wait(QUIET_S)
                at_work = any(thread.is_alive() for thread in self._seen - self._idle)
                quiet_s = BLOCKED_S if at_work else QUIET_S
                next_s = self._next_s()
                if events != self._events or time.monotonic() - since_s < quiet_s or next_s > end_s:
                    continue
            if not done():
                self._advance_to(next_s)

    def _next_s(self) -> float:
        return min((until_s for until_s, _ in self._waiting.values()), default=float("inf"))
