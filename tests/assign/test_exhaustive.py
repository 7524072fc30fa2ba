"""A few calls are placed as the solver would place them, and what is called out of reach is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.assign import WAITS, AssignmentProblem, choose_cores, solve, solve_if_reachable


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from([2, 5, 10**6]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.01, 0.2]),
)
def test_a_few_calls_go_where_the_optimum_sends_them(
    seed: int, calls: int, cores: int, levels: int, price: float, slack: float
) -> None:
    rng = np.random.default_rng(seed)
    shape = (calls, cores)
    problem = AssignmentProblem(
        cost=rng.integers(0, levels, shape) / levels,
        quality=rng.integers(0, levels + 1, shape) / levels,
        quota=rng.integers(0, 3, cores),
        target=float(rng.integers(0, 11)) / 10,
        allowed=rng.random(shape) < 0.8,
        target_deficit=float(rng.integers(-1, 2)) / 10,
        seconds=rng.integers(1, 4, cores).astype(float),
        price_per_second=price,
        reach_slack=slack,
    )
    assert problem.allowed is not None
    assert problem.seconds is not None
    required = calls * problem.target + problem.target_deficit
    chosen = choose_cores(
        problem.cost,
        problem.quality,
        problem.allowed,
        problem.quota,
        required,
        problem.seconds,
        price,
        slack,
    )
    found = solve(problem)
    if chosen is None:
        assert (found.core == WAITS).any()
        return
    columns, met = np.array(chosen[0]), chosen[1]
    rows = np.arange(calls)
    assert problem.allowed[rows, columns].all()
    assert (np.bincount(columns, minlength=cores) <= problem.quota).all()
    assert met == found.met
    quality, cost = problem.quality[rows, columns], problem.cost[rows, columns]
    most = solve(replace(problem, target=1.0, target_deficit=float(calls), reach_slack=0.0)).quality
    assert quality.sum() >= min(required, (most - slack) * calls) - 1e-8
    assert cost.sum() + price * problem.seconds[columns].sum() <= found.objective * (1 + 1e-5) + 1e-5


def test_an_unreachable_target_does_not_buy_the_last_hundredths() -> None:
    cost, quality = np.array([[1.0, 20.0, 2.0]]), np.array([[0.7, 0.9, 0.895]])
    problem = AssignmentProblem(cost, quality, [1, 1, 1], target=0.95)
    assert solve(problem).core.tolist() == [2]
    assert not solve(problem).met
    assert solve(replace(problem, reach_slack=0.0)).core.tolist() == [1]
    allowed, quota = np.ones((1, 3), dtype=bool), np.ones(3, dtype=np.int64)
    assert choose_cores(cost, quality, allowed, quota, 0.95, np.ones(3)) == ([2], False)


def test_of_cores_that_cost_the_same_the_sooner_is_chosen() -> None:
    cost, quality = np.array([[1.0, 1.0, 2.0]]), np.array([[0.9, 0.8, 0.9]])
    allowed, quota = np.ones((1, 3), dtype=bool), np.ones(3, dtype=np.int64)
    assert choose_cores(cost, quality, allowed, quota, 0.7, np.array([2.0, 1.0, 0.5])) == ([1], True)
    assert choose_cores(cost, quality, allowed, quota, 0.95, np.array([2.0, 1.0, 0.5])) == ([0], False)


def test_more_than_a_few_calls_are_left_to_the_solver() -> None:
    shape = (9, 4)
    assert (
        choose_cores(np.ones(shape), np.ones(shape), np.ones(shape, bool), np.full(4, 9), 0, np.ones(4))
        is None
    )


@pytest.mark.parametrize("calls", range(1, 101))
@pytest.mark.parametrize("cores", [1, 2, 40, 5000])
def test_neither_many_calls_nor_many_cores_are_too_many(cores: int, calls: int) -> None:
    shape = (calls, cores)
    found = choose_cores(
        np.ones(shape), np.ones(shape), np.ones(shape, bool), np.full(cores, calls), 0, np.ones(cores)
    )
    if found is not None:
        assert len(found[0]) == calls
        assert found[1]


def test_one_core_places_a_few_calls_within_its_quota() -> None:
    one = np.ones((3, 1))
    assert choose_cores(one, one, one > 0, np.array([3]), 0, np.ones(1)) == ([0, 0, 0], True)
    assert choose_cores(one, one, one > 0, np.array([2]), 0, np.ones(1)) is None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 5))
def test_a_target_is_given_up_only_where_it_is_out_of_reach(seed: int, calls: int, cores: int) -> None:
    rng = np.random.default_rng(seed)
    problem = AssignmentProblem(
        cost=rng.random((calls, cores)),
        quality=rng.random((calls, cores)),
        quota=rng.integers(0, calls + 1, cores),
        target=float(rng.random()),
        allowed=rng.random((calls, cores)) < 0.8,
    )
    whole, reachable = solve(problem), solve_if_reachable(problem)
    if reachable is None:
        assert not whole.met
    else:
        assert reachable.core.tolist() == whole.core.tolist()
        assert (reachable.cost, reachable.lower_bound) == (whole.cost, whole.lower_bound)


def test_a_target_beyond_the_room_at_the_good_core_is_seen_to_be_out_of_reach() -> None:
    quality = np.tile([0.9, 0.5], (10, 1))
    cost = np.tile([2.0, 1.0], (10, 1))
    assert solve_if_reachable(AssignmentProblem(cost, quality, np.array([4, 10]), 0.67)) is None
    assert solve_if_reachable(AssignmentProblem(cost, quality, np.array([4, 10]), 0.66)) is not None
