"""A core's slots: how many calls it holds, how long it takes, what became of them."""

from __future__ import annotations

import threading

from eccos_aios.core import Core

SERVICE_TIME_WEIGHT = (
    0.2  # of the newest call in the running mean; a core's speed is noisy, yet it may change
)
SHORTEST_SERVICE_S = 1e-3  # seconds; bounds what a core that answers from a cache is believed to take
MOST_TURNS = 100  # times that a plan counts a slot at most
FIRST_GUESS_S = 1.0  # seconds; a core's service time before its first answer


class CoreSlots:
    """The calls that one core may hold at once: `acquire` before sending one, `release` whatever came back.

    It outlives a change of the configuration, so that calls in flight keep counting against the quota.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        # Guards every count below.
        self._lock = threading.Lock()
        self._in_flight = 0
        self._completed = 0
        self._failed = 0
        self._service_s: float | None = None

    def acquire(self) -> bool:
        """Take a slot; False where none is free."""
        with self._lock:
            if self._in_flight >= self.core.slots:
                return False
            self._in_flight += 1
            return True

    def release(self, *, failed: bool, service_s: float) -> None:
        """Give the slot back after `service_s` seconds of service."""
        with self._lock:
            self._in_flight -= 1
            if failed:
                self._failed += 1
                return
            self._completed += 1
            known = self._service_s
            self._service_s = (
                service_s if known is None else known + SERVICE_TIME_WEIGHT * (service_s - known)
            )

    def resize(self, core: Core) -> None:
        """Take over a changed definition of the core; calls in flight stay counted."""
        with self._lock:
            self.core = core

    @property
    def free(self) -> int:
        with self._lock:
            return max(0, self.core.slots - self._in_flight)

    @property
    def service_s(self) -> float:
        """Running mean of the seconds that an answered call took."""
        with self._lock:
            return FIRST_GUESS_S if self._service_s is None else self._service_s

    def freed_within(self, horizon_s: float) -> int:
        """Slots that come free within `horizon_s` seconds, each counted as often as it does."""
        slots = self.core.slots
        turns = horizon_s / max(self.service_s, SHORTEST_SERVICE_S)
        return min(int(slots * turns), MOST_TURNS * slots)

    def status(self) -> dict[str, int | str]:
        """The core's part of ``/eccos/status``."""
        with self._lock:
            return {
                "quota": self.core.slots,
                "in_flight": self._in_flight,
                "completed": self._completed,
                "failed": self._failed,
                "state": "ok",
            }
