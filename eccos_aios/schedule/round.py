"""One round of stage 2: which of the pending calls goes to which core now, and which waits for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS, Assignment, AssignmentProblem, solve
from eccos_aios.schedule.call import Call, EstimateRow

IntArray = NDArray[np.int64]

CALLS_PER_ROOM = 2  # calls that a round looks at for each that can be placed: the oldest, and some choice
SPARE_CALLS = 64
WAITING_SURCHARGE = 1e-3  # share of a call's cost: enough to break ties, too little to outweigh a price
LEAST_WAITING_COST = 1e-9  # US dollars; breaks ties between cores that are free of charge


@dataclass(frozen=True)
class Placement:
    """A call, and the column of the core that it goes to now."""

    call: Call
    column: int


@dataclass(frozen=True)
class Capacity:
    """What the cores can take; every array has shape (cores,).

    Attributes
    ----------
    free : ndarray of int
        Slots that are free now.
    soon : ndarray of int
        Slots that come free within the time that a call may wait to be served cheaper.
    later : ndarray of int
        Slots that come free within the time that a call may wait to be served well enough.
    """

    free: IntArray
    soon: IntArray
    later: IntArray


@dataclass(frozen=True)
class Waiting:
    """How long a call may wait for a core that is busy while another is free, in seconds.

    Attributes
    ----------
    for_price_s : float
        For a cheaper one.
    for_quality_s : float
        For one that is good enough.
    """

    for_price_s: float
    for_quality_s: float


def plan_round(
    pending: Sequence[Call], capacity: Capacity, quality_target: float, now_s: float, waiting: Waiting
) -> list[Placement]:
    """Plan over what the cores can take within a horizon, dispatch the part that fits now.

    Solving against the free slots alone sends easy calls to dear cores whenever cheap ones are busy, so
    the plan counts the slots that come free soon too, as columns of their own that cost a little more: of
    two cores that are as good and as cheap, the free one. Where the target is out of reach that way,
    because what is good is busy, the plan looks further ahead. Calls that have waited long enough are then
    offered what is still free.

    Parameters
    ----------
    pending : sequence of Call
        Calls with a row of estimates, the oldest first.
    capacity : Capacity
    quality_target : float
        Mean quality to reach, 0 to 1.
    now_s : float
        Seconds on the monotonic clock.
    waiting : Waiting

    Returns
    -------
    list of Placement
        The calls to send now; no core gets more than its free slots.
    """
    free = capacity.free
    if not pending or not free.any():
        return []
    calls, plan = _plan(pending, free, capacity.soon, quality_target, now_s)
    if not plan.met and (capacity.later > capacity.soon).any():
        calls, plan = _plan(pending, free, capacity.later, quality_target, now_s)
    left = free.copy()
    placements: list[Placement] = []
    late: list[tuple[Call, float]] = []
    for call, planned in zip(calls, plan.core.tolist(), strict=True):
        column = planned % len(free)
        if planned != WAITS and left[column] > 0:
            left[column] -= 1
            placements.append(Placement(call, column))
        elif now_s - call.arrived_s >= waiting.for_price_s:
            late.append((call, _least_quality(call, planned, quality_target, now_s, waiting)))
    return placements + _place_late(late, left, quality_target, now_s)


def first_free(pending: Sequence[Call], free: IntArray) -> list[Placement]:
    """What stands in for a plan when planning itself failed: the oldest call, its first free core."""
    left = free.copy()
    placements = []
    for call in pending:
        columns = np.flatnonzero(_row(call).allowed & (left > 0))
        if columns.size:
            left[columns[0]] -= 1
            placements.append(Placement(call, int(columns[0])))
    return placements


def _plan(
    pending: Sequence[Call], free: IntArray, ahead: IntArray, quality_target: float, now_s: float
) -> tuple[list[Call], Assignment]:
    """The oldest calls over the free slots and over those that come free."""
    calls = list(pending[: CALLS_PER_ROOM * int(free.sum() + ahead.sum()) + SPARE_CALLS])
    rows = [_row(call) for call in calls]
    cost = np.stack([row.cost for row in rows])
    quality = np.stack([row.quality for row in rows])
    allowed = np.stack([row.allowed for row in rows])
    problem = AssignmentProblem(
        cost=np.hstack([cost, cost * (1 + WAITING_SURCHARGE) + LEAST_WAITING_COST]),
        quality=np.hstack([quality, quality]),
        quota=np.concatenate([free, ahead]),
        target=quality_target,
        allowed=np.hstack([allowed, allowed]),
        weight=_ages(calls, now_s),
    )
    return calls, solve(problem)


def _least_quality(call: Call, planned: int, quality_target: float, now_s: float, waiting: Waiting) -> float:
    """What a core must promise to be offered a call that waits for another one."""
    if now_s - call.arrived_s >= waiting.for_quality_s or planned == WAITS:
        return 0.0
    quality = _row(call).quality
    return min(quality_target, float(quality[planned % len(quality)]))


def _place_late(
    late: Sequence[tuple[Call, float]], left: IntArray, quality_target: float, now_s: float
) -> list[Placement]:
    if not late or not left.any():
        return []
    calls = [call for call, _ in late]
    quality = np.stack([_row(call).quality for call in calls])
    least = np.array([least for _, least in late])
    problem = AssignmentProblem(
        cost=np.stack([_row(call).cost for call in calls]),
        quality=quality,
        quota=left,
        target=quality_target,
        allowed=np.stack([_row(call).allowed for call in calls]) & (quality >= least[:, None]),
        weight=_ages(calls, now_s),
    )
    columns = solve(problem).core.tolist()
    return [Placement(call, column) for call, column in zip(calls, columns, strict=True) if column != WAITS]


def _ages(calls: Sequence[Call], now_s: float) -> NDArray[np.float64]:
    return np.array([now_s - call.arrived_s for call in calls])


def _row(call: Call) -> EstimateRow:
    if call.row is None:
        raise ValueError("call.row: None: a call must be priced before it is planned")
    return call.row
