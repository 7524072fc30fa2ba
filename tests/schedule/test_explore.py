"""Exploring: bounded, towards cores that little is known of, never where a call may not go."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from eccos_aios.predict import CallText
from eccos_aios.reasons import EXPLORED
from eccos_aios.requirements import Requirements
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, Target
from eccos_aios.schedule.explore import Exploration
from eccos_aios.schedule.plan import Plan
from eccos_aios.schedule.round_batch import RoundBatch

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
