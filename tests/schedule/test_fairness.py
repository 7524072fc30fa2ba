"""Who goes first: fair shares, priorities, age; and the target that is held over time."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from fake_clock import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from test_scheduler import Answers, Backend, TableOfQualities, call

from eccos_aios.core import Core, Price
from eccos_aios.schedule import Call, ExecutionResult, Scheduler, SchedulerSettings
from eccos_aios.schedule.fair_queue import FairQueue
from eccos_aios.schedule.quality_debt import CREDIT_LIMIT, QualityDebt

ONE_SLOT = Core(name="only", quota=1)


def joined(line: FairQueue, agent: str, count: int, arrived_s: float = 0.0, priority: int = 0) -> list[Call]:
    calls = [call(lambda *_: None, agent=agent, arrived_s=arrived_s, priority=priority) for _ in range(count)]
    for each in calls:
        line.join(each)
    return calls


def test_one_agent_with_many_calls_does_not_delay_another_with_one() -> None:
    line = FairQueue()
    many = joined(line, "many", 500)
    for served in many[:100]:
        line.leave(served)
        line.served(served)
    one = joined(line, "one", 1)
    assert one[0] in line.front(2, now_s=1.0)


def test_shares_follow_the_weights() -> None:
    line = FairQueue({"heavy": 3.0})
    joined(line, "heavy", 40)
    joined(line, "light", 40)
    served = []
    for _ in range(40):
        (first,) = line.front(1, now_s=1.0)
        line.leave(first)
        line.served(first)
        served.append(first.agent)
    assert served.count("heavy") == pytest.approx(30, abs=1)


def test_a_higher_priority_goes_first_until_age_tells() -> None:
    line = FairQueue(max_age_s=10.0)
    old = joined(line, "a", 1, arrived_s=0.0)
    urgent = joined(line, "b", 1, arrived_s=5.0, priority=1)
    assert line.front(2, now_s=9.0) == [*urgent, *old]
    assert line.front(2, now_s=10.0) == [*old, *urgent]


@given(
    joining=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.floats(0, 100)), max_size=40),
    leaving=st.sets(st.integers(0, 39)),
    wanted=st.integers(1, 50),
)
def test_the_front_is_the_first_of_those_that_wait(
    joining: list[tuple[str, int, float]], leaving: set[int], wanted: int
) -> None:
    line, now_s = FairQueue({"a": 2.0}), 70.0
    calls = [joined(line, agent, 1, arrived_s, priority)[0] for agent, priority, arrived_s in joining]
    for position in leaving & set(range(len(calls))):
        line.leave(calls[position])
        if position % 2:
            line.rejoin(calls[position])
    waiting = [each for position, each in enumerate(calls) if position not in leaving or position % 2]
    aged = sorted((c for c in waiting if c.arrived_s <= now_s - line.max_age_s), key=lambda c: c.arrived_s)
    young = sorted(set(waiting) - set(aged), key=lambda c: (-c.priority, c.turn, c.arrived_s))
    front = line.front(wanted, now_s)
    assert len(line) == len(waiting)
    assert len(front) == min(wanted, len(waiting)) == len(set(front))
    assert [c.arrived_s for c in front[: len(aged)]] == [c.arrived_s for c in aged[:wanted]]
    assert [(c.priority, c.turn) for c in front[len(aged) :]] == [
        (c.priority, c.turn) for c in young[: max(0, wanted - len(aged))]
    ]


def test_what_cannot_be_served_is_passed_over_and_keeps_its_turn() -> None:
    line = FairQueue()
    blocked = joined(line, "a", 50)
    (free,) = joined(line, "b", 1, arrived_s=1.0, priority=-1)
    assert line.front(10, 2.0, lambda each: each is free) == [free]
    assert line.front(1, 2.0) == blocked[:1]


def test_the_scheduler_serves_agents_in_turn() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    scheduler = Scheduler(
        (ONE_SLOT,),
        TableOfQualities(),
        backend,
        SchedulerSettings(batch_window_s=0.0, grace_s=0.0),
        clock=FakeClock(),
    )
    scheduler.start()
    for _ in range(20):
        scheduler.submit(call(answers, payload="many", agent="many"))
    backend.wait_until_holding(1)
    scheduler.submit(call(answers, payload="one", agent="one"))
    backend.gate.set()
    answers.wait(21)
    scheduler.stop()
    assert [payload for _, payload in backend.served].index("one") <= 2


def test_affinity_keeps_a_conversation_at_its_core() -> None:
    cores = (
        Core(name="first", quota=4, price=Price(input=1, output=1)),
        Core(name="second", quota=4, price=Price(input=1.05, output=1.05)),
    )
    served: dict[str, list[str]] = {}
    for affinity in ("off", "prefer", "strict"):
        answers = Answers()
        settings = SchedulerSettings(affinity=affinity, quality_target=0.0, batch_window_s=0.0, grace_s=0.0)
        scheduler = Scheduler(
            cores, TableOfQualities(), lambda _, core: ExecutionResult(core), settings, clock=FakeClock()
        )
        scheduler.start()
        scheduler.submit(call(answers, conversation="talk", pinned="second"))
        answers.wait(1)
        scheduler.submit(call(answers, conversation="talk"))
        answers.wait(1)
        scheduler.stop()
        served[affinity] = [str(result.core) for _, result in answers.results]
    assert served == {
        "off": ["second", "first"],
        "prefer": ["second", "second"],
        "strict": ["second", "second"],
    }


def test_credit_lets_a_small_round_take_the_cheap_core() -> None:
    cores = (
        Core(name="cheap", quota=4, price=Price(input=1, output=1)),
        Core(name="dear", quota=4, price=Price(input=9, output=9)),
    )
    lock, taken = threading.Lock(), {"cheap": 0, "dear": 0}

    def count(_: Call, core: str) -> ExecutionResult:
        with lock:
            taken[core] += 1
        return ExecutionResult(core)

    answers = Answers()
    scheduler = Scheduler(
        cores,
        TableOfQualities(cheap=0.7, dear=0.9),
        count,
        SchedulerSettings(quality_target=0.8, batch_window_s=0.0, grace_s=0.0),
        clock=FakeClock(),
    )
    scheduler.start()
    for _ in range(60):
        scheduler.submit(call(answers))
        answers.wait(1)
    mean = scheduler.status()["totals"]["predicted_quality"]
    scheduler.stop()
    assert mean == pytest.approx(0.8, abs=0.06)
    assert taken["cheap"] == pytest.approx(30, abs=18)


@pytest.mark.parametrize("bias", [-0.05, 0.0, 0.05])
def test_a_biased_predictor_is_found_out_by_feedback(bias: float) -> None:
    """Two cores, single-call rounds: the mean delivered quality still ends at the target."""
    draw = random.Random(7)
    debt, target, delivered = QualityDebt(), 0.75, []
    for _ in range(2000):
        truth = np.array([draw.uniform(0.3, 0.7), draw.uniform(0.8, 1.0)])
        predicted = np.clip(truth + bias, 0, 1)
        column = 0 if predicted[0] >= target + debt.owed(1) else 1
        debt.sent(target, predicted[column])
        quality = float(draw.random() < truth[column])
        debt.delivered(predicted[column], quality)
        delivered.append(quality)
    assert np.mean(delivered) == pytest.approx(target, abs=0.01)


def test_the_debt_is_bounded_both_ways() -> None:
    debt = QualityDebt()
    for _ in range(1000):
        debt.sent(0.9, 0.1)
    assert debt.points == CREDIT_LIMIT
    for _ in range(1000):
        debt.sent(0.1, 0.9)
    assert debt.points == -CREDIT_LIMIT


def test_feedback_that_is_corrected_counts_once() -> None:
    corrected, told_right = QualityDebt(), QualityDebt()
    for debt, quality in ((corrected, 0.1), (told_right, 0.7)):
        debt.sent(0.8, 0.9)
        debt.delivered(0.9, quality)
    corrected.corrected(0.1, 0.7)
    assert corrected.points == pytest.approx(told_right.points)
    assert corrected.bias == pytest.approx(told_right.bias)


def test_a_correction_is_as_good_as_the_right_word_at_first_whatever_came_between() -> None:
    draw = random.Random(3)
    corrected, told_right = QualityDebt(), QualityDebt()
    calls = [(draw.random(), draw.random()) for _ in range(300)]
    for number, (predicted, quality) in enumerate(calls):
        for debt in (corrected, told_right):
            debt.sent(0.5, predicted)
        corrected.delivered(predicted, 0.0 if number < 60 else quality)
        told_right.delivered(predicted, quality)
    assert corrected.points != pytest.approx(told_right.points)
    for predicted, quality in calls[:60]:
        for opinion in (0.3, 0.0, quality):
            before = 0.0 if opinion != 0.0 else 0.3
            corrected.corrected(before, opinion, predicted)
    assert corrected.points == pytest.approx(told_right.points)
    assert corrected.bias == pytest.approx(told_right.bias)


def test_sixty_grades_of_one_call_are_one() -> None:
    once, sixty = QualityDebt(), QualityDebt()
    for debt in (once, sixty):
        debt.sent(0.8, 0.9)
        debt.delivered(0.9, 0.0)
    for number in range(60):
        sixty.corrected(float(number % 2), float((number + 1) % 2), 0.9)
    assert (sixty.points, sixty.bias) == (once.points, once.bias)


def test_what_is_no_number_leaves_the_debt_as_it_is() -> None:
    debt = QualityDebt()
    debt.sent(0.8, 0.7)
    for wrong in (float("nan"), float("inf"), float("-inf")):
        debt.sent(0.8, wrong)
        debt.delivered(0.9, wrong)
        debt.corrected(0.5, wrong)
    assert (debt.points, debt.bias) == (pytest.approx(0.1), 0.0)
