"""One call is placed as the solver would place it, and what is called out of reach is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.assign import WAITS, AssignmentProblem, choose_core, is_out_of_reach, solve


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([2, 5, 10**6]), st.sampled_from([0.0, 0.3]))
def test_one_call_goes_where_the_solver_sends_it(seed: int, cores: int, levels: int, price: float) -> None:
    rng = np.random.default_rng(seed)
    problem = AssignmentProblem(
        cost=rng.integers(0, levels, (1, cores)) / levels,
        quality=rng.integers(0, levels + 1, (1, cores)) / levels,
        quota=rng.integers(0, 2, cores),
        target=float(rng.integers(0, 11)) / 10,
        allowed=rng.random((1, cores)) < 0.8,
        target_deficit=float(rng.integers(-1, 2)) / 10,
        seconds=rng.integers(1, 4, cores).astype(float),
        price_per_second=price,
    )
    assert problem.allowed is not None
    assert problem.seconds is not None
    open_ = problem.allowed[0] & (problem.quota > 0)
    required = problem.target + problem.target_deficit
    core, met = choose_core(problem.cost[0], problem.quality[0], open_, required, problem.seconds, price)
    found = solve(problem)
    assert met == found.met
    if core == WAITS:
        assert found.core[0] == WAITS
        return
    assert open_[core]
    assert problem.quality[0, core] >= min(required, found.quality) - 1e-8
    assert problem.cost[0, core] + price * problem.seconds[core] <= found.objective * (1 + 1e-5) + 1e-12
    assert (problem.cost[0, core], problem.seconds[core]) <= (found.cost + 1e-9, found.seconds) or price


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 5))
def test_what_is_out_of_reach_is_not_reached(seed: int, calls: int, cores: int) -> None:
    rng = np.random.default_rng(seed)
    problem = AssignmentProblem(
        cost=rng.random((calls, cores)),
        quality=rng.random((calls, cores)),
        quota=rng.integers(0, calls + 1, cores),
        target=float(rng.random()),
        allowed=rng.random((calls, cores)) < 0.8,
    )
    if is_out_of_reach(problem):
        assert not solve(problem).met


def test_a_target_beyond_the_room_at_the_good_core_is_seen_to_be_out_of_reach() -> None:
    quality = np.tile([0.9, 0.5], (10, 1))
    cost = np.tile([2.0, 1.0], (10, 1))
    assert is_out_of_reach(AssignmentProblem(cost, quality, np.array([4, 10]), 0.67))
    assert not is_out_of_reach(AssignmentProblem(cost, quality, np.array([4, 10]), 0.66))
