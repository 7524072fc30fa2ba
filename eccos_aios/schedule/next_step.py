"""What becomes of a call whose attempt gave no answer: it ends, goes elsewhere, or is tried again later."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from eccos_aios.schedule.call import Call
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind


class NextStep(Enum):
    """What becomes of a call."""

    END = "end"
    """The agent gets the error."""
    ELSEWHERE = "elsewhere"
    """It waits for another core, at once."""
    LATER = "later"
    """It waits for a core that failed it, after a pause."""


def next_step(
    call: Call, outcome: AttemptOutcome, permitted: Collection[str], down: Collection[str], max_attempts: int
) -> NextStep:
    """What follows from an attempt's outcome, which stands in ``call.failures`` already.

    Parameters
    ----------
    call : Call
    outcome : AttemptOutcome
        Not an answer.
    permitted : collection of str
        The cores that may take the call by what it needs.
    down : collection of str
        The cores that are known to be down.
    max_attempts : int
        Times that it is sent, at most, once every core that is well has had it.
    """
    consequence = outcome.consequence
    fit = [core for core in permitted if core not in call.unfit]
    if not consequence.elsewhere or not fit:
        return NextStep.END
    if outcome.kind is OutcomeKind.CORE_BUSY:
        return NextStep.ELSEWHERE
    untried = [core for core in fit if core not in call.failures]
    if call.disputed and outcome.kind is OutcomeKind.CORE_UNFIT:
        return NextStep.END  # a refusal with a reason, twice, is no chance; silence or a 500 may be
    if any(core not in down for core in untried):
        return NextStep.ELSEWHERE
    if call.attempts >= max_attempts:
        return NextStep.END
    if not untried and all(call.failures[core].kind is OutcomeKind.CORE_REFUSES for core in fit):
        return NextStep.END
    return NextStep.LATER if not untried else NextStep.ELSEWHERE
