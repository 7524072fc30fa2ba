"""What a round plans: the optimum over what the cores can take, and of equal cores the free one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.assign import WAITS, AssignmentProblem, solve
from eccos_aios.predict import CallText
from eccos_aios.schedule import Call, Requirements
from eccos_aios.schedule.call import EstimateRow
from eccos_aios.schedule.capacity import Capacity, Target, Waiting
from eccos_aios.schedule.plan import plan_round
from eccos_aios.schedule.round_batch import RoundBatch, planned_columns


def waiting_calls(cost: np.ndarray, quality: np.ndarray) -> list[Call]:
    calls = []
    for dollars, good in zip(cost, quality, strict=True):
        call = Call(CallText("a question", 10), Requirements(10), None, lambda *_: None, arrived_s=0.0)
        call.row = EstimateRow(None, good, dollars, np.ones(len(good), dtype=bool), np.zeros(len(good)))
        calls.append(call)
    return calls


def capacity(free: list[int], soon: list[int], later: list[int] | None = None) -> Capacity:
    return Capacity(np.array(free), np.array(soon), np.array(later or soon), np.ones(len(free)))


@pytest.mark.parametrize("calls", [1, 2, 7, 60, 300])
@pytest.mark.parametrize("target", [0.5, 0.7, 0.99])
def test_a_plan_costs_what_the_optimum_does_and_reaches_as_much(calls: int, target: float) -> None:
    rng = np.random.default_rng(calls)
    quality = np.clip(rng.random((calls, 1)) * 0.5 + np.linspace(0.1, 0.5, 5), 0, 1)
    cost = np.linspace(1, 9, 5) ** 2 * rng.lognormal(0, 0.3, (calls, 1))
    quota = np.full(5, max(1, calls // 8))
    front = RoundBatch(waiting_calls(cost, quality), Target(target, lambda _: 0.0))
    columns, fell_back = planned_columns(front, capacity(quota.tolist(), quota.tolist()))
    exact = solve(
        AssignmentProblem(cost, quality, 2 * quota, target, weight=np.arange(calls, 0, -1, dtype=float))
    )
    placed = np.flatnonzero(np.array(columns) != WAITS)
    assert not fell_back
    assert len(placed) == (exact.core != WAITS).sum()
    chosen = np.array(columns)[placed]
    assert (np.bincount(chosen, minlength=5) <= 2 * quota).all()
    assert quality[placed, chosen].mean() >= min(target, exact.quality) - 1e-6
    if exact.met:
        assert cost[placed, chosen].sum() <= exact.cost * 1.002 + 1e-9


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    cores=st.integers(1, 40) | st.just(1),
    calls=st.integers(1, 100),
    slots=st.sampled_from([1, 4, 1000]),
    levels=st.sampled_from([1, 3, 10**6]),
    price=st.sampled_from([0.0, 0.3]),
)
def test_any_number_of_calls_over_any_number_of_cores_is_planned_within_the_quotas(
    seed: int, cores: int, calls: int, slots: int, levels: int, price: float
) -> None:
    rng = np.random.default_rng(seed)
    quality, cost = (rng.integers(0, levels + 1, (calls, cores)) / levels for _ in range(2))
    waiting = waiting_calls(cost, quality)
    free, soon = (rng.integers(0, slots + 1, cores) for _ in range(2))
    front = RoundBatch(waiting, Target(float(rng.random()), lambda _: 0.0, price))
    columns, fell_back = planned_columns(front, capacity(free.tolist(), soon.tolist()))
    placed = [column for column in columns if column != WAITS]
    assert not fell_back
    assert len(placed) == min(calls, (free + soon).sum())
    assert (np.bincount(placed, minlength=cores) <= free + soon).all()


@pytest.mark.parametrize("calls", [32, 64, 90, 5000])
@pytest.mark.parametrize("slots", [4, 64, 10_000])
def test_one_core_takes_as_many_calls_as_it_has_slots(calls: int, slots: int) -> None:
    front = RoundBatch(
        waiting_calls(np.ones((calls, 1)), np.full((calls, 1), 0.7)), Target(0.5, lambda _: 0.0)
    )
    columns, fell_back = planned_columns(front, capacity([slots], [0]))
    assert (columns.count(0), fell_back) == (min(calls, slots), False)


def test_calls_do_not_wait_for_a_core_while_one_as_cheap_and_as_good_is_idle() -> None:
    calls = waiting_calls(np.ones((6, 3)), np.tile([0.9, 0.9, 0.4], (6, 1)))
    plan = plan_round(
        calls, capacity([2, 4, 4], [4, 4, 4]), Target(0.8, lambda _: 0.0), 0.0, Waiting(1.0, 10.0)
    )
    assert sorted(placement.column for placement in plan.placements) == [0, 0, 1, 1, 1, 1]


def test_who_is_first_in_line_gets_the_slot_that_is_free() -> None:
    calls = waiting_calls(np.tile([1.0, 50.0], (3, 1)), np.full((3, 2), 0.9))
    plan = plan_round(calls, capacity([1, 2], [3, 3]), Target(0.8, lambda _: 0.0), 0.0, Waiting(1.0, 10.0))
    assert [(placement.call, placement.column) for placement in plan.placements] == [(calls[0], 0)]
    assert plan.waiting_for == {calls[1]: 0, calls[2]: 0}


def test_where_the_target_is_out_of_reach_for_now_calls_wait_for_what_is_good() -> None:
    calls = waiting_calls(np.tile([1.0, 9.0], (4, 1)), np.tile([0.4, 0.9], (4, 1)))
    given = Target(0.85, lambda _: 0.0), 0.0, Waiting(1.0, 10.0)
    now = plan_round(calls, capacity([4, 1], [4, 0]), *given)
    assert len(now.placements) == 4
    later = plan_round(calls, capacity([4, 1], [4, 0], [40, 10]), *given)
    assert [placement.column for placement in later.placements] == [1]
    assert set(later.waiting_for.values()) == {1}
