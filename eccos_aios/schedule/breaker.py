"""CircuitBreaker: keeps calls away from a core that fails, and schedules the probes of its recovery."""

from __future__ import annotations

from typing import Literal

FAILURES_TO_OPEN = 5  # failures in a row; with one failure in five by chance, that is one in 3,000 calls
FIRST_PAUSE_S = 0.1  # seconds until the first probe; short, as the fault may be over already
LONGEST_PAUSE_S = 30.0  # seconds; the pause doubles with every failed probe, up to this
AWAITED_PAUSE_S = 0.5  # seconds between probes, at most, while calls wait that no other core may take

BreakerState = Literal["ok", "open", "half-open"]


class CircuitBreaker:
    """Closed (``ok``) while calls succeed, open after failures in a row, half-open while it is probed.

    Failures are counted by call, so that one which turns out to be the call's own fault can be uncounted.
    Not thread-safe: its core's slots guard it.
    """

    def __init__(self) -> None:
        self._failures: dict[object, float] = {}  # weights by call, since the last success
        self._pause_s = FIRST_PAUSE_S
        self._opened_s: float | None = None
        self._probed_s = 0.0  # when it opened, or its last probe failed
        self._refused = False  # opened by a refusal, which is never a call's fault
        self._probing = False
        self.cause = ""

    @property
    def state(self) -> BreakerState:
        """The state that users see."""
        if self._opened_s is None:
            return "ok"
        return "half-open" if self._probing else "open"

    @property
    def probe_at_s(self) -> float | None:
        """When the next probe is due; None while closed, or while a probe is under way."""
        return None if self._opened_s is None or self._probing else self._probed_s + self._pause_s

    def probing(self) -> None:
        """Note that a probe is under way."""
        self._probing = True

    def await_probe(self) -> None:
        """Shorten the pause before the next probe, as calls wait for this core."""
        self._pause_s = min(self._pause_s, AWAITED_PAUSE_S)

    def succeeded(self, started_s: float) -> None:
        """Close after an answer to a request of `started_s`; ignored if that was sent before it opened."""
        if self._opened_s is not None and started_s < self._opened_s:
            return
        self._close()

    def failed(self, call: object, weight: float, cause: str, now_s: float) -> None:
        """Count a failure; opens at `FAILURES_TO_OPEN`."""
        self._failures[call] = self._failures.get(call, 0.0) + weight
        if self._opened_s is None and sum(self._failures.values()) >= FAILURES_TO_OPEN:
            self._open(cause, now_s)

    def refused(self, cause: str, now_s: float, probe_after_s: float | None = None) -> None:
        """Open at once: the core takes no call at all."""
        if self._opened_s is None:
            self._open(cause, now_s)
        self._refused, self.cause = True, cause
        if probe_after_s is not None:
            self._pause_s = max(self._pause_s, probe_after_s)

    def forgive(self, call: object) -> None:
        """Uncount the failures of a call; closes if the others are too few."""
        if self._failures.pop(call, None) is None or self._opened_s is None or self._refused:
            return
        if sum(self._failures.values()) < FAILURES_TO_OPEN:
            failures = self._failures
            self._close()
            self._failures = failures

    def probe_failed(self, cause: str, now_s: float) -> None:
        """End the probe under way: the core has not recovered. The pause doubles."""
        self._probing = False
        if self._opened_s is None:
            return
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._probed_s, self.cause = now_s, cause

    def probe_ended(self, now_s: float) -> None:
        """End the probe under way without a finding; the same pause starts again."""
        self._probing, self._probed_s = False, now_s

    def _open(self, cause: str, now_s: float) -> None:
        self._opened_s = self._probed_s = now_s
        self._pause_s, self.cause = FIRST_PAUSE_S, cause

    def _close(self) -> None:
        self._failures = {}
        self._pause_s, self._opened_s = FIRST_PAUSE_S, None
        self._refused = self._probing = False
        self.cause = ""
