"""One round of stage 2: which of the pending calls goes to which core now, and which waits for which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS, AssignmentProblem, solve
from eccos_aios.schedule.call import Call

CALLS_PER_ROOM = 2  # calls that a round looks at for each that can be placed: the oldest, and some choice
SPARE_CALLS = 64
WAITING_SURCHARGE = 1e-3  # share of a call's cost: enough to break ties, too little to outweigh a price
LEAST_WAITING_COST = 1e-9  # US dollars; breaks ties between cores that are free of charge


@dataclass(frozen=True)
class Placement:
    """A call, and the column of the core that it goes to now."""

    call: Call
    column: int


def plan_round(
    pending: Sequence[Call],
    free: NDArray[np.int64],
    room: NDArray[np.int64],
    quality_target: float,
    now_s: float,
    max_wait_s: float,
    solve_problem: Callable[[AssignmentProblem], NDArray[np.int64]] | None = None,
) -> list[Placement]:
    """Plan over what the cores can take within a horizon, dispatch the part that fits now.

    Solving against the free slots alone sends easy calls to dear cores whenever cheap ones are busy, so
    the plan counts the slots that come free within `max_wait_s` too, as columns of their own that cost a
    little more: of two cores that are as good and as cheap, the free one. Calls that have waited longer
    than that are then offered whatever is still free.

    Parameters
    ----------
    pending : sequence of Call
        Calls with a row of estimates, the oldest first.
    free, room : ndarray of int of shape (cores,)
        Slots that are free now; calls that each core can start within the horizon.
    quality_target : float
        Mean quality to reach, 0 to 1.
    now_s, max_wait_s : float
        Seconds on the monotonic clock; seconds that a call may wait for a busy core.
    solve_problem : callable, optional
        Stage 2; returns the core of each call.

    Returns
    -------
    list of Placement
        The calls to send now; no core gets more than its free slots.
    """
    place = solve_problem or _solved
    considered = list(pending[: CALLS_PER_ROOM * int(room.sum()) + SPARE_CALLS])
    if not considered or not free.any():
        return []
    planned = place(_problem(considered, np.concatenate([free, room - free]), quality_target, now_s))
    left = free.copy()
    placements: list[Placement] = []
    late: list[Call] = []
    for call, planned_column in zip(considered, planned.tolist(), strict=True):
        column = planned_column % len(free)
        if planned_column != WAITS and left[column] > 0:
            left[column] -= 1
            placements.append(Placement(call, column))
        elif now_s - call.arrived_s >= max_wait_s:
            late.append(call)
    if late and left.any():
        columns = place(_problem(late, left, quality_target, now_s)).tolist()
        placements += [
            Placement(call, column) for call, column in zip(late, columns, strict=True) if column != WAITS
        ]
    return placements


def first_free(pending: Sequence[Call], free: NDArray[np.int64]) -> list[Placement]:
    """What stands in for a plan when planning itself failed: the oldest call, its first free core."""
    left = free.copy()
    placements = []
    for call in pending:
        if call.row is None:
            continue
        columns = np.flatnonzero(call.row.allowed & (left > 0))
        if columns.size:
            left[columns[0]] -= 1
            placements.append(Placement(call, int(columns[0])))
    return placements


def _problem(
    calls: Sequence[Call], quota: NDArray[np.int64], quality_target: float, now_s: float
) -> AssignmentProblem:
    """The calls over the cores' free slots and, where `quota` goes on, over those that come free."""
    rows = [call.row for call in calls if call.row is not None]
    cost = np.stack([row.cost for row in rows])
    quality = np.stack([row.quality for row in rows])
    allowed = np.stack([row.allowed for row in rows])
    if len(quota) > cost.shape[1]:
        cost = np.hstack([cost, cost * (1 + WAITING_SURCHARGE) + LEAST_WAITING_COST])
        quality, allowed = np.hstack([quality, quality]), np.hstack([allowed, allowed])
    return AssignmentProblem(
        cost=cost,
        quality=quality,
        quota=quota,
        target=quality_target,
        allowed=allowed,
        weight=np.array([now_s - call.arrived_s for call in calls]),
    )


def _solved(problem: AssignmentProblem) -> NDArray[np.int64]:
    return solve(problem).core
