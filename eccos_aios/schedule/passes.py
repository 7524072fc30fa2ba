"""The passes that make a round's plan: the optimum, idle slots, and calls that have waited long enough.

A pass takes the `RoundBatch` and the `Plan` so far and returns the plan, changed or not. `Exploration` is the
last of ECCOS's own; a user's passes come after it.
"""

from __future__ import annotations

import numpy as np

from eccos_aios.assign import WAITS, AssignmentProblem, choose_cores, solve, solve_if_reachable
from eccos_aios.candidates import Candidates, FloatArray
from eccos_aios.reasons import BETTER_FULL, OUT_OF_REACH, OVERDUE, SAME_COST
from eccos_aios.schedule.capacity import IntArray
from eccos_aios.schedule.plan import PLANNED, Plan
from eccos_aios.schedule.plan_pass import CLOSE_ENOUGH, optimise_one, optimise_plans, promised
from eccos_aios.schedule.round_batch import RoundBatch


def optimise(batch: RoundBatch, plan: Plan) -> Plan:
    """The cheapest plan that reaches the target, over the slots that are free now and soon.

    Solving against the free slots alone sends easy calls to dear cores whenever cheap ones are busy, so the
    slots that come free soon count too. Where the target is out of reach that way, because the
    good cores are busy, those that come free later count as well. The plan so far is not used.
    """
    planned = None
    if len(batch) == 1:
        planned = optimise_one(batch)
    elif batch.options is not None:
        planned = optimise_plans(batch, batch.options)
    if planned is not None:
        return planned
    capacity = batch.capacity
    further = bool((capacity.later > capacity.soon).any())
    chosen = _choose_few(batch, capacity.soon)
    if chosen is not None and not chosen[1] and further:
        chosen = _choose_few(batch, capacity.later)
    if chosen is not None:
        return _optimum(batch, np.array(chosen[0], dtype=np.int64), met=chosen[1])
    problem = _problem(batch, capacity.soon)
    found = solve_if_reachable(problem, CLOSE_ENOUGH) if further else solve(problem, CLOSE_ENOUGH)
    if found is None or (further and not found.met):
        found = solve(_problem(batch, capacity.later), CLOSE_ENOUGH)
    columns = np.where(found.core == WAITS, WAITS, found.core % len(capacity.free))
    return _optimum(batch, columns, met=found.met, fell_back=found.fell_back)


def _optimum(batch: RoundBatch, columns: IntArray, *, met: bool, fell_back: bool = False) -> Plan:
    return Plan(columns, dict.fromkeys(batch.missing(met), OUT_OF_REACH), fell_back)


def use_idle_slots(batch: RoundBatch, plan: Plan) -> Plan:
    """Send calls to a core with a free slot that would wait for another too long, as far as quality allows.

    The n-th call that waits for a busy core expects to wait n of `Capacity.turn_s`. That is too long where
    the idle core costs the same, or by `WaitLimits.for_price_until_s`. The quality that the plan
    promises beyond the target may be spent on it. Not where time has a price: the optimiser has weighed it
    already.
    """
    capacity, columns = batch.capacity, plan.columns
    sent = zip(columns.tolist(), plan.is_sent(capacity.free), strict=True)
    waiting = [row for row, (column, is_sent) in enumerate(sent) if column != WAITS and not is_sent]
    if not waiting or batch.target.price_per_second:
        return plan
    left = capacity.free - plan.load(len(capacity.free))
    if not (left > 0).any():
        return plan
    waits = np.array(waiting, dtype=np.int64)
    here, each, service_s = columns[waits], np.arange(len(waits)), capacity.service_s
    cost, quality = batch.candidates.cost[waits], batch.candidates.quality[waits]
    fits = batch.candidates.allowed[waits] & (left > 0)
    planned_quality, planned_cost = promised(batch, plan, waits)
    as_cheap = cost <= planned_cost[:, None] * (1 + SAME_COST)
    as_cheap &= service_s < 2 * service_s[here, None]
    lost = planned_quality[:, None] - quality
    limit_s = batch.limits.for_price_until_s(service_s, service_s[here, None]) * (1 + SAME_COST)
    spare, line = _spare_quality(batch, plan), np.zeros(len(left))
    moves: dict[str, dict[int, int]] = {PLANNED: {}, BETTER_FULL: {}}
    for row in each.tolist() if (fits & (lost <= spare)).any() else ():
        if not (left > 0).any():
            break
        wait_s = (line[here[row]] + 1) * capacity.turn_s[here[row]]
        too_long = as_cheap[row] | (wait_s > limit_s[row])
        open_ = fits[row] & (left > 0) & (lost[row] <= spare) & too_long
        if not open_.any():
            line[here[row]] += 1
            continue
        open_ &= cost[row] <= cost[row, open_].min() * (1 + SAME_COST)
        column = int(np.where(open_, service_s, np.inf).argmin())
        moves[PLANNED if as_cheap[row, column] else BETTER_FULL][int(waits[row])] = column
        left[column] -= 1
        spare -= max(0.0, float(lost[row, column]))
    return plan.moved(moves[PLANNED], PLANNED).moved(moves[BETTER_FULL], BETTER_FULL)


def release_overdue(batch: RoundBatch, plan: Plan) -> Plan:
    """Offer the slots that are still free to calls that have waited long enough.

    After `WaitLimits.for_price_s` a call is offered cores that are no worse than its own planned one, or good
    enough; after `WaitLimits.for_quality_s` any core.
    """
    now_s, limit_s = batch.now_s, batch.limits.for_price_s
    overdue = [row for row, call in enumerate(batch.calls) if now_s - call.arrived_s >= limit_s]
    if not overdue:
        return plan
    sent = plan.is_sent(batch.capacity.free)
    rows = np.array([row for row in overdue if not sent[row]], dtype=np.int64)
    left = np.maximum(batch.capacity.free - plan.load(len(batch.capacity.free)), 0)
    if not rows.size or not left.any():
        return plan
    late = batch.take(rows)
    good = late.candidates.quality >= _least_quality(late, plan.columns[rows])[:, None]
    offered = Candidates(late.candidates.quality, late.candidates.cost, late.candidates.allowed & good)
    problem = offered.problem(
        late.mean_target, quota=left, weight=late.weights, reach_slack=late.target.reach_slack
    )
    found = solve(problem, CLOSE_ENOUGH).core.tolist()
    placed = {row: column for row, column in zip(rows.tolist(), found, strict=True) if column != WAITS}
    return plan.moved(placed, OVERDUE)


PASSES = (optimise, use_idle_slots, release_overdue)


def _choose_few(batch: RoundBatch, ahead: IntArray) -> tuple[list[int], bool] | None:
    """Columns and whether the target is met; None where that is left to the solver."""
    target, calls = batch.target, len(batch)
    # With more than one call some may wait while others do not, which a price distinguishes.
    if calls > 1 and target.price_per_second:
        return None
    return choose_cores(
        batch.candidates.cost,
        batch.candidates.quality,
        batch.candidates.allowed,
        batch.capacity.free + ahead,
        batch.required,
        batch.seconds,
        target.price_per_second,
        target.reach_slack,
    )


def _problem(batch: RoundBatch, ahead: IntArray) -> AssignmentProblem:
    """A core's free slots and those that come free are one quota, unless waiting for them has a price.

    Then they are columns of their own, which takes four times as long or more (see the README).
    """
    target, price, capacity = batch.target, batch.target.price_per_second, batch.capacity
    candidates, quota, seconds = batch.candidates, capacity.free + ahead, batch.seconds
    if price:
        candidates = Candidates(
            np.tile(candidates.quality, 2), np.tile(candidates.cost, 2), np.tile(candidates.allowed, 2)
        )
        quota = np.concatenate([capacity.free, ahead])
        seconds = np.concatenate([capacity.service_s, 2 * capacity.service_s])
    return candidates.problem(
        batch.goal,
        quota=quota,
        target_deficit=batch.deficit,
        weight=batch.weights,
        seconds=seconds,
        price_per_second=price,
        reach_slack=target.reach_slack,
    )


def _spare_quality(batch: RoundBatch, plan: Plan) -> float:
    """Points of quality that a plan promises beyond the target."""
    placed = np.flatnonzero(plan.columns != WAITS)
    return max(0.0, float(promised(batch, plan, placed)[0].sum()) - batch.take(placed).required)


def _least_quality(late: RoundBatch, columns: IntArray) -> FloatArray:
    """The quality that a core must promise to be offered a call that waits for another, shape (calls,)."""
    target = np.array([late.target.of(call) for call in late.calls], dtype=np.float64)
    arrived_s = np.array([call.arrived_s for call in late.calls], dtype=np.float64)
    planned = late.candidates.quality[np.arange(len(columns)), columns]
    anything = (late.now_s - arrived_s >= late.limits.for_quality_s) | (columns == WAITS)
    return np.where(anything, 0.0, np.minimum(target, planned))
