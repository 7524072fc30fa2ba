"""Exploring: bounded, towards cores that little is known of, never where a call may not go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from eccos_aios.plans import AnswerPlan
from eccos_aios.predict import CallText
from eccos_aios.reasons import EXPLORED
from eccos_aios.requirements import Requirements
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, Target
from eccos_aios.schedule.explore import EXPLORED_PER_FIT, Exploration, PlanExploration
from eccos_aios.schedule.plan import Plan
from eccos_aios.schedule.round_batch import RoundBatch
from eccos_aios.verify import Question

QUALITY = np.array([0.7, 0.5, 0.5])
COST = np.array([2.0, 1.0, 1.0])
ALL = np.ones(3, dtype=np.bool_)


def explored(
    share: float, support: list[float], allowed: np.ndarray = ALL, target: float = 0.6
) -> Counter[int | None]:
    exploration = Exploration(share, seed=0)
    return Counter(exploration.choose(QUALITY, COST, np.array(support), allowed, target) for _ in range(2000))


def test_no_more_than_the_share_explores() -> None:
    assert explored(0.0, [0, 0, 0]) == {None: 2000}
    assert explored(0.1, [0, 0, 0])[None] == pytest.approx(1800, abs=60)


def test_what_is_unknown_is_tried_and_what_is_known_to_fall_short_is_not() -> None:
    chosen = explored(1.0, [1000, 0, 1000])
    assert chosen[1] > 500
    assert chosen[2] < 100
    assert chosen[0] == 2000 - chosen[1] - chosen[2]


def test_a_call_never_explores_a_core_that_may_not_take_it() -> None:
    assert set(explored(1.0, [0, 0, 0], np.array([True, False, True]))) == {0, 2}
    assert explored(1.0, [0, 0, 0], ~ALL) == {None: 2000}


def test_a_round_explores_within_the_slots_that_are_free_and_says_so() -> None:
    calls = []
    for _ in range(12):
        call = Call(CallText("", 1.0), Requirements(1.0), None, lambda call, result: None)
        call.row = EstimateRow(None, QUALITY, COST, ALL, np.array([1000.0, 0.0, 0.0]))
        calls.append(call)
    free = np.array([12, 2, 1])
    batch = RoundBatch.of(
        calls, Capacity(free, free, free, np.ones(3), np.ones(3)), Target(0.6, lambda _: 0.0)
    )
    plan = Plan(np.zeros(12, dtype=np.int64))
    explored = Exploration(1.0, seed=0)(batch, plan)
    assert all(explored.is_sent(free))
    assert explored.load(3).tolist() == [9, 2, 1]
    assert set(explored.reasons) == set(np.flatnonzero(explored.columns))
    assert set(explored.reasons.values()) == {EXPLORED}
    assert Exploration(0.0)(batch, plan) is plan


def test_a_call_that_waits_does_not_explore() -> None:
    call = Call(CallText("", 1.0), Requirements(1.0), None, lambda call, result: None)
    call.row = EstimateRow(None, QUALITY, COST, ALL, np.zeros(3))
    free = np.array([0, 1, 1])
    batch = RoundBatch.of(
        [call], Capacity(free, free, free, np.ones(3), np.ones(3)), Target(0.6, lambda _: 0.0)
    )
    plan = Plan(np.array([0]))
    assert Exploration(1.0, seed=0)(batch, plan).columns.tolist() == [0]


AGREE = AnswerPlan.agree("b", "c", "a")
CHECK = AnswerPlan.check("c", "a")
QUESTION = Question("?")


def checkable(count: int, *, allowed: np.ndarray = ALL, question: Question | None = QUESTION) -> list[Call]:
    calls = []
    for _ in range(count):
        call = Call(CallText("", 1.0), Requirements(1.0), None, lambda call, result: None, question=question)
        call.row = EstimateRow(None, QUALITY, COST, allowed, np.zeros(3))
        calls.append(call)
    return calls


def following(
    exploration: PlanExploration,
    calls: list[Call],
    *plans: AnswerPlan,
    free: tuple[int, int, int] = (99, 99, 99),
    spare: float = 1000.0,
    untried: tuple[AnswerPlan, ...] | None = None,
) -> Plan:
    """The plan of a round that would send every call to the first core."""
    slots = np.array(free)
    batch = RoundBatch.of(
        calls,
        Capacity(slots, slots, slots, np.ones(3), np.ones(3)),
        Target(0.6, lambda _: 0.0),
        names=("a", "b", "c"),
        spare_calls=spare,
    )
    batch = replace(batch, untried=plans if untried is None else untried)
    return exploration(batch, Plan(np.zeros(len(calls), dtype=np.int64)))


def test_one_call_in_so_many_follows_a_plan_of_which_too_little_is_known() -> None:
    plan = following(PlanExploration(0.1), checkable(50), AGREE)
    assert len(plan.staged) == 5
    for row, staged in plan.staged.items():
        assert (staged, plan.columns[row], plan.reasons[row]) == (AGREE, 1, EXPLORED)
    assert following(PlanExploration(0.0), checkable(50), AGREE).staged == {}
    assert following(PlanExploration(0.5), checkable(50)).staged == {}


@pytest.mark.parametrize(
    ("calls", "free", "spare"),
    [
        (checkable(9, question=None), (99, 99, 99), 99.0),  # nothing can check its answers
        (checkable(9, allowed=np.array([True, True, False])), (99, 99, 99), 99.0),  # `c` may not take it
        (checkable(9), (99, 0, 99), 99.0),  # no slot at the plan's first core
        (checkable(9), (99, 99, 99), 1.0),  # more attempts than are to spare
    ],
)
def test_no_call_follows_a_plan_that_it_may_not_or_cannot(
    calls: list[Call], free: tuple[int, int, int], spare: float
) -> None:
    assert following(PlanExploration(0.5), calls, AGREE, free=free, spare=spare).staged == {}


def test_plans_take_turns_and_without_a_new_fit_exploration_ends() -> None:
    exploration, untried = PlanExploration(0.5), (AGREE, CHECK)
    calls = checkable(90)
    plans = [following(exploration, calls, untried=untried) for _ in range(20)]
    explored = Counter(staged for plan in plans for staged in plan.staged.values())
    assert explored == {AGREE: EXPLORED_PER_FIT, CHECK: EXPLORED_PER_FIT}
    assert following(exploration, calls, AGREE).staged  # another fit has left it open


def test_a_core_that_is_gone_ends_the_exploration_of_its_plans() -> None:
    assert following(PlanExploration(0.5), checkable(9), AnswerPlan.check("gone", "a")).staged == {}
