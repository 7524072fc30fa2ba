"""Plan: the core of each call of a round, and which calls are sent there now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS
from eccos_aios.plans import AnswerPlan
from eccos_aios.plans.plan import FIRST_STAGE
from eccos_aios.reasons import NEXT_STAGE, PLANNING_FAILED
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.capacity import Capacity, IntArray
from eccos_aios.schedule.round_batch import RoundBatch

# A round plans this many calls from the front of the queue, so that each free slot has some choice.
CALLS_PER_SLOT = 4
SPARE_CALLS = 64

PLANNED = "planned"  # by the optimiser; `with_reasons` tells why


@dataclass(frozen=True, eq=False)
class Plan:
    """The core that each call of a `RoundBatch` is sent to, or waits for.

    A core may be planned for more calls than it has free slots: the first of them in the queue are sent, as
    many as fit, and the others wait for it. So no plan can break a quota.

    Attributes
    ----------
    columns : ndarray of int of shape (calls,)
        Column of the core; `eccos_aios.assign.WAITS` for a call that waits for any core. Change a
        copy, as `moved` does.
    reasons : mapping of int to str
        By row, why a call is where it is; it appears in ``/eccos/decisions``. One that the optimiser
        planned gets its reason once the plan is finished, see `with_reasons`.
    fell_back : bool
        Whether the optimiser failed inside and returned its greedy start.
    staged : mapping of int to AnswerPlan
        By row, the plan of several cores that answers a call; its first core is that of `columns`. A call
        that is moved to another core is answered by that one alone.
    """

    columns: IntArray
    reasons: Mapping[int, str] = field(default_factory=dict)
    fell_back: bool = False
    staged: Mapping[int, AnswerPlan] = field(default_factory=dict)

    def moved(self, moves: Mapping[int, int], reason: str) -> Plan:
        """The plan with some calls elsewhere.

        Parameters
        ----------
        moves : mapping of int to int
            By row, the new column, or `WAITS`.
        reason : str
        """
        if not moves:
            return self
        columns = self.columns.copy()
        columns[list(moves)] = list(moves.values())
        staged = self.staged and {
            row: plan for row, plan in self.staged.items() if columns[row] == self.columns[row]
        }
        return Plan(columns, {**self.reasons, **dict.fromkeys(moves, reason)}, self.fell_back, staged)

    def is_sent(self, free: IntArray) -> list[bool]:
        """Whether each call is sent now.

        Parameters
        ----------
        free : ndarray of int of shape (cores,)
            Free slots.
        """
        left, sent = free.tolist(), []
        for column in self.columns.tolist():
            fits = column != WAITS and left[column] > 0
            if fits:
                left[column] -= 1
            sent.append(fits)
        return sent

    def load(self, cores: int) -> IntArray:
        """Number of calls planned for each core, shape (cores,)."""
        load = [0] * (cores + 1)
        for column in self.columns.tolist():
            load[column] += 1  # the last one's is of those that wait for any core
        return np.array(load[:cores], dtype=np.int64)


@lru_cache(maxsize=64)
def undecided(calls: int) -> Plan:
    """The plan by which all calls wait."""
    columns = np.full(calls, WAITS, dtype=np.int64)
    columns.setflags(write=False)
    return Plan(columns)


Pass = Callable[[RoundBatch, Plan], Plan]
"""One step of planning: returns the plan, or a changed copy of it."""


@dataclass(frozen=True)
class Placement:
    """A call that is sent now.

    Attributes
    ----------
    call : Call
    column : int
        Of its core; with a plan, of the core that is asked first.
    reason : str
        Why it goes there.
    target : float or None
        The quality target it had.
    plan : AnswerPlan or None
        Of several cores.
    beside : int or None
        Column of the plan's second core, where that has a free slot and is asked at the same time.
    """

    call: Call
    column: int
    reason: str = PLANNED
    target: float | None = None
    plan: AnswerPlan | None = None
    beside: int | None = None


@dataclass(frozen=True)
class Dispatch:
    """The decisions of a round.

    Attributes
    ----------
    placements : list of Placement
        The calls to send now, in the order of the queue; no core gets more than its free slots.
    waiting_for : dict of Call to int
        The column of the busy core that a call waits for.
    fell_back : bool
        Whether the optimiser failed inside and returned its greedy start.
    """

    placements: list[Placement]
    waiting_for: dict[Call, int]
    fell_back: bool = False


def dispatch_of(batch: RoundBatch, plan: Plan) -> Dispatch:
    """The calls that a plan sends now, and those that it lets wait."""
    placements: list[Placement] = []
    waiting_for: dict[Call, int] = {}
    left = batch.capacity.free.tolist()
    target = batch.target
    for row, (call, column) in enumerate(zip(batch.calls, plan.columns.tolist(), strict=True)):
        if column == WAITS:
            continue
        if left[column] > 0:
            left[column] -= 1
            reason, staged = plan.reasons.get(row, PLANNED), plan.staged.get(row)
            placements.append(Placement(call, column, reason, target.of(call), staged))
        else:
            waiting_for[call] = column
    if plan.staged:
        placements = [_with_second(placement, batch.names, left) for placement in placements]
    return Dispatch(placements, waiting_for, plan.fell_back)


def place_stages(calls: Sequence[Call], columns: Mapping[str, int], capacity: Capacity) -> Dispatch:
    """Send calls at a later stage of their plans to the cores that they wait for; takes the free slots."""
    placements: list[Placement] = []
    waiting_for: dict[Call, int] = {}
    for call in calls:
        column = columns.get(call.awaited_core or "") if call.in_stages else None
        if column is None:
            continue
        if capacity.free[column] > 0:
            capacity.free[column] -= 1
            placements.append(Placement(call, column, NEXT_STAGE))
        else:
            waiting_for[call] = column
    return Dispatch(placements, waiting_for)


def _with_second(placement: Placement, names: tuple[str, ...], left: list[int]) -> Placement:
    """The placement with the plan's second core, where a slot of it is left, which is then taken."""
    plan = placement.plan
    if plan is None or FIRST_STAGE[plan.kind] < 2:
        return placement
    column = names.index(plan.cores[1])
    if left[column] < 1:
        return placement
    left[column] -= 1
    return replace(placement, beside=column)


def first_free(batch: RoundBatch) -> Plan:
    """The plan that stands in where the optimiser failed: the first call, its first free core."""
    left, columns = batch.capacity.free.copy(), np.full(len(batch), WAITS, dtype=np.int64)
    for row, allowed in enumerate(batch.candidates.allowed):
        found = np.flatnonzero(allowed & (left > 0))
        if found.size:
            columns[row] = found[0]
            left[found[0]] -= 1
    return Plan(columns, dict.fromkeys(range(len(batch)), PLANNING_FAILED))


def checked_plan(batch: RoundBatch, plan: object) -> Plan:
    """A copy of the plan that a user's pass returned.

    Raises
    ------
    TypeError, ValueError
        It is no plan of this batch, or sends a call to a core that may not take it.
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"{type(plan).__name__}: a pass must return a Plan")
    columns: NDArray[np.generic] = np.asarray(plan.columns)
    if columns.shape != (len(batch),) or not np.issubdtype(columns.dtype, np.integer):
        expected = f"must be integers of shape ({len(batch)},)"
        raise ValueError(f"columns: {columns.dtype} of shape {columns.shape}: {expected}")
    chosen, cores = columns.astype(np.int64), len(batch.capacity.free)
    for row, column in enumerate(chosen.tolist()):
        if not WAITS <= column < cores:
            raise ValueError(f"columns[{row}]: {column}: must be a column from {WAITS} to {cores - 1}")
        if column != WAITS and not batch.candidates.allowed[row, column]:
            raise ValueError(f"columns[{row}]: {column}: this core may not take the call")
    reasons = {int(row): str(reason) for row, reason in plan.reasons.items()}
    staged = {
        row: staged
        for row, staged in plan.staged.items()
        if _may_follow(batch, row, staged, int(chosen[row]))
    }
    return Plan(chosen, reasons, bool(plan.fell_back), staged)


def _may_follow(batch: RoundBatch, row: int, staged: AnswerPlan, column: int) -> bool:
    """Whether a call may get this plan, and goes to its first core."""
    if column == WAITS or batch.names[column] != staged.first:
        return False
    if staged in batch.untried:
        return bool(
            batch.candidates.allowed[row, [batch.names.index(core) for core in staged.every_core]].all()
        )
    options = batch.options
    return (
        options is not None
        and staged in options.plans
        and bool(options.allowed[row, options.plans.index(staged)])
    )
