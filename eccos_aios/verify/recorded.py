"""Recorded answers: checks of what a history holds, and where it shows that no answer goes without a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.history import Outcome, Record
from eccos_aios.verify.base import Answer, AnswerCheck, Check, Question
from eccos_aios.verify.check import check_answer

PRIOR_STRENGTH = 5.0  # answers at which a category's own share of right ones weighs as much as the whole's
LEAST_ANSWERS = 10  # without a call, in the whole history, before anything is concluded
CALL_EXPECTED_BELOW = 0.25  # share of answers without a call that are right


@dataclass(frozen=True)
class CallHistory:
    """Whether questions with tools want a call, by category, as a history shows.

    Attributes
    ----------
    right : dict of str to float
        By category, the share of the answers without a call that were right, shrunk towards `overall`.
    overall : float or None
        Of all categories; None where the history has too few such answers.
    """

    right: dict[str | None, float]
    overall: float | None

    def expects_call(self, category: str | None) -> bool:
        """Whether an answer without a call is held to be wrong; never where nothing is known."""
        share = self.right.get(category, self.overall)
        return share is not None and share < CALL_EXPECTED_BELOW


def call_history(history: Sequence[Record]) -> CallHistory:
    """Learn from the graded answers to questions with tools that hold text and no call."""
    found: dict[str | None, list[float]] = {}
    for record in history:
        if record.tools:
            for outcome in record.outputs:
                if isinstance(outcome.prediction, str):
                    found.setdefault(record.category, []).append(outcome.graded_quality)
    every = [quality for qualities in found.values() for quality in qualities]
    if len(every) < LEAST_ANSWERS:
        return CallHistory({}, None)
    overall = sum(every) / len(every)
    right = {
        category: (sum(qualities) + PRIOR_STRENGTH * overall) / (len(qualities) + PRIOR_STRENGTH)
        for category, qualities in found.items()
    }
    return CallHistory(right, overall)


def recorded_answer(prediction: Any) -> Answer:
    """An outcome's `prediction` as an answer."""
    if isinstance(prediction, list):
        return Answer(tool_calls=prediction)
    if prediction is None or isinstance(prediction, str):
        return Answer(text=prediction)
    return Answer(text=str(prediction))


def has_answers(record: Record) -> bool:
    """Whether the answers were recorded; where one at least was, a null one was empty."""
    return any(outcome.prediction is not None or _is_checked(outcome) for outcome in record.outputs)


def check_record(
    record: Record, calls: CallHistory, checks: Sequence[Check] | None = None
) -> dict[str, AnswerCheck]:
    """The checks of a record's answers, by core; empty where the answers were not recorded.

    An answer without a prediction counts as it was checked when it came (`answer_passes`, `answer_key`).
    """
    if not has_answers(record):
        return {}
    question = Question(
        record.query, tuple(record.tools or ()), call_expected=calls.expects_call(record.category)
    )
    return {
        outcome.model_name: _stored(outcome)
        or check_answer(question, recorded_answer(outcome.prediction), checks)
        for outcome in record.outputs
    }


def _is_checked(outcome: Outcome) -> bool:
    return outcome.answer_passes is not None


def _stored(outcome: Outcome) -> AnswerCheck | None:
    if outcome.prediction is not None or outcome.answer_passes is None:
        return None
    if outcome.answer_passes:
        return AnswerCheck(passes=True, key=outcome.answer_key)
    return AnswerCheck(passes=False, reason="failed when it was recorded")
