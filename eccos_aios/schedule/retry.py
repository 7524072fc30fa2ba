"""RetryPolicy: whether a call whose core failed is tried again, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

from eccos_aios.schedule.call import Call


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015).

    Attributes
    ----------
    max_attempts : int
        Times that a call is sent to a core, at most.
    first_backoff_s, longest_backoff_s : float
        Seconds; the bound of the wait doubles with every attempt, from the first to the longest.
    """

    max_attempts: int = 3
    first_backoff_s: float = 0.1
    longest_backoff_s: float = 5.0

    def backoff_s(self, call: Call) -> float | None:
        """Seconds until the call may be tried again; None: never."""
        if call.attempts >= self.max_attempts:
            return None
        bound_s = min(self.longest_backoff_s, self.first_backoff_s * 2 ** max(0, call.attempts - 1))
        return random.uniform(0, bound_s)
