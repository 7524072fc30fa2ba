"""Columns that use several resources: limits, bound and verdict against the exact optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix, identity, kron

from eccos_aios.assign import WAITS, AssignmentProblem, solve
from eccos_aios.assign.resources import ResourceProblem, solve_resources


def plans(
    rng: np.random.Generator, calls: int, cores: int, columns: int, tightness: float
) -> ResourceProblem:
    """Calls over cores and over plans of two cores, the second of which is reached now and then."""
    first = rng.integers(0, cores, columns)
    second = (first + rng.integers(1, cores + 1, columns)) % cores
    use = np.zeros((calls, columns, cores))
    reached = rng.random((calls, columns)) * rng.integers(0, 2, columns)
    use[:, np.arange(columns), first] = 1.0
    use[:, np.arange(columns), second] += reached
    price = rng.random(cores) * 10
    limit = np.floor(rng.random(cores) * calls * tightness) + 1
    quality = np.clip(rng.random((calls, 1)) * 0.5 + rng.random((calls, columns)) * 0.5, 0, 1)
    return ResourceProblem(
        use @ price, quality, use, limit, float(rng.random()), rng.random((calls, columns)) < 0.9
    )


def exact(problem: ResourceProblem, rows: NDArray[np.int64], required: float) -> float | None:
    calls, columns = len(rows), problem.cost.shape[1]
    use = problem.use[rows].reshape(calls * columns, -1).T
    result = milp(
        problem.cost[rows].ravel(),
        integrality=np.ones(calls * columns),
        bounds=Bounds(0, problem.allowed[rows].ravel().astype(float)),
        constraints=[
            LinearConstraint(kron(identity(calls), np.ones((1, columns))), 1, 1),
            LinearConstraint(use, -np.inf, problem.limit),
            LinearConstraint(csr_matrix(problem.quality[rows].ravel()), required, np.inf),
        ],
        options={"mip_rel_gap": 0.0},
    )
    return None if result.x is None else float(result.fun)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(1, 4), st.integers(1, 6))
def test_limits_hold_and_the_cost_is_the_least(seed: int, calls: int, cores: int, columns: int) -> None:
    problem = plans(np.random.default_rng(seed), calls, cores, columns, 1.2)
    found = solve_resources(problem)
    rows = np.flatnonzero(found.core != WAITS)
    assert problem.allowed[rows, found.core[rows]].all()
    assert (problem.use[rows, found.core[rows]].sum(axis=0) <= problem.limit + 2e-6).all()
    if not rows.size:
        assert not found.met
        return
    least = exact(problem, rows, problem.target * len(rows))
    assert found.met == (least is not None)
    if least is not None:
        assert found.cost == pytest.approx(least, rel=1e-5, abs=1e-9)
        assert found.lower_bound <= least * (1 + 1e-7) + 1e-9
        assert found.quality >= problem.target - 1e-9
        return
    best = solve_resources(replace(problem, target=1.0, reach_slack=0.0)).quality
    assert found.quality >= best - problem.reach_slack - 1e-9
    near = exact(problem, rows, (best - problem.reach_slack) * len(rows))
    assert near is not None
    assert found.cost <= near * (1 + 1e-5) + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 4))
def test_cores_alone_are_the_plain_problem(seed: int, calls: int, cores: int) -> None:
    rng = np.random.default_rng(seed)
    quota = rng.integers(0, calls + 1, cores)
    cost, quality = rng.random((calls, cores)), rng.random((calls, cores))
    use = np.broadcast_to(np.eye(cores), (calls, cores, cores))
    plain = solve(AssignmentProblem(cost, quality, quota, 0.5))
    found = solve_resources(
        ResourceProblem(cost, quality, use, quota.astype(float), 0.5, np.ones((calls, cores), dtype=bool))
    )
    assert (found.core != WAITS).sum() == (plain.core != WAITS).sum()
    if quota.sum() >= calls:  # else other calls may wait
        assert found.met == plain.met
        if plain.met:
            assert found.cost <= plain.cost * (1 + 1e-6)


@pytest.mark.parametrize("calls", [200, 1500])
def test_a_large_batch_comes_close_to_the_bound(calls: int) -> None:
    problem = plans(np.random.default_rng(calls), calls, 6, 20, 0.6)
    problem = replace(problem, target=0.62)
    found = solve_resources(problem)
    rows = np.flatnonzero(found.core != WAITS)
    assert len(rows) == calls
    assert found.met
    assert (problem.use[rows, found.core].sum(axis=0) <= problem.limit + 2e-6).all()
    assert found.gap < (1e-2 if calls < 1000 else 2e-3)


def test_a_bound_on_the_mean_number_of_calls_is_a_resource() -> None:
    calls = np.tile([1.0, 1.4, 2.3], (50, 1))
    quality = np.tile([0.6, 0.7, 0.9], (50, 1))
    problem = ResourceProblem(
        calls * 0.01, quality, (calls - 1.5)[:, :, None], np.zeros(1), 1.0, np.ones((50, 3), dtype=bool)
    )
    found = solve_resources(replace(problem, reach_slack=0.0))
    assert calls[np.arange(50), found.core].mean() <= 1.5 + 1e-9
    assert not found.met
    assert found.quality == pytest.approx(0.72, abs=0.004)


def test_a_budget_buys_the_best_quality() -> None:
    cost, quality = np.tile([1.0, 10.0], (10, 1)), np.tile([0.6, 0.9], (10, 1))
    use = np.broadcast_to(np.eye(2), (10, 2, 2))
    problem = ResourceProblem(
        cost, quality, use, np.full(2, 10.0), 0.0, np.ones((10, 2), dtype=bool), budget=46.0
    )
    found = solve_resources(problem)
    assert (found.met, found.core.sum()) == (True, 4)
    assert found.quality <= found.quality_bound + 1e-9
    poor = solve_resources(replace(problem, budget=5.0))
    assert (poor.met, poor.core.sum()) == (False, 0)


def test_a_limit_that_is_just_enough_is_enough() -> None:
    use = np.ones((30, 1, 1))
    one = np.full((30, 1), 0.5)
    found = solve_resources(ResourceProblem(one, one, use, np.full(1, 30.0), 0.5, one > 0))
    assert (found.core == 0).all()
    assert found.met
