"""Instances beyond the size that is solved exactly at once: the linear relaxation is the yardstick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, identity, kron, vstack

from eccos_aios.assign import AssignmentProblem, solve
from eccos_aios.assign.refine import SMALL


@st.composite
def large_problems(draw: st.DrawFn) -> AssignmentProblem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    calls, cores = draw(st.integers(150, 400)), draw(st.integers(2, 10))
    levels = draw(st.sampled_from([3, 17, 10**6]))
    cost = (1 + rng.integers(0, levels, (calls, cores))) / levels
    quality = rng.integers(0, levels + 1, (calls, cores)) / levels
    if draw(st.booleans()):  # nearly the same core twice
        cost[:, 1], quality[:, 1] = cost[:, 0] * 1.001, quality[:, 0]
    share = rng.dirichlet(np.ones(cores) * draw(st.sampled_from([0.3, 100.0])))
    slots = calls * draw(st.sampled_from([1.0, 1.2, 3.0]))
    return AssignmentProblem(
        cost=cost,
        quality=quality,
        quota=np.ceil(slots * share).astype(int),
        target=draw(st.sampled_from([0.0, 0.5, 0.7, 0.8, 0.9, 1.0])),
        allowed=(rng.random((calls, cores)) < 0.8) if draw(st.booleans()) else None,
    )


def relaxation(problem: AssignmentProblem, rows: np.ndarray, quality_only: bool) -> float:
    calls, cores = len(rows), len(problem.quota)
    quality = problem.quality[rows].ravel()
    limits = kron(np.ones((1, calls)), identity(cores), format="csr"), problem.quota
    if not quality_only:
        limits = vstack([limits[0], csr_matrix(-quality)]), np.append(limits[1], -problem.target * calls)
    allowed = np.ones((calls, cores)) if problem.allowed is None else problem.allowed[rows]
    result = linprog(
        -quality if quality_only else problem.cost[rows].ravel(),
        A_ub=limits[0],
        b_ub=limits[1],
        A_eq=kron(identity(calls), np.ones((1, cores)), format="csr"),
        b_eq=np.ones(calls),
        bounds=np.column_stack([np.zeros(calls * cores), allowed.ravel().astype(float)]),
        method="highs",
    )
    assert result.status == 0
    return float(result.fun)


@settings(max_examples=40, deadline=None)
@given(large_problems())
def test_large_instances_come_close_to_the_relaxation(problem: AssignmentProblem) -> None:
    assignment = solve(problem)
    rows = np.flatnonzero(assignment.core >= 0)
    chosen = assignment.core[rows]
    assert not assignment.fell_back
    assert (np.bincount(chosen, minlength=len(problem.quota)) <= problem.quota).all()
    best = -relaxation(problem, rows, quality_only=True)
    required = problem.target * len(rows)
    assert assignment.met == (best >= required - 1e-7)
    if not assignment.met:
        assert assignment.quality * len(rows) >= (best - problem.reach_slack * len(rows)) * (1 - 1e-6)
        near = replace(problem, target=(best - 1e-6) / len(rows) - problem.reach_slack)
        assert assignment.cost <= relaxation(near, rows, quality_only=False) + 2 * problem.cost.max()
        return
    least = relaxation(problem, rows, quality_only=False)
    assert assignment.lower_bound <= least * (1 + 1e-6)
    assert assignment.lower_bound >= least * (1 - 1e-3)
    assert assignment.cost <= least + problem.cost.max()


@pytest.mark.parametrize("spread", [1e-9, 1.0, 1e6])
def test_the_scale_of_money_does_not_matter(spread: float) -> None:
    rng = np.random.default_rng(2)
    cost, quality = rng.random((500, 5)), rng.random((500, 5))
    quota = np.full(5, 120)
    assert 500 * quota.sum() > SMALL
    assignment = solve(AssignmentProblem(cost * spread, quality, quota, 0.7))
    assert assignment.met
    assert assignment.gap < 1e-3


def test_ten_thousand_calls_stay_within_the_figures_for_the_gap() -> None:
    from experiments.solver_instances import solver_instance

    problem = solver_instance("tight", 10_000, 8)
    assignment = solve(problem)
    assert assignment.met
    assert np.bincount(assignment.core).tolist() == problem.quota.tolist()
    assert assignment.gap < 1e-4
