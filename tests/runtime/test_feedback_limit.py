"""What one agent or address may grade, and how often one call may be graded, is limited and counted."""

from __future__ import annotations

import pytest

from eccos_aios.errors import EccosError, FeedbackLimitError
from eccos_aios.runtime import feedback_limit
from eccos_aios.runtime.feedback_limit import Allowance, FeedbackLimit


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
