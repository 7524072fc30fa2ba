"""One round of stage 2: which of the pending calls goes to which core now, and which waits for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eccos_aios.assign import WAITS, AssignmentProblem, solve
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.capacity import Capacity, IntArray, Target, Waiting
from eccos_aios.schedule.round_batch import CLOSE_ENOUGH, RoundBatch, estimates_of, planned_columns

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
    the plan counts the slots that come free soon too. Of two cores that are as good and as cheap, the free
    one is taken. Where the target is out of reach that way, because what is good is busy, the plan looks
    further ahead. Calls that have waited long enough are then offered what is still free.

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
    front = RoundBatch(pending[: CALLS_PER_SLOT * int(free.sum()) + SPARE_CALLS], target)
    columns, fell_back = planned_columns(front, capacity)
    left = free.copy()
    plan = Plan([], {}, fell_back)
    late: list[tuple[Call, float]] = []
    for call, column in zip(front.calls, columns, strict=True):
        if column != WAITS and left[column] > 0:
            left[column] -= 1
            plan.placements.append(Placement(call, column))
            continue
        if column != WAITS:
            plan.waiting_for[call] = column
        if now_s - call.arrived_s >= waiting.for_price_s:
            late.append((call, _least_quality(call, column, target, now_s, waiting)))
    for placement in _place_late(late, left, target):
        plan.waiting_for.pop(placement.call, None)
        plan.placements.append(placement)
    return plan


def first_free(pending: Sequence[Call], free: IntArray) -> Plan:
    """What stands in for a plan when planning itself failed: the first call, its first free core."""
    left = free.copy()
    plan = Plan([], {})
    for call in pending:
        columns = np.flatnonzero(estimates_of(call).allowed & (left > 0))
        if columns.size:
            left[columns[0]] -= 1
            plan.placements.append(Placement(call, int(columns[0]), "planning failed"))
    return plan


def _least_quality(call: Call, planned: int, target: Target, now_s: float, waiting: Waiting) -> float:
    """What a core must promise to be offered a call that waits for another one."""
    if now_s - call.arrived_s >= waiting.for_quality_s or planned == WAITS:
        return 0.0
    return min(target.of(call), float(estimates_of(call).quality[planned]))


def _place_late(late: Sequence[tuple[Call, float]], left: IntArray, target: Target) -> list[Placement]:
    if not late or not left.any():
        return []
    front = RoundBatch([call for call, _ in late], target)
    least = np.array([least for _, least in late])
    problem = AssignmentProblem(
        cost=front.cost,
        quality=front.quality,
        quota=left,
        target=front.mean_target,
        allowed=front.allowed & (front.quality >= least[:, None]),
        weight=front.weights,
    )
    columns = solve(problem, CLOSE_ENOUGH).core.tolist()
    return [
        Placement(call, column, "waited long enough")
        for call, column in zip(front.calls, columns, strict=True)
        if column != WAITS
    ]
