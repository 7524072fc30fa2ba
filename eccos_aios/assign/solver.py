"""Stage 2 as a whole: admission of calls, a greedy start, refinement, and a description of the result."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from eccos_aios.assign.admission import admit
from eccos_aios.assign.greedy import greedy
from eccos_aios.assign.instance import Instance, most_gain_bound, seconds_weight
from eccos_aios.assign.problem import (
    TOLERANCE,
    WAITS,
    Assignment,
    AssignmentProblem,
    BoolArray,
    DualPrices,
    FloatArray,
    IntArray,
)
from eccos_aios.assign.refine import CLOSE, Refinement, refine

log = logging.getLogger(__name__)

FAILURES = (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def solve(problem: AssignmentProblem, close: float = CLOSE) -> Assignment:
    """Assign calls to cores at least cost such that mean quality reaches the target.

    No quota is ever broken. As many calls as possible are placed, the heavier first; a call that no core
    may take, or for which no slot is left, gets `WAITS`. The result depends on the problem alone, and is
    never dearer than the greedy start where that meets the target.

    Parameters
    ----------
    problem : AssignmentProblem
    close : float
        Relative gap to the proven bound at which local search ends.

    Returns
    -------
    Assignment
        Where the refinement failed inside, the greedy start, and `fell_back` says so.
    """
    return _solved(problem, *_admitted(problem), close)


def solve_if_reachable(problem: AssignmentProblem, close: float = CLOSE) -> Assignment | None:
    """As `solve`; None where a bound proves, without solving, that the target cannot be reached.

    Not for a problem with a budget.
    """
    rows, instance = _admitted(problem)
    if instance is not None and most_gain_bound(instance) < instance.required:
        return None
    return _solved(problem, rows, instance, close)


def _admitted(problem: AssignmentProblem) -> tuple[IntArray, Instance | None]:
    """The calls that are placed and their instance; None where there are none."""
    allowed = np.ones(problem.cost.shape, dtype=bool) if problem.allowed is None else problem.allowed
    rows = np.flatnonzero(admit(allowed, problem.quota, problem.weight))
    return rows, _instance(problem, allowed, rows) if rows.size else None


def _solved(
    problem: AssignmentProblem, rows: IntArray, instance: Instance | None, close: float
) -> Assignment:
    core = np.full(len(problem.cost), WAITS, dtype=np.int64)
    if instance is None:
        return _described(problem, core, rows, None)
    ties = _tie_break(problem, rows)
    if ties is not None:
        instance = replace(instance, value=instance.value + ties)
    refined: Refinement | None = None
    try:
        refined = refine(instance, close)
        if refined.bound == np.inf and problem.budget is None and problem.reach_slack:
            instance, refined = _within_reach(problem, instance, refined, close)
    except FAILURES as error:
        log.warning("refinement failed (%s): the greedy assignment stands", type(error).__name__)
    start = greedy(_score(instance), instance.quota)
    core[rows] = start if refined is None else _better(problem, instance, rows, start, refined.core)
    if refined is not None and ties is not None:
        refined = replace(refined, bound=refined.bound - float(ties.max(axis=1).sum()))
    return _described(problem, core, rows, refined)


def _within_reach(
    problem: AssignmentProblem, instance: Instance, most: Refinement, close: float
) -> tuple[Instance, Refinement]:
    """The cheapest within `reach_slack` of the most gain, as an instance of its own; without a bound."""
    required = instance.gain_of(most.core) - problem.reach_slack * len(most.core)
    reachable = replace(instance, required=required)
    return reachable, replace(refine(reachable, close), bound=np.inf)


def _seconds(problem: AssignmentProblem) -> FloatArray | None:
    if problem.seconds is None:
        return None
    return np.broadcast_to(problem.seconds, problem.cost.shape)


def _objective(problem: AssignmentProblem) -> FloatArray:
    seconds = _seconds(problem)
    if seconds is None or not problem.price_per_second:
        return problem.cost
    return problem.cost + problem.price_per_second * seconds


def _tie_break(problem: AssignmentProblem, rows: IntArray) -> FloatArray | None:
    """Added to the value so that the faster of two equal cores is taken; None: nothing."""
    seconds = _seconds(problem)
    if seconds is None or problem.price_per_second or problem.budget is not None:
        return None
    seconds = seconds[rows]
    weight = seconds_weight(problem.cost[rows], seconds)
    return weight * seconds if weight else None


def _instance(problem: AssignmentProblem, allowed: BoolArray, rows: IntArray) -> Instance:
    quality, permitted = problem.quality[rows], allowed[rows]
    quota = np.minimum(problem.quota, len(rows))
    # Sums are rounded: half of the tolerance of `met` is used here.
    if problem.budget is not None:
        required = -problem.budget * (1.0 + 0.5 * TOLERANCE)
        value, gain = 1.0 - quality, -problem.cost[rows]
    else:
        required = (problem.target - 0.5 * TOLERANCE) * len(rows) + problem.target_deficit
        value, gain = _objective(problem)[rows], quality
    if not permitted.all():
        value, gain = np.where(permitted, value, np.inf), np.where(permitted, gain, 0.0)
    return Instance(value, gain, quota, required)


def _score(instance: Instance) -> FloatArray:
    """Value, and far above it the gain that lacks: least at the cheapest core that is good enough alone."""
    lacking = np.maximum(instance.required / len(instance.value) - instance.gain, 0.0)
    scale = float(instance.value[np.isfinite(instance.value)].max()) + 1.0
    return instance.value + 1e3 * scale * lacking


def _better(
    problem: AssignmentProblem, instance: Instance, rows: IntArray, start: IntArray, refined: IntArray
) -> IntArray:
    """The refined assignment, unless the start is as good and cheaper."""
    enough = min(instance.required, instance.gain_of(refined))
    if instance.gain_of(start) < enough:
        return refined
    # Without the tie-break, which is no real cost.
    value = instance.value if problem.budget is not None else _objective(problem)[rows]
    each = np.arange(len(rows))
    return start if value[each, start].sum() < value[each, refined].sum() else refined


def _described(
    problem: AssignmentProblem, core: IntArray, rows: IntArray, refined: Refinement | None
) -> Assignment:
    chosen = core[rows]
    cost = float(problem.cost[rows, chosen].sum())
    quality = float(problem.quality[rows, chosen].mean()) if rows.size else float("nan")
    seconds = _seconds(problem)
    waited = float("nan") if seconds is None else float(seconds[rows, chosen].sum())
    objective = cost + (problem.price_per_second * waited if problem.price_per_second else 0.0)
    required = problem.target + (problem.target_deficit / len(rows) if rows.size else 0.0)
    lower_bound, quality_bound, prices = 0.0, 1.0, DualPrices(np.zeros(len(problem.quota)), 0.0)
    if refined is not None:
        prices = DualPrices(refined.slot_price, refined.price)
        if problem.budget is None:
            lower_bound = max(0.0, refined.bound)
        else:
            quality_bound = 1.0 - refined.bound / len(rows)
    met = quality >= required - TOLERANCE
    if problem.budget is not None:
        met = cost <= problem.budget * (1.0 + TOLERANCE)
    return Assignment(
        core=core,
        cost=cost,
        quality=quality,
        lower_bound=lower_bound,
        met=bool(met),
        objective=objective,
        quality_bound=quality_bound,
        seconds=waited,
        dual_prices=prices,
        fell_back=rows.size > 0 and refined is None,
    )
