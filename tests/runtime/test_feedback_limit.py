"""What one agent or address may grade, and how often one call may be graded, is limited and counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eccos_aios.errors import EccosError, FeedbackLimitError, UnknownCallError
from eccos_aios.history import CallOutcome, HistoryStore
from eccos_aios.predict import HybridPredictor
from eccos_aios.runtime import feedback_limit
from eccos_aios.runtime.feedback import give_quality
from eccos_aios.runtime.feedback_limit import Allowance, FeedbackLimit
from eccos_aios.runtime.outcome_log import OutcomeLog
from eccos_aios.schedule import Scheduler


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> FeedbackLimit:
    return FeedbackLimit(Allowance(3, 0.5), Allowance(10, 2.0), clock)


def taken(limit: FeedbackLimit, kind: feedback_limit.Kind, name: str, times: int) -> int:
    accepted = 0
    for _ in range(times):
        try:
            limit.take(kind, name)
        except FeedbackLimitError:
            continue
        accepted += 1
    return accepted


def test_a_call_may_be_graded_a_few_times_and_then_now_and_then(limit: FeedbackLimit, clock: Clock) -> None:
    assert taken(limit, "call", "a", 60) == 3
    assert taken(limit, "call", "b", 3) == 3
    clock.now_s += 4.0
    assert taken(limit, "call", "a", 60) == 2
    clock.now_s += 1e6
    assert taken(limit, "call", "a", 60) == 3


def test_who_is_refused_hears_when_to_come_again(limit: FeedbackLimit, clock: Clock) -> None:
    taken(limit, "call", "a", 3)
    with pytest.raises(
        FeedbackLimitError, match=r"call: 'a': too many grades; allowed are 3 at once"
    ) as refusal:
        limit.take("call", "a")
    assert isinstance(refusal.value, EccosError)
    assert refusal.value.retry_after_s == pytest.approx(2.0)
    clock.now_s += refusal.value.retry_after_s
    limit.take("call", "a")


def test_agents_and_addresses_of_one_name_are_two(limit: FeedbackLimit) -> None:
    assert taken(limit, "agent", "x", 20) == taken(limit, "address", "x", 20) == 10
    assert limit.status() == {"refused": {"call": 0, "agent": 10, "address": 10}}


def test_no_name_makes_it_grow(limit: FeedbackLimit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_limit, "REMEMBERED", 100)
    for number in range(500):
        limit.take("call", str(number) * 1000)
    assert len(limit._buckets["call"]._left) == 100
    assert taken(limit, "call", "499" * 1000, 9) == 2


def test_one_service_may_grade_all_that_a_busy_kernel_answers(clock: Clock) -> None:
    limit = FeedbackLimit(clock=clock)
    for number in range(60_000):  # ten minutes at a hundred calls a second
        clock.now_s += 0.01
        limit.take("address", "127.0.0.1")
        limit.take("agent", "the-only-agent")
        limit.take("call", str(number))
    assert limit.status() == {"refused": {"call": 0, "agent": 0, "address": 0}}


@pytest.fixture
def history(tmp_path: Path) -> Iterator[OutcomeLog]:
    history = OutcomeLog()
    history.write_to(HistoryStore(tmp_path / "history.db"))
    yield history
    history.close()


@pytest.fixture
def clockwork() -> Scheduler:
    return Scheduler((), HybridPredictor().fit([]), lambda call, core: pytest.fail("nothing is sent"))


def finished(history: OutcomeLog, call_id: str, agent: str = "agent") -> None:
    history.record(lambda: CallOutcome(call_id=call_id, core="a", query="q", agent=agent))


def graded(history: OutcomeLog) -> int:
    """How many grades are on disk."""
    assert history._store is not None
    return history._store.mark().feedback


def test_a_call_that_is_graded_over_and_over_is_refused_and_no_other(
    history: OutcomeLog, clockwork: Scheduler
) -> None:
    finished(history, "a")
    finished(history, "b")
    refused = 60 - feedback_limit.OF_A_CALL.at_once
    for _ in range(feedback_limit.OF_A_CALL.at_once):
        give_quality(clockwork, history, 0.0, call="a", grader="10.0.0.1")
    for _ in range(refused):
        with pytest.raises(FeedbackLimitError, match="call: 'a'"):
            give_quality(clockwork, history, 0.0, call="a", grader="10.0.0.1")
    assert graded(history) == feedback_limit.OF_A_CALL.at_once  # what is refused is not written either
    assert history.feedback_limit.status() == {"refused": {"call": refused, "agent": 0, "address": 0}}
    give_quality(clockwork, history, 1.0, call="b", grader="10.0.0.1")


def test_an_address_that_guesses_ids_is_refused(history: OutcomeLog, clockwork: Scheduler) -> None:
    history.feedback_limit = FeedbackLimit(of_a_grader=Allowance(5, 0.001))
    for number in range(5):
        with pytest.raises(UnknownCallError):
            give_quality(clockwork, history, 0.0, call=f"guess-{number}", grader="10.0.0.1")
    with pytest.raises(FeedbackLimitError, match=r"address: '10\.0\.0\.1'"):
        give_quality(clockwork, history, 0.0, call="guess-5", grader="10.0.0.1")
    finished(history, "a")
    give_quality(clockwork, history, 0.0, call="a", grader="10.0.0.2")


def test_an_agent_is_limited_whoever_grades_its_calls(history: OutcomeLog, clockwork: Scheduler) -> None:
    history.feedback_limit = FeedbackLimit(of_a_grader=Allowance(5, 0.001))
    for number in range(6):
        finished(history, f"call-{number}", "loud")
    finished(history, "other", "quiet")
    for number in range(5):
        give_quality(clockwork, history, 0.0, call=f"call-{number}", grader=f"10.0.0.{number}")
    with pytest.raises(FeedbackLimitError, match="agent: 'loud'"):
        give_quality(clockwork, history, 0.0, call="call-5", grader="10.0.0.9")
    give_quality(clockwork, history, 0.0, call="other", grader="10.0.0.9")


def test_within_the_process_nothing_is_limited(history: OutcomeLog, clockwork: Scheduler) -> None:
    finished(history, "a")
    for _ in range(50):
        give_quality(clockwork, history, 0.5, call="a")
    assert graded(history) == 50
