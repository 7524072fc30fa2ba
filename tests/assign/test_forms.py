"""The other shapes of the problem: budget, floors, a deficit carried over, seconds, ties, dual prices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix, identity, kron

from eccos_aios.assign import AssignmentProblem, solve


def random_problem(seed: int, calls: int = 8, cores: int = 3, **fields: Any) -> AssignmentProblem:
    rng = np.random.default_rng(seed)
    given_fields = {
        "cost": rng.random((calls, cores)),
        "quality": rng.random((calls, cores)),
        "quota": np.full(cores, calls // 2),
        "target": 0.0,
    }
    return AssignmentProblem(**{**given_fields, **fields})


def best_quality(problem: AssignmentProblem, budget: float) -> float | None:
    """The exact optimum under a budget, by MILP; None where not even the cheapest holds it."""
    calls, cores = problem.cost.shape
    result = milp(
        -problem.quality.ravel(),
        integrality=np.ones(calls * cores),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(kron(identity(calls), np.ones((1, cores))), 1, 1),
            LinearConstraint(kron(np.ones((1, calls)), identity(cores)), -np.inf, problem.quota),
            LinearConstraint(csr_matrix(problem.cost.ravel()), -np.inf, budget),
        ],
    )
    return None if result.x is None else -float(result.fun) / calls


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 6.0))
def test_a_budget_buys_the_best_quality_it_can(seed: int, budget: float) -> None:
    problem = random_problem(seed, budget=budget)
    assignment = solve(problem)
    assert (np.bincount(assignment.core, minlength=3) <= problem.quota).all()
    best = best_quality(problem, budget)
    if best is None:
        cheapest = solve(random_problem(seed))
        assert not assignment.met
        assert assignment.cost == pytest.approx(cheapest.cost)
        return
    assert assignment.met
    assert assignment.cost <= budget * (1 + 1e-9)
    assert assignment.quality <= best + 1e-9 <= assignment.quality_bound + 1e-6
    one_call = 1 / len(problem.cost)
    assert assignment.quality >= best - (assignment.quality_bound - best) - one_call


def test_a_credit_from_past_rounds_lets_a_small_round_take_the_cheap_core() -> None:
    problem = AssignmentProblem([[0.1, 1.0]], [[0.5, 0.9]], [1, 1], target=0.8)
    assert solve(problem).core.tolist() == [1]
    assert solve(replace(problem, target_deficit=-0.3)).core.tolist() == [0]


def test_a_deficit_from_past_rounds_asks_for_more_than_the_target() -> None:
    problem = AssignmentProblem([[0.1, 1.0]] * 2, [[0.8, 0.9]] * 2, [2, 2], target=0.8)
    assert solve(problem).core.tolist() == [0, 0]
    behind = solve(replace(problem, target_deficit=0.1))
    assert sorted(behind.core.tolist()) == [0, 1]
    assert behind.met
    assert not solve(replace(problem, target_deficit=0.3)).met


@pytest.mark.parametrize("seconds", [[3.0, 1.0, 2.0], [[3.0, 1.0, 2.0]] * 4])
def test_between_cores_that_are_free_of_charge_the_faster_is_taken(seconds: Any) -> None:
    problem = AssignmentProblem(
        np.zeros((4, 3)), np.full((4, 3), 0.9), [4, 2, 4], target=0.5, seconds=seconds
    )
    assignment = solve(problem)
    assert np.bincount(assignment.core, minlength=3).tolist() == [0, 2, 2]
    assert assignment.seconds == pytest.approx(6.0)
    assert assignment.cost == assignment.objective == 0.0
    assert assignment.gap == 0.0
    assert assignment.lower_bound == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_breaking_ties_by_seconds_costs_next_to_nothing(seed: int) -> None:
    seconds = np.random.default_rng(seed).random((8, 3))
    plain, tied = (
        solve(random_problem(seed, target=0.6)),
        solve(random_problem(seed, target=0.6, seconds=seconds)),
    )
    assert tied.lower_bound <= plain.lower_bound + 1e-12
    assert tied.met == plain.met
    assert tied.cost == pytest.approx(plain.cost, rel=1e-4)


def test_seconds_decide_only_between_cores_of_one_price() -> None:
    problem = AssignmentProblem([[1e-6, 2e-6]], [[0.9, 0.9]], [1, 1], target=0.5, seconds=[1000.0, 0.001])
    assert solve(problem).core.tolist() == [0]


def test_a_price_per_second_trades_dollars_for_seconds() -> None:
    problem = AssignmentProblem([[0.01, 0.02]], [[0.9, 0.9]], [1, 1], target=0.5, seconds=[10.0, 1.0])
    assert solve(replace(problem, price_per_second=0.001)).core.tolist() == [0]
    hasty = solve(replace(problem, price_per_second=0.002))
    assert hasty.core.tolist() == [1]
    assert hasty.cost == pytest.approx(0.02)
    assert hasty.objective == pytest.approx(0.022)


def test_a_slot_price_is_what_one_more_slot_saves() -> None:
    problem = random_problem(5, calls=40, cores=3, quota=[10, 12, 40])
    before = solve(problem)
    for core in range(3):
        more = np.array(problem.quota)
        more[core] += 1
        saved = before.cost - solve(replace(problem, quota=more)).cost
        assert before.dual_prices.slot[core] == pytest.approx(saved, abs=1e-9)
    assert before.dual_prices.slot[2] == 0.0
    assert before.dual_prices.quality == 0.0


def test_the_price_of_quality_is_what_a_little_more_of_it_costs() -> None:
    problem = random_problem(11, calls=60, cores=4, quota=[60] * 4, target=0.7)
    more = solve(replace(problem, target=0.72))
    less = solve(problem)
    slope = (more.lower_bound - less.lower_bound) / (0.02 * 60)
    assert less.dual_prices.quality <= slope * (1 + 1e-6)
    assert slope <= more.dual_prices.quality * (1 + 1e-6)


def test_cores_that_are_the_same_share_the_calls_within_their_quotas() -> None:
    rng = np.random.default_rng(1)
    cost, quality = rng.random((30, 2)), rng.random((30, 2))
    problem = AssignmentProblem(cost[:, [0, 0, 1]], quality[:, [0, 0, 1]], [5, 6, 30], target=0.5)
    assignment = solve(problem)
    assert (np.bincount(assignment.core, minlength=3) <= problem.quota).all()
    together = solve(AssignmentProblem(cost, quality, [11, 30], target=0.5))
    assert assignment.cost == pytest.approx(together.cost)


@pytest.mark.parametrize("target", [0.0, 0.4, 0.8])
def test_one_call_and_one_core(target: float) -> None:
    assignment = solve(AssignmentProblem([[0.3]], [[0.5]], [1], target=target))
    assert assignment.core.tolist() == [0]
    assert assignment.met is (target <= 0.5)
