"""One round of stage 2: which of the pending calls goes to which core now, and which waits for which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS, Assignment, AssignmentProblem, solve
from eccos_aios.schedule.call import Call, EstimateRow

IntArray = NDArray[np.int64]

# Calls that a round plans, from the front of the line: some choice for each slot that is free. Planning all
# of 1,000 pending calls over 16 cores took 230 ms where the target was out of reach, and placed no more.
CALLS_PER_SLOT = 4
SPARE_CALLS = 64


@dataclass(frozen=True)
class Placement:
    """A call, the column of the core that it goes to now, and why.

    Attributes
    ----------
    call : Call
    column : int
    reason : {"planned", "waited long enough", "planning failed"}
    """

    call: Call
    column: int
    reason: str = "planned"


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
    service_s : ndarray of float
        Seconds that a call takes.
    """

    free: IntArray
    soon: IntArray
    later: IntArray
    service_s: NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What a round has to reach.

    Attributes
    ----------
    quality : float
        Mean quality, 0 to 1, for calls that have no target of their own.
    owed : callable
        Points beyond that for a round of so many calls; see `QualityDebt`.
    price_per_second : float
        US dollars that a second until the answer counts for.
    """

    quality: float
    owed: Callable[[int], float]
    price_per_second: float = 0.0

    def of(self, call: Call) -> float:
        """The target of one call."""
        return self.quality if call.quality_target is None else call.quality_target


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

    @property
    def limits_s(self) -> tuple[float, float]:
        """Both."""
        return self.for_price_s, self.for_quality_s


@dataclass(frozen=True)
class Plan:
    """What a round decided.

    Attributes
    ----------
    placements : list of Placement
        The calls to send now; no core gets more than its free slots.
    waiting_for : dict of Call to int
        The column of the busy core that a call waits for.
    fell_back : bool
        Whether the optimiser failed inside, so that its greedy start stands.
    """

    placements: list[Placement]
    waiting_for: dict[Call, int]
    fell_back: bool = False


def plan_round(
    pending: Sequence[Call], capacity: Capacity, target: Target, now_s: float, waiting: Waiting
) -> Plan:
    """Plan over what the cores can take within a horizon, dispatch the part that fits now.

    Solving against the free slots alone sends easy calls to dear cores whenever cheap ones are busy, so
    the plan counts the slots that come free soon too, as columns of their own with the seconds that they
    are away: of two cores that are as good and as cheap, the free one. Where the target is out of reach
    that way, because what is good is busy, the plan looks further ahead. Calls that have waited long
    enough are then offered what is still free.

    Parameters
    ----------
    pending : sequence of Call
        Calls with a row of estimates, who goes first at the front.
    capacity : Capacity
    target : Target
    now_s : float
        Seconds on the monotonic clock.
    waiting : Waiting
    """
    free = capacity.free
    if not pending or not free.any():
        return Plan([], {})
    calls, assignment = _plan(pending, capacity, capacity.soon, target)
    if not assignment.met and (capacity.later > capacity.soon).any():
        calls, assignment = _plan(pending, capacity, capacity.later, target)
    left = free.copy()
    plan = Plan([], {}, assignment.fell_back)
    late: list[tuple[Call, float]] = []
    for call, planned in zip(calls, assignment.core.tolist(), strict=True):
        column = planned % len(free)
        if planned != WAITS and left[column] > 0:
            left[column] -= 1
            plan.placements.append(Placement(call, column))
            continue
        if planned != WAITS:
            plan.waiting_for[call] = column
        if now_s - call.arrived_s >= waiting.for_price_s:
            late.append((call, _least_quality(call, planned, target, now_s, waiting)))
    for placement in _place_late(late, left, target):
        plan.waiting_for.pop(placement.call, None)
        plan.placements.append(placement)
    return plan


def first_free(pending: Sequence[Call], free: IntArray) -> Plan:
    """What stands in for a plan when planning itself failed: the first call, its first free core."""
    left = free.copy()
    plan = Plan([], {})
    for call in pending:
        columns = np.flatnonzero(_row(call).allowed & (left > 0))
        if columns.size:
            left[columns[0]] -= 1
            plan.placements.append(Placement(call, int(columns[0]), "planning failed"))
    return plan


def _plan(
    pending: Sequence[Call], capacity: Capacity, ahead: IntArray, target: Target
) -> tuple[list[Call], Assignment]:
    """Those in front, over the free slots and over those that come free."""
    calls = list(pending[: CALLS_PER_SLOT * int(capacity.free.sum()) + SPARE_CALLS])
    rows = [_row(call) for call in calls]
    cost = np.stack([row.cost for row in rows])
    quality = np.stack([row.quality for row in rows])
    allowed = np.stack([row.allowed for row in rows])
    problem = AssignmentProblem(
        cost=np.hstack([cost, cost]),
        quality=np.hstack([quality, quality]),
        quota=np.concatenate([capacity.free, ahead]),
        target=_mean_target(calls, target),
        target_deficit=target.owed(len(calls)),
        allowed=np.hstack([allowed, allowed]),
        weight=_weights(calls),
        seconds=np.concatenate([capacity.service_s, 2 * capacity.service_s]),
        price_per_second=target.price_per_second,
    )
    return calls, solve(problem)


def _least_quality(call: Call, planned: int, target: Target, now_s: float, waiting: Waiting) -> float:
    """What a core must promise to be offered a call that waits for another one."""
    if now_s - call.arrived_s >= waiting.for_quality_s or planned == WAITS:
        return 0.0
    quality = _row(call).quality
    return min(target.of(call), float(quality[planned % len(quality)]))


def _place_late(late: Sequence[tuple[Call, float]], left: IntArray, target: Target) -> list[Placement]:
    if not late or not left.any():
        return []
    calls = [call for call, _ in late]
    quality = np.stack([_row(call).quality for call in calls])
    least = np.array([least for _, least in late])
    problem = AssignmentProblem(
        cost=np.stack([_row(call).cost for call in calls]),
        quality=quality,
        quota=left,
        target=_mean_target(calls, target),
        allowed=np.stack([_row(call).allowed for call in calls]) & (quality >= least[:, None]),
        weight=_weights(calls),
    )
    columns = solve(problem).core.tolist()
    return [
        Placement(call, column, "waited long enough")
        for call, column in zip(calls, columns, strict=True)
        if column != WAITS
    ]


def _mean_target(calls: Sequence[Call], target: Target) -> float:
    return float(np.mean([target.of(call) for call in calls]))


def _weights(calls: Sequence[Call]) -> NDArray[np.float64]:
    """Who goes first is heaviest."""
    return np.arange(len(calls), 0, -1, dtype=np.float64)


def _row(call: Call) -> EstimateRow:
    if call.row is None:
        raise ValueError("call.row: None: a call must be priced before it is planned")
    return call.row
