"""Whether a call whose attempt failed is tried again, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

from eccos_aios.config import default_of


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when: exponential backoff with full jitter, and a budget.

    Backoff: Brooker, "Exponential Backoff And Jitter", 2015; only where a call goes to a core that failed
    it before. Budget: as Envoy's ``retry_budget``, a share of what is in flight plus a floor, so that
    retries never become the load.

    Attributes
    ----------
    max_attempts : int
        Times that a call is sent to a core, at most; more only while a core that is well has not had it.
    first_backoff_s, longest_backoff_s : float
        Seconds; the bound of the wait doubles with every attempt, from the first to the longest.
    budget_share : float
        Retries that may be in flight, as a share of the calls that are.
    budget_floor : int
        Retries that may be in flight in any case.
    """

    max_attempts: int = default_of("max_attempts")
    first_backoff_s: float = 0.1
    longest_backoff_s: float = 5.0
    budget_share: float = 0.25
    budget_floor: int = 8

    def backoff_s(self, attempts: int) -> float:
        """Seconds until a core may be tried again, after so many attempts of the call."""
        bound_s = min(self.longest_backoff_s, self.first_backoff_s * 2.0 ** min(max(0, attempts - 1), 30))
        return random.uniform(0, bound_s)

    def allows(self, retries: int, in_flight: int) -> bool:
        """Whether one more retry may be sent while so many, and so many calls, are in flight."""
        return retries < self.budget_floor + self.budget_share * in_flight
