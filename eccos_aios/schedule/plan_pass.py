"""The optimiser pass where calls may be answered by plans of several cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.assign import WAITS, Assignment, choose_core, choose_cores, solve
from eccos_aios.candidates import Candidates
from eccos_aios.reasons import OUT_OF_REACH
from eccos_aios.schedule.capacity import IntArray
from eccos_aios.schedule.choices import Choices
from eccos_aios.schedule.plan import Plan
from eccos_aios.schedule.plan_rows import FloatArray, PlanOptions, promise_of
from eccos_aios.schedule.round_batch import RoundBatch, estimates_of

# Relative gap to the proven bound at which a plan is good enough: estimates err by a hundred times that.
CLOSE_ENOUGH = 1e-3
STEPS = 3  # solutions at most that look for the price of quality


def optimise_one(batch: RoundBatch) -> Plan | None:
    """The cheapest choice of a round's only call that reaches the target; None: no slot is left for it."""
    options, capacity, target = batch.choices_of_one, batch.capacity, batch.target
    cost = options.value(0.0, 0.0 if batch.wanted is None else batch.wanted.price_per_call)
    chosen = None
    for ahead in (capacity.soon, capacity.later):
        quota = (capacity.free + ahead).tolist()
        possible = [
            may and quota[first] > 0 for may, first in zip(options.allowed, options.first, strict=True)
        ]
        chosen = choose_core(
            cost,
            options.quality,
            possible,
            batch.required,
            options.seconds,
            target.price_per_second,
            target.reach_slack,
        )
        if chosen is None or chosen[1]:
            break
    if chosen is None:
        return None
    option, met = chosen
    columns = np.array([options.first[option]], dtype=np.int64)
    if batch.options is None:
        return Plan(columns, dict.fromkeys(batch.missing(met), OUT_OF_REACH))
    return _plan(batch, batch.options, columns, [option], met=met)


def optimise_plans(batch: RoundBatch, plans: PlanOptions) -> Plan | None:
    """The cheapest choice of cores and plans that reaches the target; None where no plan may be chosen.

    A plan needs a slot of its first core, now or soon; its later stages queue for theirs when they come. For
    a given price of quality the best option of each call at each first core is known, which leaves an
    assignment of calls to cores. Its dual is the next price: at the optimum of the linear relaxation the
    price is its own successor. The cores alone are the first of the solutions that are compared.
    """
    options = batch.choices
    if batch.wanted is not None:
        options = replace(options, cost=options.value(0.0, batch.wanted.price_per_call))
    if not options.allowed[:, batch.cores :].any():
        return None
    few = _choose_few(batch, plans, options)
    if few is not None:
        return few
    capacity, goal = batch.capacity, _Goal(batch.goal, batch.deficit)
    quota = capacity.free + capacity.soon
    found = _search(batch, options, quota, goal)
    if not found[0].met and (capacity.later > capacity.soon).any():
        quota = capacity.free + capacity.later
        found = _search(batch, options, quota, goal)
    solved, choice = found
    met = solved.met
    if not met and np.isfinite(solved.quality):
        near = _search(batch, options, quota, _Goal(max(0.0, solved.quality - batch.target.reach_slack)))
        if near[0].met and near[0].objective < solved.objective:
            solved, choice = near
    return _plan(batch, plans, solved.core, choice[:, 0].tolist(), met=met, fell_back=solved.fell_back)


@dataclass(frozen=True)
class _Goal:
    """Mean quality to reach, and the points that are owed beyond it."""

    quality: float
    owed: float = 0.0


def _choose_few(batch: RoundBatch, plans: PlanOptions, options: Choices) -> Plan | None:
    """For a few calls every choice is compared; None: there are too many, or slots are short."""
    capacity, target, calls = batch.capacity, batch.target, len(batch)
    if target.price_per_second:
        return None
    chosen = None
    for ahead in (capacity.soon, capacity.later):
        quota = capacity.free + ahead
        chosen = choose_cores(
            options.cost,
            options.quality,
            options.allowed,
            quota[options.first],
            batch.required,
            options.seconds.mean(axis=0),
            target.price_per_second,
            target.reach_slack,
        )
        if chosen is None or chosen[1]:
            break
    if chosen is None:
        return None
    choice = np.array(chosen[0], dtype=np.int64)
    columns = options.first[choice]
    extra = options.extra[np.arange(calls), choice].sum()
    # options that begin at one core share its slots
    if extra > batch.spare_calls or (np.bincount(columns, minlength=batch.cores) > quota).any():
        return None
    return _plan(batch, plans, columns, chosen[0], met=chosen[1])


def _search(batch: RoundBatch, options: Choices, quota: IntArray, goal: _Goal) -> tuple[Assignment, IntArray]:
    """The best solution found, and the option of each call, shape (calls, 1)."""
    price, best, best_choice = None, None, np.empty(0, dtype=np.int64)
    for _ in range(1 + STEPS):
        each = _best_at_first_core(batch, options, price)
        solved = _solve(batch, options, each, quota, goal)
        choice = np.where(solved.core == WAITS, WAITS, each[np.arange(len(each)), solved.core])
        choice = _within_calls(batch, options, choice, price or 0.0)
        if best is None or _is_better(solved, best):
            best, best_choice = solved, choice[:, None]
        # Where the target is out of reach no price is known: quality counts for more than any cost.
        following = solved.dual_prices.quality if solved.met else 1e3 * float(options.cost.max() + 1e-9)
        if price is not None and abs(following - price) <= 1e-3 * max(price, following):
            break
        price = following
    assert best is not None
    return best, best_choice


def _best_at_first_core(batch: RoundBatch, options: Choices, price: float | None) -> IntArray:
    """For each call and core, the best option that begins there, shape (calls, cores)."""
    alone = np.broadcast_to(np.arange(batch.cores), (len(batch), batch.cores))
    if price is None:
        return alone
    value = options.cost + batch.target.price_per_second * options.seconds - price * options.quality
    value = np.where(options.allowed, value, np.inf)
    best = alone.copy()
    for core in range(batch.cores):
        here = np.flatnonzero(options.first == core)
        best[:, core] = here[value[:, here].argmin(axis=1)]
    return best


def _solve(batch: RoundBatch, options: Choices, each: IntArray, quota: IntArray, goal: _Goal) -> Assignment:
    rows = np.arange(len(batch))[:, None]
    target = batch.target
    cost = options.cost[rows, each] + target.price_per_second * options.seconds[rows, each]
    candidates = Candidates(options.quality[rows, each], cost, options.allowed[rows, each])
    problem = candidates.problem(
        goal.quality,
        quota=quota,
        target_deficit=goal.owed,
        weight=batch.weights,
        seconds=options.seconds[rows, each],
        reach_slack=0.0,  # where the target is out of reach, the most quality is wanted, to stay near it
    )
    return solve(problem, CLOSE_ENOUGH)


def _within_calls(batch: RoundBatch, options: Choices, choice: IntArray, price: float) -> IntArray:
    """The options with no more attempts than are to spare: plans that gain least by each give way."""
    rows = np.flatnonzero(choice >= batch.cores)
    extra = options.extra[rows, choice[rows]]
    if not rows.size or extra.sum() <= batch.spare_calls:
        return choice
    alone = options.first[choice[rows]]
    gained = price * (options.quality[rows, choice[rows]] - options.quality[rows, alone])
    gained -= options.cost[rows, choice[rows]] - options.cost[rows, alone]
    order = np.argsort(-gained / np.maximum(extra, 1e-9), kind="stable")
    dropped = order[np.cumsum(extra[order]) > batch.spare_calls]
    kept = choice.copy()
    # a core that may take the plan's first stage may take the call
    kept[rows[dropped]] = alone[dropped]
    return kept


def _is_better(one: Assignment, other: Assignment) -> bool:
    if one.met != other.met:
        return one.met
    return one.objective < other.objective if one.met else one.quality > other.quality


def _plan(
    batch: RoundBatch,
    plans: PlanOptions,
    columns: IntArray,
    choice: Sequence[int],
    *,
    met: bool,
    fell_back: bool = False,
) -> Plan:
    staged = {
        row: plans.plans[option - batch.cores] for row, option in enumerate(choice) if option >= batch.cores
    }
    return Plan(columns, dict.fromkeys(batch.missing(met), OUT_OF_REACH), fell_back, staged)


def promised(batch: RoundBatch, plan: Plan, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Quality and cost that a plan promises for calls that have a core, both of shape (rows,)."""
    chosen = rows * batch.cores + plan.columns.take(rows)
    quality, cost = batch.candidates.quality.take(chosen), batch.candidates.cost.take(chosen)
    for place, row in enumerate(rows.tolist()):
        if (staged := plan.staged.get(row)) is not None:
            promise = promise_of(estimates_of(batch.calls[row]), staged, batch.names)
            quality[place], cost[place] = promise.quality, promise.cost
    return quality, cost
