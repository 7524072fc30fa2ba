"""route_plans: a batch of calls to plans, at a quality target or for a budget, with a bound on calls."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.assign import WAITS, Assignment, AssignmentProblem, solve
from eccos_aios.plans.answers import BoolArray, FloatArray, IntArray
from eccos_aios.plans.predictor import PlanEstimates

MAX_CALLS_PER_QUERY = 1.5
PRICE_STEPS = 8  # solutions at most that look for the price of a call
TOLERANCE = 1e-9


@dataclass(frozen=True)
class PlanRouting:
    """A batch assigned to plans.

    Attributes
    ----------
    assignment : Assignment
        Columns are plans; `cost` and `lower_bound` are US dollars, without any price of calls.
    calls : float
        Expected cores asked per assigned call; NaN where none is.
    """

    assignment: Assignment
    calls: float


def route_plans(
    estimates: PlanEstimates,
    *,
    allowed: BoolArray,
    quota: IntArray | None = None,
    quality_target: float = 0.0,
    budget: float | None = None,
    max_calls: float = MAX_CALLS_PER_QUERY,
) -> PlanRouting:
    """Assign each call a plan; the mean expected number of cores asked stays within `max_calls`.

    The bound is kept by a price on calls, the least of a few that keeps it; where none does, and under a
    budget, by leaving out the plans that exceed it for the call.

    Parameters
    ----------
    estimates : PlanEstimates
    allowed : ndarray of bool of shape (calls, plans)
    quota : ndarray of int of shape (plans,), optional
        Calls that each plan may take. Default: all.
    quality_target : float
        Mean quality of the assigned calls, 0 to 1.
    budget : float, optional
        US dollars; in place of the target.
    max_calls : float
        At least 1.

    Raises
    ------
    ValueError
        `max_calls` is below 1, or the problem's fields are wrong.
    """
    if not max_calls >= 1:
        raise ValueError(f"max_calls_per_query: {max_calls!r}: must be at least 1")
    rows, plans = estimates.quality.shape
    problem = AssignmentProblem(
        cost=estimates.cost,
        quality=estimates.quality,
        quota=np.full(plans, rows, dtype=np.int64) if quota is None else quota,
        target=quality_target,
        allowed=allowed,
        budget=budget,
    )
    free = solve(problem)
    best = _routing(estimates, free, free)
    if _keeps(best, max_calls):
        return best
    if budget is None:
        priced = _least_price(estimates, problem, free, max_calls)
        if priced is not None:
            return priced
    within = replace(problem, allowed=allowed & (estimates.calls <= max_calls + TOLERANCE))
    return _routing(estimates, solve(within), free)


def _least_price(
    estimates: PlanEstimates, problem: AssignmentProblem, free: Assignment, max_calls: float
) -> PlanRouting | None:
    """A solution that keeps the bound and meets the target if the free one does; None where none is found."""
    low, high = 0.0, float(np.ptp(estimates.cost)) or 1.0
    found: PlanRouting | None = None
    for step in range(PRICE_STEPS):
        price = high if step == 0 else 0.5 * (low + high)
        solved = solve(replace(problem, cost=estimates.cost + price * (estimates.calls - 1.0)))
        routing = _routing(estimates, solved, free)
        if _keeps(routing, max_calls) and solved.met >= free.met:
            found, high = routing, price
        elif step == 0:
            return None
        else:
            low = price
    return found


def _keeps(routing: PlanRouting, max_calls: float) -> bool:
    return np.isnan(routing.calls) or routing.calls <= max_calls + TOLERANCE


def _routing(estimates: PlanEstimates, solved: Assignment, free: Assignment) -> PlanRouting:
    rows = np.flatnonzero(solved.core != WAITS)
    columns = solved.core[rows]
    cost = float(_at(estimates.cost, rows, columns).sum())
    calls = float(_at(estimates.calls, rows, columns).mean()) if len(rows) else float("nan")
    # what is proven without the price and with every plan holds with them all the more
    return PlanRouting(replace(solved, cost=cost, lower_bound=min(free.lower_bound, cost)), calls)


def _at(array: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    return np.asarray(array[rows, columns], dtype=np.float64)
