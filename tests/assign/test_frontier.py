"""The frontier is the optimum of the linear relaxation without quotas, and its prices reach what they promise."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from eccos_aios.assign import Frontier, best_at


def options(seed: int, calls: int, cores: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    quality = rng.integers(0, levels + 1, (calls, cores)) / levels
    cost = rng.integers(1, levels + 1, (calls, cores)) / levels
    cost[(rng.random((calls, cores)) < 0.2) & (np.arange(cores) > 0)] = np.inf
    return quality, cost


sizes = (st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 5), st.sampled_from([2, 5, 10**6]))


@settings(max_examples=150, deadline=None)
@given(*sizes, st.floats(0, 1))
def test_every_mean_quality_is_reached_at_the_least_cost(
    seed: int, calls: int, cores: int, levels: int, share: float
) -> None:
    quality, cost = options(seed, calls, cores, levels)
    frontier = Frontier.of(quality, cost)
    target = float(frontier.quality[0] + share * (frontier.most - frontier.quality[0]))
    allowed = np.isfinite(cost)
    optimum = linprog(
        np.where(allowed, cost, 0.0).ravel() / calls,
        A_ub=[-quality.ravel() / calls],
        b_ub=[-target],
        A_eq=np.kron(np.eye(calls), np.ones(cores)),
        b_eq=np.ones(calls),
        bounds=np.column_stack([np.zeros(calls * cores), allowed.ravel().astype(float)]),
    )
    assert optimum.success
    assert np.isclose(np.interp(target, frontier.quality, frontier.cost), optimum.fun, atol=1e-7)
    assert np.isclose(frontier.most, np.where(allowed, quality, 0.0).max(axis=1).mean())


@settings(max_examples=150, deadline=None)
@given(*sizes, st.floats(0, 1))
def test_at_the_price_of_a_quality_the_calls_reach_it_and_would_not_at_less(
    seed: int, calls: int, cores: int, levels: int, share: float
) -> None:
    quality, cost = options(seed, calls, cores, levels)
    frontier = Frontier.of(quality, cost)
    target = float(frontier.quality[0] + share * (frontier.most - frontier.quality[0]))
    price = frontier.price_of(np.full(calls, target))
    assert frontier.price_of_one(target) == price[0]
    lower, upper = best_at(quality, cost, price)
    rows = np.arange(calls)
    assert quality[rows, lower].mean() <= target + 1e-6
    assert quality[rows, upper].mean() >= target - 1e-6
    assert np.isfinite(cost[rows, lower] + cost[rows, upper]).all()
