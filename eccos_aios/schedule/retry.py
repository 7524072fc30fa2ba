"""What happens to a call whose attempt failed: whether it is tried again, where and when."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from eccos_aios.config import default_of
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when: exponential backoff with full jitter, and a budget.

    Backoff: Brooker, "Exponential Backoff And Jitter", 2015; only before a core that failed the call is
    tried with it again. Budget: as Envoy's ``retry_budget``, a share of the calls in flight plus a floor,
    so that retries never become the load.

    Attributes
    ----------
    max_attempts : int
        Attempts per call, at most; more only while a healthy core has not been tried.
    first_backoff_s, longest_backoff_s : float
        Seconds; the upper bound of the backoff doubles with every attempt, from the first to the longest.
    budget_share : float
        Retries that may be in flight, as a share of the calls in flight.
    budget_floor : int
        Retries that may be in flight in any case.
    """

    max_attempts: int = default_of("max_attempts")
    first_backoff_s: float = 0.1
    longest_backoff_s: float = 5.0
    budget_share: float = 0.25
    budget_floor: int = 8

    def backoff_s(self, attempts: int) -> float:
        """Seconds to wait after so many attempts of a call, drawn at random."""
        bound_s = min(self.longest_backoff_s, self.first_backoff_s * 2.0 ** min(max(0, attempts - 1), 30))
        return random.uniform(0, bound_s)

    def allows(self, retries: int, in_flight: int) -> bool:
        """Whether one more retry may be sent while so many retries, and so many calls, are in flight."""
        return retries < self.budget_floor + self.budget_share * in_flight


class NextStep(Enum):
    """What happens to a call whose attempt gave no answer."""

    END = "end"
    """The agent gets the error."""
    ELSEWHERE = "elsewhere"
    """It waits for another core, without a backoff."""
    LATER = "later"
    """It waits for a core that failed it, after a backoff."""


def next_step(
    call: Call,
    outcome: AttemptOutcome,
    permitted: Collection[str],
    down: Collection[str],
    max_attempts: int,
    *,
    late: bool = False,
) -> NextStep:
    """What follows from an attempt's outcome, which ``call.failures`` already contains.

    Parameters
    ----------
    call : Call
    outcome : AttemptOutcome
        Not an answer.
    permitted : collection of str
        The cores that meet the call's requirements.
    down : collection of str
        The cores that are known to be down.
    max_attempts : int
        Attempts, at most, once every healthy core has been tried.
    late : bool
        Whether another silent attempt would exceed `EccosConfig.unavailable_after_s`: then a call that
        several cores have left silent, and no core is left for, ends.
    """
    consequence = outcome.consequence
    fit = [core for core in permitted if core not in call.unfit]
    if not consequence.elsewhere or not fit:
        return NextStep.END
    if outcome.kind is OutcomeKind.CORE_BUSY:
        return NextStep.ELSEWHERE
    untried = [core for core in fit if core not in call.failures]
    if call.disputed and outcome.kind is OutcomeKind.CORE_UNFIT:
        return NextStep.END  # two cores refused it for a reason; silence or a 500 may be chance
    if any(core not in down for core in untried):
        return NextStep.ELSEWHERE
    if call.attempts >= max_attempts:
        return NextStep.END
    if late and not untried and len(fit) > 1 and outcome.kind is OutcomeKind.CORE_SILENT:
        return NextStep.END
    if not untried and all(call.failures[core].kind is OutcomeKind.CORE_REFUSES for core in fit):
        return NextStep.END
    return NextStep.LATER if not untried else NextStep.ELSEWHERE
