"""A grade reaches the store, the debt and the learner once, unless a limit refuses it before any of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from eccos_aios.errors import FeedbackLimitError, UnknownCallError
from eccos_aios.history import CallOutcome, HistoryStore, Record
from eccos_aios.predict import HybridPredictor
from eccos_aios.runtime import feedback_limit
from eccos_aios.runtime.feedback import Feedback
from eccos_aios.runtime.feedback_limit import Allowance, FeedbackLimit
from eccos_aios.runtime.outcome_log import OutcomeLog
from eccos_aios.schedule import Scheduler

WAIT_S = 20.0


class HeldStore(HistoryStore):
    """Writes outcomes only once it is released."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reached, self.released = threading.Event(), threading.Event()

    def append_outcomes(self, outcomes: Iterable[CallOutcome]) -> int:
        self.reached.set()
        assert self.released.wait(WAIT_S)
        return super().append_outcomes(outcomes)


@pytest.fixture
def store(tmp_path: Path) -> HeldStore:
    store = HeldStore(tmp_path / "history.db")
    store.released.set()
    return store


@pytest.fixture
def outcomes(store: HeldStore) -> Iterator[OutcomeLog]:
    outcomes = OutcomeLog()
    outcomes.write_to(store)
    yield outcomes
    outcomes.close()


@pytest.fixture
def learned() -> list[Record]:
    return []


@pytest.fixture
def feedback(outcomes: OutcomeLog, learned: list[Record]) -> Feedback:
    scheduler = Scheduler((), HybridPredictor().fit([]), lambda call, core: pytest.fail("nothing is sent"))
    return Feedback(scheduler, outcomes, learned.append)


def finish(outcomes: OutcomeLog, call_id: str, agent: str = "agent") -> None:
    outcomes.record(lambda: CallOutcome(call_id=call_id, core="a", query="q", agent=agent))


def test_a_call_graded_over_and_over_is_refused_and_no_other(
    feedback: Feedback, outcomes: OutcomeLog, store: HeldStore, learned: list[Record]
) -> None:
    finish(outcomes, "a")
    finish(outcomes, "b")
    allowed = feedback_limit.OF_A_CALL.at_once
    for _ in range(allowed):
        feedback.give(0.0, call="a", grader="10.0.0.1")
    for _ in range(60 - allowed):
        with pytest.raises(FeedbackLimitError, match="call: 'a'"):
            feedback.give(0.0, call="a", grader="10.0.0.1")
    assert store.mark().feedback == len(learned) == allowed  # what is refused is neither written nor learned
    assert feedback.limit.status() == {"refused": {"call": 60 - allowed, "agent": 0, "address": 0}}
    feedback.give(1.0, call="b", grader="10.0.0.1")


def test_an_address_that_guesses_ids_is_refused(feedback: Feedback, outcomes: OutcomeLog) -> None:
    feedback.limit = FeedbackLimit(of_a_grader=Allowance(5, 0.001))
    for number in range(5):
        with pytest.raises(UnknownCallError):
            feedback.give(0.0, call=f"guess-{number}", grader="10.0.0.1")
    with pytest.raises(FeedbackLimitError, match=r"address: '10\.0\.0\.1'"):
        feedback.give(0.0, call="guess-5", grader="10.0.0.1")
    finish(outcomes, "a")
    feedback.give(0.0, call="a", grader="10.0.0.2")


def test_an_agent_is_limited_whoever_grades_its_calls(feedback: Feedback, outcomes: OutcomeLog) -> None:
    feedback.limit = FeedbackLimit(of_a_grader=Allowance(5, 0.001))
    for number in range(6):
        finish(outcomes, f"call-{number}", "loud")
    finish(outcomes, "other", "quiet")
    for number in range(5):
        feedback.give(0.0, call=f"call-{number}", grader=f"10.0.0.{number}")
    with pytest.raises(FeedbackLimitError, match="agent: 'loud'"):
        feedback.give(0.0, call="call-5", grader="10.0.0.9")
    feedback.give(0.0, call="other", grader="10.0.0.9")


def test_within_the_process_nothing_is_limited(
    feedback: Feedback, outcomes: OutcomeLog, store: HeldStore
) -> None:
    finish(outcomes, "a")
    for _ in range(50):
        feedback.give(0.5, call="a")
    assert store.mark().feedback == 50


def test_a_grade_waits_until_the_outcome_it_is_about_is_stored(
    feedback: Feedback, outcomes: OutcomeLog, store: HeldStore, learned: list[Record]
) -> None:
    store.released.clear()
    finish(outcomes, "a")
    assert store.reached.wait(WAIT_S)
    grader = threading.Thread(target=feedback.give, args=(0.5,), kwargs={"call": "a"}, name="grader")
    grader.start()
    store.released.set()
    grader.join(WAIT_S)
    (record,) = store.records()
    assert record.outputs[0].quality == 0.5
    assert learned == [record]


def stage(core: str, call_id: str, passes: bool = True, key: str | None = None) -> CallOutcome:
    return CallOutcome(call_id=call_id, core=core, query="q", answer_passes=passes, answer_key=key)


@pytest.mark.parametrize(
    ("given_key", "other", "quality", "inferred"),
    [
        ("1" * 16, stage("b", "call/1", key="1" * 16), 0.25, 0.25),
        ("1" * 16, stage("b", "call/1", key="2" * 16), 1.0, 0.0),
        ("1" * 16, stage("b", "call/1", key="2" * 16), 0.0, None),
        ("1" * 16, stage("b", "call/1", passes=False), 0.0, 0.0),
        (None, stage("b", "call/1"), 1.0, None),
    ],
)
def test_a_grade_tells_of_the_answers_that_were_not_given(
    feedback: Feedback,
    outcomes: OutcomeLog,
    store: HeldStore,
    learned: list[Record],
    given_key: str | None,
    other: CallOutcome,
    quality: float,
    inferred: float | None,
) -> None:
    outcomes.record(lambda: other, stage_of="call")
    outcomes.record(lambda: stage("a", "call", key=given_key))
    feedback.give(quality, call="call")
    grades = {outcome.core: outcome.quality for outcome in store.outcomes()}
    assert grades == {"a": quality, "b": inferred}
    taught = {record.outputs[0].model_name: record.outputs[0].quality for record in learned}
    assert taught == {"a": quality, **({} if inferred is None else {"b": inferred})}


def test_a_core_that_sees_only_what_others_could_not_answer_is_not_judged_by_that(
    feedback: Feedback, outcomes: OutcomeLog, store: HeldStore, learned: list[Record]
) -> None:
    outcomes.record(lambda: stage("cheap", "call/1", passes=False), stage_of="call")
    given = stage("dear", "call", key="1" * 16).model_copy(update={"selected": True})
    outcomes.record(lambda: given)
    feedback.give(0.0, call="call")
    assert [record.outputs[0].model_name for record in learned] == ["cheap"]
    assert {outcome.core: outcome.quality for outcome in store.outcomes()} == {"dear": 0.0, "cheap": 0.0}
