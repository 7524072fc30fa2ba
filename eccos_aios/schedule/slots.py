"""A core's slots: how many calls it holds, how long it takes, what became of them."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from eccos_aios.core import Core
from eccos_aios.schedule.breaker import CircuitBreaker

SERVICE_TIME_WEIGHT = (
    0.2  # of the newest call in the running mean; a core's speed is noisy, yet it may change
)
SHORTEST_SERVICE_S = 1e-3  # seconds; bounds what a core that answers from a cache is believed to take
MOST_TURNS = 100  # times that a plan counts a slot at most


class Room(NamedTuple):
    """What a core can take.

    Attributes
    ----------
    free : int
        Slots that a call can take now: one where the breaker wants a probe, none where it is open.
    slots : int
        Those that come free again and again; none unless the breaker is closed.
    service_s : float or None
        Running mean of the seconds that an answered call took; None before the first answer.
    """

    free: int
    slots: int
    service_s: float | None

    def freed_within(self, horizon_s: float, service_s: float) -> int:
        """Slots that come free within `horizon_s` seconds, each as often as it does, at so many a call."""
        return min(int(self.slots * horizon_s / max(service_s, SHORTEST_SERVICE_S)), MOST_TURNS * self.slots)


class CoreSlots:
    """The calls that one core may hold at once: `acquire` before sending one, `release` whatever came back.

    It outlives a change of the configuration, so that calls in flight keep counting against the quota.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        # Guards the core, every count below, and the breaker; `_room` may be read without.
        self._lock = threading.Lock()
        self._in_flight = 0
        self._completed = 0
        self._failed = 0
        self._service_s: float | None = None
        self._breaker = CircuitBreaker()
        self._room: Room | None = None  # as long as it holds at any time: while the breaker is closed

    def acquire(self) -> bool:
        """Take a slot; False where none is free or the breaker is open."""
        now_s = time.monotonic()
        with self._lock:
            if self._in_flight >= self.core.slots or self._breaker.closed_to(now_s):
                return False
            self._in_flight += 1
            self._breaker.sent(now_s)
            self._room = None
            return True

    def release(self, *, failed: bool, at_fault: bool, service_s: float) -> None:
        """Give a slot back.

        Parameters
        ----------
        failed : bool
            Whether the agent is answered with an error.
        at_fault : bool
            Whether that is the core's own fault, not the call's.
        service_s : float
            Seconds from `acquire`.
        """
        with self._lock:
            self._room = None
            self._in_flight -= 1
            if at_fault:
                self._breaker.failed(time.monotonic())
            else:
                self._breaker.succeeded()
            if failed:
                self._failed += 1
                return
            self._completed += 1
            known = self._service_s
            self._service_s = (
                service_s if known is None else known + SERVICE_TIME_WEIGHT * (service_s - known)
            )

    def blame(self) -> None:
        """Count a call that it holds and has not answered in time as its failure."""
        with self._lock:
            self._room = None
            self._breaker.failed(time.monotonic())

    def resize(self, core: Core) -> None:
        """Take over a changed definition of the core; calls in flight stay counted."""
        with self._lock:
            self._room = None
            self.core = core

    def room(self) -> Room:
        """What it can take now, all told of one moment."""
        known = self._room
        if known is not None:
            return known
        with self._lock:
            state = self._breaker.state(now_s := time.monotonic())
            slots = self.core.slots
            free = max(0, slots - self._in_flight)
            if state == "ok":
                self._room = Room(free, slots, self._service_s)
                return self._room
            return Room(0 if self._breaker.closed_to(now_s) else min(1, free), 0, self._service_s)

    @property
    def probe_at_s(self) -> float | None:
        """When the breaker lets a probe through, on the monotonic clock; None where it waits for none."""
        with self._lock:
            return self._breaker.probe_at_s

    def status(self) -> dict[str, int | str]:
        """The core's part of ``/eccos/status``."""
        with self._lock:
            return {
                "quota": self.core.slots,
                "in_flight": self._in_flight,
                "completed": self._completed,
                "failed": self._failed,
                "state": self._breaker.state(time.monotonic()),
            }
