"""Feedback: which call is meant, and where its quality has to become known."""

from __future__ import annotations

from dataclasses import dataclass

from eccos_aios.errors import HistoryError, UnknownCallError
from eccos_aios.history import CallOutcome
from eccos_aios.runtime.outcome_log import OutcomeLog
from eccos_aios.schedule import Scheduler


@dataclass(frozen=True)
class Graded:
    """A call whose quality has become known.

    Attributes
    ----------
    call_id : str
    outcome : CallOutcome or None
        With that quality; None where the call finished too long ago to be remembered.
    """

    call_id: str
    outcome: CallOutcome | None


def give_quality(
    clockwork: Scheduler,
    history: OutcomeLog,
    quality: float,
    call: int | str | None = None,
    agent: str | None = None,
    grader: str | None = None,
) -> Graded:
    """Tell a call's quality to the store, where there is one, and to the quality held over time.

    Parameters
    ----------
    clockwork : Scheduler
    history : OutcomeLog
    quality : float
        0 to 1.
    call : int or str, optional
        The call's number or id.
    agent : str, optional
        Whose call it is, the one that finished last; instead of `call`.
    grader : str, optional
        The address from which it was sent. None: from within this process, where nothing is limited.

    Raises
    ------
    FeedbackLimitError
        The call was graded, or its agent or the grader has graded, more often than is allowed.
    UnknownCallError
        There is no such finished call.
    HistoryError
        The store cannot be written.
    ValueError
        `quality` is out of range, or neither or both of `call` and `agent` are given.
    """
    if not 0 <= quality <= 1:
        raise ValueError(f"quality: {quality!r}: must be a number from 0 to 1")
    if (call is None) == (agent is None):
        raise ValueError("give either call or agent")
    if grader is not None:
        history.feedback_limit.take("address", grader)
    try:
        call_id = call if isinstance(call, str) else _id_of(clockwork, history, call, agent)
        if grader is not None:
            history.feedback_limit.take("call", call_id)
            if (whose := history.agent_of(call_id)) is not None:
                history.feedback_limit.take("agent", whose)
        outcome = history.give_quality(call_id, quality)
    except HistoryError as error:
        if error.key in ("call_id", "agent"):
            told = f"{error.key.removesuffix('_id')}: {error.value!r}: {error.allowed}"
            raise UnknownCallError(told) from error
        raise
    remembered = clockwork.give_quality(call_id, quality)
    if not remembered and outcome is None and not history.has_store:
        raise UnknownCallError(f"call: {call_id!r}: is not among the last finished calls")
    return Graded(call_id, outcome)


def _id_of(clockwork: Scheduler, history: OutcomeLog, number: int | None, agent: str | None) -> str:
    if number is not None:
        decision, meant = clockwork.decision(number), f"call: {number}"
    elif (call_id := history.latest_call(agent or "")) is not None:
        return call_id
    else:
        decision, meant = clockwork.latest_decision(agent or ""), f"agent: {agent!r}"
    if decision is None:
        raise UnknownCallError(f"{meant}: is not among the last decisions")
    return decision.id
