"""Feedback: takes grades and passes each to everything that uses it."""

from __future__ import annotations

from collections.abc import Callable

from eccos_aios.errors import HistoryError, UnknownCallError
from eccos_aios.history import CallOutcome, Record
from eccos_aios.runtime.feedback_limit import FeedbackLimit
from eccos_aios.runtime.outcome_log import OutcomeLog
from eccos_aios.schedule import Scheduler

CALL_KEYS = {"call_id": "call", "agent": "agent"}  # keys of a HistoryError about an unknown call
GOOD = 0.5  # quality from which an answer counts as right, and another one that differs as wrong


class Feedback:
    """Takes grades: checks the limit, finds the call, stores the grade, corrects the debt, teaches.

    Of several grades of one call the last counts, in each of these places. Any thread may call any method.

    Parameters
    ----------
    scheduler : Scheduler
        Holds the quality debt and the latest decisions.
    outcomes : OutcomeLog
    learn : callable
        Given the record of each graded call that is remembered.
    limit : FeedbackLimit, optional

    Attributes
    ----------
    limit : FeedbackLimit
    """

    def __init__(
        self,
        scheduler: Scheduler,
        outcomes: OutcomeLog,
        learn: Callable[[Record], None],
        limit: FeedbackLimit | None = None,
    ) -> None:
        self.limit = limit or FeedbackLimit()
        self._scheduler = scheduler
        self._outcomes = outcomes
        self._learn = learn

    def give(
        self,
        quality: float,
        *,
        call: int | str | None = None,
        agent: str | None = None,
        grader: str | None = None,
    ) -> str:
        """Grade a finished call; with a store the grade is on disk on return.

        Parameters
        ----------
        quality : float
            0 to 1.
        call : int or str, optional
            The call's number or id.
        agent : str, optional
            Instead of `call`: the agent whose call that finished last is graded.
        grader : str, optional
            The address that the grade comes from. None: this process, which is not limited.

        Returns
        -------
        str
            The call's id.

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
            self.limit.take("address", grader)
        try:
            call_id = self._call_id(call, agent)
            if grader is not None:
                self._limit_call(call_id)
            outcome = self._outcomes.grade(call_id, quality)
        except HistoryError as error:
            if error.key in CALL_KEYS:
                unknown = f"{CALL_KEYS[error.key]}: {error.value!r}: {error.allowed}"
                raise UnknownCallError(unknown) from error
            raise
        remembered = self._scheduler.note_quality(call_id, quality)
        if outcome is not None:
            self._learn_unless_selected(outcome)
            self._grade_stages(outcome)
        elif not remembered and not self._outcomes.has_store:
            raise UnknownCallError(f"call: {call_id!r}: is not among the last finished calls")
        return call_id

    def _grade_stages(self, given: CallOutcome) -> None:
        """Grade the answers of the call's other stages by the one that was given, as far as that is known.

        Without it a core that is asked first would be graded only where its answer was accepted.
        """
        for stage in self._outcomes.stages_of(given.call_id):
            quality = inferred_quality(given, stage)
            graded = None if quality is None else self._outcomes.grade(stage.call_id, quality)
            if graded is not None:
                self._learn_unless_selected(graded)

    def _learn_unless_selected(self, outcome: CallOutcome) -> None:
        """Teach an outcome, but not of a core that only ever sees what another could not answer."""
        if not outcome.selected:
            self._learn(outcome.record())

    def hear(self, call_id: str, quality: float) -> None:
        """Learn from a grade that another kernel was given, on a call of whichever kernel."""
        outcome = self._outcomes.note_grade(call_id, quality)
        self._scheduler.note_quality(call_id, quality)
        if outcome is not None:
            self._learn_unless_selected(outcome)

    def _limit_call(self, call_id: str) -> None:
        self.limit.take("call", call_id)
        agent = self._outcomes.agent_of(call_id)
        if agent is not None:
            self.limit.take("agent", agent)

    def _call_id(self, call: int | str | None, agent: str | None) -> str:
        if isinstance(call, str):
            return call
        if call is not None:
            if self._outcomes.is_shared:
                raise UnknownCallError(f"call: {call}: give its id: other kernels use the same numbers")
            decision, meant = self._scheduler.decision(call), f"call: {call}"
        else:
            call_id = self._outcomes.latest_call(agent or "")
            if call_id is not None:
                return call_id
            decision, meant = self._scheduler.latest_decision(agent or ""), f"agent: {agent!r}"
        if decision is None:
            raise UnknownCallError(f"{meant}: is not among the last decisions")
        return decision.id


def inferred_quality(given: CallOutcome, other: CallOutcome) -> float | None:
    """The quality of another answer to a call whose given answer is graded; None: nothing is known of it."""
    if other.answer_passes is False:
        return 0.0
    if other.answer_key is not None and other.answer_key == given.answer_key:
        return given.quality
    good = given.quality is not None and given.quality >= GOOD
    return 0.0 if good and None not in (given.answer_key, other.answer_key) else None
