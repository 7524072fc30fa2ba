"""What a user of stage 2 relies on: quotas, limits, who waits, the target, and nothing dearer than greedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix, identity, kron

from eccos_aios.assign import WAITS, Assignment, AssignmentProblem, solve
from eccos_aios.assign.greedy import greedy
from eccos_aios.assign.solver import _admitted, _score


@st.composite
def problems(draw: st.DrawFn, most_calls: int = 8, most_cores: int = 4) -> AssignmentProblem:
    calls = draw(st.integers(1, most_calls))
    cores = draw(st.integers(1, most_cores))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few distinct values make ties, many make none.
    levels = draw(st.sampled_from([2, 5, 10**6]))
    cost = rng.integers(0, levels, (calls, cores)) / levels
    quality = rng.integers(0, levels + 1, (calls, cores)) / levels
    allowed = rng.random((calls, cores)) < draw(st.sampled_from([0.5, 0.8, 1.0]))
    return AssignmentProblem(
        cost=cost,
        quality=quality,
        quota=rng.integers(0, draw(st.sampled_from([2, 4, calls + 1])), cores),
        target=draw(st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])),
        allowed=allowed if draw(st.booleans()) else None,
        weight=rng.integers(0, 3, calls).astype(float) if draw(st.booleans()) else None,
        target_deficit=draw(st.sampled_from([0.0, 0.0, 0.4, -0.4])),
    )


def exact(
    problem: AssignmentProblem,
    rows: np.ndarray,
    objective: np.ndarray,
    limits: list[tuple[np.ndarray, float]],
) -> float | None:
    """The optimum over the assignments of `rows` with each `array · x >= limit`; None where there is none."""
    calls, cores = len(rows), len(problem.quota)
    permitted = allowed_in(problem)[rows]
    result = milp(
        objective[rows].ravel(),
        integrality=np.ones(calls * cores),
        bounds=Bounds(0.0, permitted.ravel().astype(float)),
        constraints=[
            LinearConstraint(kron(identity(calls), np.ones((1, cores))), 1, 1),
            LinearConstraint(kron(np.ones((1, calls)), identity(cores)), -np.inf, problem.quota),
            *(LinearConstraint(csr_matrix(array[rows].ravel()), limit, np.inf) for array, limit in limits),
        ],
        options={"mip_rel_gap": 0.0},
    )
    return None if result.x is None else float(result.fun)


def allowed_in(problem: AssignmentProblem) -> np.ndarray:
    return np.ones(problem.cost.shape, dtype=bool) if problem.allowed is None else problem.allowed


def most_calls(problem: AssignmentProblem) -> int:
    calls, cores = problem.cost.shape
    result = milp(
        -np.ones(calls * cores),
        integrality=np.ones(calls * cores),
        bounds=Bounds(0.0, allowed_in(problem).ravel().astype(float)),
        constraints=[
            LinearConstraint(kron(identity(calls), np.ones((1, cores))), 0, 1),
            LinearConstraint(kron(np.ones((1, calls)), identity(cores)), -np.inf, problem.quota),
        ],
    )
    return round(-result.fun)


def check_held(problem: AssignmentProblem, assignment: Assignment) -> np.ndarray:
    """No quota broken, no limit broken, the sums as they are; returns the calls that were placed."""
    cores = len(problem.quota)
    rows = np.flatnonzero(assignment.core != WAITS)
    chosen = assignment.core[rows]
    assert assignment.core.shape == (len(problem.cost),)
    assert ((chosen >= 0) & (chosen < cores)).all()
    assert (np.bincount(chosen, minlength=cores) <= problem.quota).all()
    assert allowed_in(problem)[rows, chosen].all()
    assert assignment.cost == pytest.approx(problem.cost[rows, chosen].sum())
    if rows.size:
        assert assignment.quality == pytest.approx(problem.quality[rows, chosen].mean())
    else:
        assert np.isnan(assignment.quality)
    assert not assignment.fell_back
    return rows


@settings(max_examples=150, deadline=None)
@given(problems())
def test_quotas_and_limits_hold_and_as_many_calls_as_possible_are_placed(problem: AssignmentProblem) -> None:
    rows = check_held(problem, solve(problem))
    assert len(rows) == most_calls(problem)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_verdict_and_cost_agree_with_the_exact_optimum(problem: AssignmentProblem) -> None:
    assignment = solve(problem)
    rows = check_held(problem, assignment)
    if not rows.size:
        assert not assignment.met
        return
    required = problem.target * len(rows) + problem.target_deficit
    best_quality = -exact(problem, rows, -problem.quality, [])
    assert assignment.met == (best_quality >= required - 1e-9 * len(rows))
    if not assignment.met:
        required = best_quality - problem.reach_slack * len(rows)
        assert assignment.lower_bound == np.inf
    check_cost(problem, rows, assignment, required)


def check_cost(
    problem: AssignmentProblem, rows: NDArray[np.int64], assignment: Assignment, required: float
) -> None:
    """Compare with the exact optimum; without a bound, which none has where the target is out of reach."""
    reached = assignment.quality * len(rows)
    assert reached >= required - 1e-9 * len(rows)
    optimum = exact(problem, rows, problem.cost, [(problem.quality, required - 1e-9)])
    one_call = float(problem.cost.max())
    if not assignment.met:
        assert assignment.cost <= optimum + one_call + 1e-6
        return
    assert assignment.lower_bound <= optimum + 1e-6
    assert assignment.cost <= optimum + (optimum - assignment.lower_bound) + one_call + 1e-6


@settings(max_examples=150, deadline=None)
@given(problems(most_calls=12))
def test_never_dearer_than_greedy_where_greedy_meets_the_target(problem: AssignmentProblem) -> None:
    assignment = solve(problem)
    rows, instance = _admitted(problem)
    if instance is None:
        return
    start = greedy(_score(instance), instance.quota)
    assert (start >= 0).all()
    if problem.quality[rows, start].sum() >= problem.target * len(rows) + problem.target_deficit:
        assert assignment.met
        assert assignment.cost <= problem.cost[rows, start].sum() + 1e-12


@settings(max_examples=50, deadline=None)
@given(problems(most_calls=12))
def test_the_same_problem_gives_the_same_assignment(problem: AssignmentProblem) -> None:
    assert solve(problem).core.tolist() == solve(problem).core.tolist()


def problem_of(calls: int, **fields: Any) -> AssignmentProblem:
    rng = np.random.default_rng(7)
    given_fields = {
        "cost": rng.random((calls, 2)),
        "quality": rng.random((calls, 2)),
        "quota": [calls, calls],
        "target": 0.0,
    }
    return AssignmentProblem(**{**given_fields, **fields})


def test_the_lightest_calls_wait_where_there_is_no_room_for_all() -> None:
    assignment = solve(problem_of(5, quota=[1, 2], weight=[1.0, 5.0, 0.5, 3.0, 4.0]))
    assert np.flatnonzero(assignment.core == WAITS).tolist() == [0, 2]


def test_of_equally_heavy_calls_the_later_wait() -> None:
    assignment = solve(problem_of(5, quota=[1, 2]))
    assert np.flatnonzero(assignment.core == WAITS).tolist() == [3, 4]


def test_a_light_call_that_alone_fits_a_core_is_placed_beside_heavier_ones() -> None:
    allowed = [[True, False], [True, False], [False, True]]
    assignment = solve(problem_of(3, quota=[1, 1], allowed=allowed, weight=[1.0, 2.0, 0.1]))
    assert assignment.core.tolist() == [WAITS, 0, 1]


def test_a_heavy_call_moves_a_light_one_to_the_core_that_it_alone_may_take() -> None:
    allowed = [[True, True], [True, False]]
    assignment = solve(problem_of(2, cost=[[0.1, 0.9], [0.1, 0.9]], quota=[1, 1], allowed=allowed))
    assert assignment.core.tolist() == [1, 0]


def test_a_call_that_no_core_may_take_waits() -> None:
    assignment = solve(problem_of(2, allowed=[[False, False], [True, True]]))
    assert assignment.core[0] == WAITS
    assert assignment.core[1] != WAITS


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_calls_or_no_cores_give_nothing_to_do(shape: tuple[int, int]) -> None:
    problem = AssignmentProblem(np.zeros(shape), np.zeros(shape), np.ones(shape[1]), 0.5)
    assignment = solve(problem)
    assert assignment.core.tolist() == [WAITS] * shape[0]
    assert assignment.cost == 0.0


def test_an_unreachable_target_gives_the_best_quality_and_says_so() -> None:
    quality = [[0.2, 0.9], [0.1, 0.5], [0.3, 0.4]]
    assignment = solve(problem_of(3, quality=quality, quota=[3, 1], target=0.9))
    assert assignment.core.tolist() == [1, 0, 0]
    assert not assignment.met
    assert assignment.quality == pytest.approx((0.9 + 0.1 + 0.3) / 3)


def test_a_failure_inside_gives_the_greedy_assignment_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no convergence")

    monkeypatch.setattr("eccos_aios.assign.solver.refine", broken)
    assignment = solve(problem_of(6, quota=[2, 3], target=0.4))
    assert assignment.fell_back
    assert np.bincount(assignment.core[assignment.core >= 0]).tolist() == [2, 3]
