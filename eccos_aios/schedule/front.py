"""Front: the calls at the front of the line as arrays, and the core that each is planned at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS, Assignment, AssignmentProblem, choose_core, is_out_of_reach, solve
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, IntArray, Target

# Relative gap to the proven bound at which a plan is good enough: estimates err by a hundred times that.
CLOSE_ENOUGH = 1e-3
SAME_COST = 1e-6  # relative: costs closer than that are the same
Scalar = TypeVar("Scalar", np.float64, np.bool_)


class Front:
    """Calls with their estimates stacked.

    Parameters
    ----------
    calls : sequence of Call
        Each has a row of estimates; who goes first at the front. There is one at least.
    target : Target

    Attributes
    ----------
    calls : list of Call
    cost, quality, allowed : ndarray of shape (calls, cores)
    mean_target : float
        Of the calls' own targets.
    """

    def __init__(self, calls: Sequence[Call], target: Target) -> None:
        self.calls = list(calls)
        self.target = target
        rows = [estimates_of(call) for call in self.calls]
        self.cost = _stacked([row.cost for row in rows])
        self.quality = _stacked([row.quality for row in rows])
        self.allowed = _stacked([row.allowed for row in rows])
        self.mean_target = sum(map(target.of, self.calls)) / len(rows)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Who goes first is heaviest."""
        return np.arange(len(self.calls), 0, -1, dtype=np.float64)


def planned_columns(front: Front, capacity: Capacity) -> tuple[list[int], bool]:
    """The core that each call is planned at, or `WAITS`, and whether the optimiser fell back to greedy.

    A core may be planned for more calls than it has free slots; those behind wait for it.
    """
    further = bool((capacity.later > capacity.soon).any())
    if len(front.calls) == 1:
        column, met = _column_of_one(front, capacity, capacity.soon)
        if not met and further:
            column, _ = _column_of_one(front, capacity, capacity.later)
        return [column], False
    problem = _problem(front, capacity, capacity.soon)
    if further and is_out_of_reach(problem):
        ahead, found = capacity.later, solve(_problem(front, capacity, capacity.later), CLOSE_ENOUGH)
    else:
        ahead, found = capacity.soon, solve(problem, CLOSE_ENOUGH)
        if not found.met and further:
            ahead, found = capacity.later, solve(_problem(front, capacity, ahead), CLOSE_ENOUGH)
    cores = len(capacity.free)
    columns = np.where(found.core == WAITS, WAITS, found.core % cores)
    if not front.target.price_per_second:
        _use_what_is_idle(front, capacity, columns, found)
    return columns.tolist(), found.fell_back


def estimates_of(call: Call) -> EstimateRow:
    """The call's estimates; ValueError where it has none yet."""
    if call.row is None:
        raise ValueError("call.row: None: a call must be priced before it is planned")
    return call.row


def _seconds(capacity: Capacity) -> NDArray[np.float64]:
    """Until a core has answered; a core without a free slot first has to answer another call."""
    return np.where(capacity.free > 0, 1.0, 2.0) * capacity.service_s


def _column_of_one(front: Front, capacity: Capacity, ahead: IntArray) -> tuple[int, bool]:
    target = front.target
    return choose_core(
        front.cost[0],
        front.quality[0],
        front.allowed[0] & (capacity.free + ahead > 0),
        front.mean_target + target.owed(1),
        _seconds(capacity),
        target.price_per_second,
    )


def _problem(front: Front, capacity: Capacity, ahead: IntArray) -> AssignmentProblem:
    """A core's free slots and those that come free are one quota, unless waiting for them has a price.

    With columns of their own for the latter, twice as many and nearly the same, a round of 1,000 calls over
    16 cores took three to five times as long and placed no better.
    """
    target, price = front.target, front.target.price_per_second
    quota, seconds, copies = capacity.free + ahead, _seconds(capacity), 1
    if price:
        quota = np.concatenate([capacity.free, ahead])
        seconds, copies = np.concatenate([capacity.service_s, 2 * capacity.service_s]), 2
    return AssignmentProblem(
        cost=np.tile(front.cost, copies),
        quality=np.tile(front.quality, copies),
        quota=quota,
        target=front.mean_target,
        target_deficit=target.owed(len(front.calls)),
        allowed=np.tile(front.allowed, copies),
        weight=front.weights,
        seconds=seconds,
        price_per_second=price,
    )


def _use_what_is_idle(front: Front, capacity: Capacity, columns: IntArray, found: Assignment) -> None:
    """Of two cores that are as cheap, the free one: send calls that would wait there, as far as quality goes.

    What the plan gives beyond the target may be spent on it. `columns` is changed in place.
    """
    left = capacity.free - np.bincount(columns[columns != WAITS], minlength=len(capacity.free))
    waits = _waiting(columns, capacity.free)
    if not waits.size or not (left > 0).any():
        return
    here = columns[waits]
    each = np.arange(len(waits))
    cost, quality = front.cost[waits], front.quality[waits]
    as_cheap = cost <= cost[each, here, None] * (1 + SAME_COST)
    sooner = capacity.service_s < 2 * capacity.service_s[here, None]
    fits = as_cheap & sooner & front.allowed[waits] & (left > 0)
    lost = quality[each, here, None] - quality
    placed = int((columns != WAITS).sum())
    required = front.mean_target * placed + front.target.owed(len(front.calls))
    spare = max(0.0, found.quality * placed - required)
    for row in np.flatnonzero(fits.any(axis=1)).tolist():
        open_ = fits[row] & (left > 0) & (lost[row] <= spare)
        if open_.any():
            column = int(np.where(open_, capacity.service_s, np.inf).argmin())
            columns[waits[row]] = column
            left[column] -= 1
            spare -= max(0.0, float(lost[row, column]))


def _waiting(columns: IntArray, free: IntArray) -> NDArray[np.intp]:
    """The calls that stand behind as many others at their core as it has free slots."""
    waits = np.zeros(len(columns), dtype=np.bool_)
    for core in range(len(free)):
        waits[np.flatnonzero(columns == core)[free[core] :]] = True
    return np.flatnonzero(waits)


def _stacked(rows: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """`numpy.stack` of rows, without its care for each of them."""
    return np.concatenate(rows).reshape(len(rows), -1)
