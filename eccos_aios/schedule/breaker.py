"""CircuitBreaker: keeps calls from a core that fails, and finds out when it is well again."""

from __future__ import annotations

from typing import Literal

FAILURES_TO_OPEN = (
    5  # failures in a row; one bad answer in five by chance alone gives that once in 3,000 calls
)
FIRST_PAUSE_S = 2.0  # seconds until the first probe
LONGEST_PAUSE_S = 60.0  # seconds; the pause doubles with every probe that fails, up to this

BreakerState = Literal["ok", "open", "half-open"]


class CircuitBreaker:
    """Closed (``ok``) while calls succeed, open after some failures in a row, then half-open for one probe.

    Not thread-safe: its core's slots guard it.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._opened_s: float | None = None
        self._probing = False

    def state(self, now_s: float) -> BreakerState:
        """Where it stands at `now_s` on the monotonic clock."""
        if self._opened_s is None:
            return "ok"
        return "half-open" if now_s >= self._opened_s + self._pause_s else "open"

    def closed_to(self, now_s: float) -> bool:
        """Whether a further call may not be sent: it is open, or its one probe is under way."""
        state = self.state(now_s)
        return state == "open" or (state == "half-open" and self._probing)

    @property
    def probe_at_s(self) -> float | None:
        """When it lets a probe through; None where it is closed, or waits for the probe's end."""
        return None if self._opened_s is None or self._probing else self._opened_s + self._pause_s

    def sent(self, now_s: float) -> None:
        """A call was sent."""
        self._probing = self.state(now_s) == "half-open"

    def succeeded(self) -> None:
        """The core answered."""
        self._failures, self._pause_s, self._opened_s, self._probing = 0, FIRST_PAUSE_S, None, False

    def failed(self, now_s: float) -> None:
        """The core failed in a way that is its own fault."""
        self._failures += 1
        if self._opened_s is not None and self._probing:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._opened_s, self._probing = now_s, False
        elif self._opened_s is None and self._failures >= FAILURES_TO_OPEN:
            self._opened_s = now_s
