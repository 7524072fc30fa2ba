"""route_plans: a batch of calls to plans, at a quality target or for a budget, with a bound on calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.assign import (
    REACH_SLACK,
    WAITS,
    Assignment,
    AssignmentProblem,
    ResourceProblem,
    solve,
    solve_resources,
)
from eccos_aios.assign.problem import TOLERANCE
from eccos_aios.config import default_of
from eccos_aios.plans.answers import STAGES, BoolArray, FloatArray, IntArray
from eccos_aios.plans.predictor import PlanEstimates

MAX_CALLS_PER_QUERY: float = default_of("max_calls_per_query")
PRICE_STEPS = 10  # solutions at most that look for the price of a call
PRICE_RANGE = 100.0  # how far it may lie below the cheapest plan's cost and above the dearest one's


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

    The bound is kept by a price on calls, the least of a few that keeps it. A target that only more calls
    could reach is lowered to `REACH_SLACK` below the best quality within the bound, and is not met.

    Parameters
    ----------
    estimates : PlanEstimates
    allowed : ndarray of bool of shape (calls, plans)
    quota : ndarray of int of shape (cores,), optional
        Calls that each core may be asked, as the mean expects it. Default: all.
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
    problem = _problem(estimates, allowed, quality_target, budget)
    free = solve(problem)
    best = _routing(estimates, free, free)
    is_within = quota is None or bool((_use_of(estimates, free.core) <= quota + TOLERANCE).all())
    if is_within and _keeps(best, max_calls):
        return best
    if quota is not None:
        return _routing(estimates, _within_quotas(estimates, problem, quota, max_calls), None)
    if budget is not None:
        return _under_budget(estimates, problem, free, max_calls)
    within = best_within(estimates, allowed=allowed, max_calls=max_calls)
    reached = within.assignment.quality
    target = quality_target if quality_target <= reached else max(reached - REACH_SLACK, 0.0)
    extra = estimates.calls - 1.0

    bounds = [free.lower_bound]

    def priced(price: float) -> Assignment:
        solved = solve(replace(problem, cost=estimates.cost + price * extra, target=target))
        placed = int((solved.core != WAITS).sum())
        # whoever keeps the bound on calls pays at most this for them
        bounds.append(solved.lower_bound - price * (max_calls - 1.0) * placed)
        return solved

    dearest = float(estimates.cost.max()) or 1.0
    cheapest = float(estimates.cost.mean(axis=0).min()) or dearest
    found = _least_price(estimates, priced, free, (cheapest, dearest), max_calls, target)
    if found is None or found.assignment.cost > within.assignment.cost:
        found = within
    met = free.met and found.assignment.quality >= quality_target - TOLERANCE
    bound = min(max(bounds), found.assignment.cost) if met else np.inf
    return replace(found, assignment=replace(found.assignment, met=met, lower_bound=bound))


def best_within(
    estimates: PlanEstimates,
    *,
    allowed: BoolArray,
    max_calls: float = MAX_CALLS_PER_QUERY,
) -> PlanRouting:
    """The plans of the best quality, whatever they cost, within the bound on calls; parameters as above."""
    bound = max_calls * len(estimates.calls)
    solved = solve(replace(_problem(estimates, allowed, 0.0, bound), cost=estimates.calls))
    return _routing(estimates, solved, replace(solved, lower_bound=0.0))


def _problem(
    estimates: PlanEstimates, allowed: BoolArray, target: float, budget: float | None
) -> AssignmentProblem:
    rows, plans = estimates.quality.shape
    return AssignmentProblem(
        cost=estimates.cost,
        quality=estimates.quality,
        quota=np.full(plans, rows, dtype=np.int64),
        target=target,
        allowed=allowed,
        budget=budget,
    )


def _within_quotas(
    estimates: PlanEstimates, problem: AssignmentProblem, quota: IntArray, max_calls: float
) -> Assignment:
    """The columns under the cores' quotas and the bound on calls, which is one resource more."""
    assert problem.allowed is not None
    use = np.concatenate([estimates.use, (estimates.calls - max_calls)[:, :, None]], axis=2)
    return solve_resources(
        ResourceProblem(
            cost=problem.cost,
            quality=problem.quality,
            use=use,
            limit=np.append(quota.astype(np.float64), 0.0),
            target=problem.target,
            allowed=problem.allowed,
            budget=problem.budget,
        )
    )


def _use_of(estimates: PlanEstimates, column: IntArray) -> FloatArray:
    """Expected calls at each core, shape (cores,)."""
    rows = np.flatnonzero(column != WAITS)
    return np.asarray(estimates.use[rows, column[rows]].sum(axis=0), dtype=np.float64)


def _under_budget(
    estimates: PlanEstimates, problem: AssignmentProblem, free: Assignment, max_calls: float
) -> PlanRouting:
    """Best quality for a budget and a bound on calls: a call's price is paid in quality."""
    saved = STAGES - estimates.calls

    def priced(price: float) -> Assignment:
        scaled = (estimates.quality + price * saved) / (1.0 + STAGES * price)  # in 0 to 1, the order kept
        return solve(replace(problem, quality=scaled))

    found = _least_price(estimates, priced, free, (0.01, 1.0), max_calls, 0.0)
    if found is not None:
        return found
    assert problem.allowed is not None
    few = problem.allowed & (estimates.calls <= max_calls + TOLERANCE)
    return _routing(estimates, solve(replace(problem, allowed=few)), free)


def _least_price(
    estimates: PlanEstimates,
    priced: Callable[[float], Assignment],
    free: Assignment,
    around: tuple[float, float],
    max_calls: float,
    target: float,
) -> PlanRouting | None:
    """The solution at the least price of a call that keeps the bound and reaches the target, if one does."""
    low, high = np.log(around[0] / PRICE_RANGE), np.log(around[1] * PRICE_RANGE)
    found: PlanRouting | None = None
    for step in range(PRICE_STEPS):
        price = high if step == 0 else 0.5 * (low + high)
        routing = _routing(estimates, priced(float(np.exp(price))), free)
        reaches = not routing.assignment.quality < target - TOLERANCE
        if _keeps(routing, max_calls) and reaches:
            found, high = routing, price
        elif step == 0:
            return None
        else:
            low = price
    return found


def _keeps(routing: PlanRouting, max_calls: float) -> bool:
    return bool(np.isnan(routing.calls) or routing.calls <= max_calls + TOLERANCE)


def _routing(estimates: PlanEstimates, solved: Assignment, free: Assignment | None) -> PlanRouting:
    rows = np.flatnonzero(solved.core != WAITS)
    columns = solved.core[rows]
    cost = float(_at(estimates.cost, rows, columns).sum())
    calls = float(_at(estimates.calls, rows, columns).mean()) if len(rows) else float("nan")
    quality = float(_at(estimates.quality, rows, columns).mean()) if len(rows) else float("nan")
    # what is proven without the price and with every plan holds with them all the more
    bound = solved.lower_bound if free is None else free.lower_bound
    if np.isfinite(bound):
        bound = min(bound, cost)
    return PlanRouting(replace(solved, cost=cost, objective=cost, quality=quality, lower_bound=bound), calls)


def _at(array: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    return np.asarray(array[rows, columns], dtype=np.float64)
