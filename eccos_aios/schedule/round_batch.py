"""RoundBatch: the calls at the front of the line as arrays, and the core that each is planned at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS, AssignmentProblem, choose_cores, is_out_of_reach, solve
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, IntArray, Target

# Relative gap to the proven bound at which a plan is good enough: estimates err by a hundred times that.
CLOSE_ENOUGH = 1e-3
SAME_COST = 1e-6  # relative: costs closer than that are the same
Scalar = TypeVar("Scalar", np.float64, np.bool_)


class RoundBatch:
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


def planned_columns(front: RoundBatch, capacity: Capacity) -> tuple[list[int], bool]:
    """The core that each call is planned at, or `WAITS`, and whether the optimiser fell back to greedy.

    A core may be planned for more calls than it has free slots; those behind wait for it.
    """
    further = bool((capacity.later > capacity.soon).any())
    few = _columns_of_few(front, capacity, capacity.soon)
    if few is not None and not few[1] and further:
        few = _columns_of_few(front, capacity, capacity.later)
    columns, fell_back = (np.array(few[0]), False) if few else _solved(front, capacity, further)
    if len(front.calls) > 1 and not front.target.price_per_second:
        _use_what_is_idle(front, capacity, columns)
    return columns.tolist(), fell_back


def _solved(front: RoundBatch, capacity: Capacity, further: bool) -> tuple[IntArray, bool]:
    problem = _problem(front, capacity, capacity.soon)
    found = None
    if not (further and is_out_of_reach(problem)):
        found = solve(problem, CLOSE_ENOUGH)
    if found is None or (further and not found.met):
        found = solve(_problem(front, capacity, capacity.later), CLOSE_ENOUGH)
    return np.where(found.core == WAITS, WAITS, found.core % len(capacity.free)), found.fell_back


def estimates_of(call: Call) -> EstimateRow:
    """The call's estimates; ValueError where it has none yet."""
    if call.row is None:
        raise ValueError("call.row: None: a call must be priced before it is planned")
    return call.row


def _seconds(capacity: Capacity) -> NDArray[np.float64]:
    """Until a core has answered; a core without a free slot first has to answer another call."""
    return np.where(capacity.free > 0, 1.0, 2.0) * capacity.service_s


def _columns_of_few(front: RoundBatch, capacity: Capacity, ahead: IntArray) -> tuple[list[int], bool] | None:
    """Columns and whether the target is met; None where that is left to the solver."""
    target, calls = front.target, len(front.calls)
    # With more than one call some may wait while others do not, which a price tells apart.
    if calls > 1 and target.price_per_second:
        return None
    return choose_cores(
        front.cost,
        front.quality,
        front.allowed,
        capacity.free + ahead,
        front.mean_target * calls + target.owed(calls),
        _seconds(capacity),
        target.price_per_second,
    )


def _problem(front: RoundBatch, capacity: Capacity, ahead: IntArray) -> AssignmentProblem:
    """A core's free slots and those that come free are one quota, unless waiting for them has a price.

    Columns of their own for the latter, twice as many and nearly the same, made a round of 1,000 calls over
    16 cores take four times as long or more. On generated loads, 600 calls and fewer to the end, one column
    a core cost 1.7 % less where all prices differ and 1.7 % more where many are the same; quality was as
    high or higher, waits 0.15 s shorter in both.
    """
    target, price = front.target, front.target.price_per_second
    cost, quality, allowed = front.cost, front.quality, front.allowed
    quota, seconds = capacity.free + ahead, _seconds(capacity)
    if price:
        cost, quality, allowed = np.tile(cost, 2), np.tile(quality, 2), np.tile(allowed, 2)
        quota = np.concatenate([capacity.free, ahead])
        seconds = np.concatenate([capacity.service_s, 2 * capacity.service_s])
    return AssignmentProblem(
        cost=cost,
        quality=quality,
        quota=quota,
        target=front.mean_target,
        target_deficit=target.owed(len(front.calls)),
        allowed=allowed,
        weight=front.weights,
        seconds=seconds,
        price_per_second=price,
    )


def _use_what_is_idle(front: RoundBatch, capacity: Capacity, columns: IntArray) -> None:
    """Of two cores that are as cheap, the free one: send calls that would wait there, as far as quality goes.

    What the plan gives beyond the target may be spent on it. `columns` is changed in place.
    """
    placed = np.flatnonzero(columns != WAITS)
    left = capacity.free - np.bincount(columns[placed], minlength=len(capacity.free))
    waits = _waiting(columns, capacity.free)
    if not waits.size or not (left > 0).any():
        return
    here, each = columns[waits], np.arange(len(waits))
    cost, quality = front.cost[waits], front.quality[waits]
    as_cheap = cost <= cost[each, here, None] * (1 + SAME_COST)
    sooner = capacity.service_s < 2 * capacity.service_s[here, None]
    fits = as_cheap & sooner & front.allowed[waits] & (left > 0)
    lost = quality[each, here, None] - quality
    required = front.mean_target * len(placed) + front.target.owed(len(front.calls))
    spare = max(0.0, float(front.quality[placed, columns[placed]].sum()) - required)
    for row in np.flatnonzero(fits.any(axis=1)).tolist():
        open_ = fits[row] & (left > 0) & (lost[row] <= spare)
        if open_.any():
            column = int(np.where(open_, capacity.service_s, np.inf).argmin())
            columns[waits[row]] = column
            left[column] -= 1
            spare -= max(0.0, float(lost[row, column]))


def _waiting(columns: IntArray, free: IntArray) -> NDArray[np.intp]:
    """The calls that stand behind as many others at their core as it has free slots."""
    left, waits = free.tolist(), []
    for row, column in enumerate(columns.tolist()):
        if column != WAITS:
            left[column] -= 1
            if left[column] < 0:
                waits.append(row)
    return np.array(waits, dtype=np.intp)


def _stacked(rows: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """`numpy.stack` of rows, without its care for each of them."""
    return np.concatenate(rows).reshape(len(rows), -1)
