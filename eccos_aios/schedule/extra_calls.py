"""ExtraCalls: keeps the mean number of cores that a call asks within a bound."""

from __future__ import annotations

MOST_SAVED = 32.0  # attempts beyond one a call that calls of one core save up for later ones
SAVED_AT_START = 8.0


class ExtraCalls:
    """A bucket of attempts beyond the first of each call. Not thread-safe: the scheduler's lock guards it.

    Each call adds ``max_calls - 1``; a plan takes the attempts that it is expected to add, and once it has
    ended, those that it has added. So over any number of calls the mean exceeds the bound by what is saved
    at most, and the bucket's size keeps a long quiet time from paying for a burst.

    Parameters
    ----------
    max_calls : float
        Cores asked per call, in the mean; at least 1.
    """

    def __init__(self, max_calls: float) -> None:
        self.max_calls = max_calls
        self._saved = SAVED_AT_START

    @property
    def spare(self) -> float | None:
        """Attempts that plans may add now; None: the bound leaves none to any call."""
        return self._saved if self.max_calls > 1 else None

    def sent(self, expected_calls: float = 1.0) -> None:
        """A call is sent whose plan is expected to ask so many cores."""
        self._saved = min(MOST_SAVED, self._saved + self.max_calls - expected_calls)

    def settle(self, expected_calls: float, calls: int) -> None:
        """A plan has ended that asked so many cores."""
        self._saved = min(MOST_SAVED, self._saved + expected_calls - max(1, calls))
