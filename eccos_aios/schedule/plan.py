"""Plan: the core of each call of a round, and which calls are sent there now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.capacity import IntArray
from eccos_aios.schedule.round_batch import RoundBatch

# A round plans this many calls from the front of the queue, so that each free slot has some choice.
CALLS_PER_SLOT = 4
SPARE_CALLS = 64

PLANNED = "planned"
OUT_OF_REACH = "the target is out of reach: the cheapest that is nearly the best"
PLANNING_FAILED = "planning failed"


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
        By row, why a call is where it is, if not because the optimiser planned it there; it appears in
        ``/eccos/decisions``.
    fell_back : bool
        Whether the optimiser failed inside and returned its greedy start.
    """

    columns: IntArray
    reasons: Mapping[int, str] = field(default_factory=dict)
    fell_back: bool = False

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
        return Plan(columns, {**self.reasons, **dict.fromkeys(moves, reason)}, self.fell_back)

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
        return np.bincount(self.columns[self.columns != WAITS], minlength=cores)


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
    """A call that is sent now, the column of its core, why it goes there, and the quality target it had."""

    call: Call
    column: int
    reason: str = PLANNED
    target: float | None = None


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
    for row, (call, column) in enumerate(zip(batch.calls, plan.columns.tolist(), strict=True)):
        if column == WAITS:
            continue
        if left[column] > 0:
            left[column] -= 1
            placements.append(Placement(call, column, plan.reasons.get(row, PLANNED), batch.target.of(call)))
        else:
            waiting_for[call] = column
    return Dispatch(placements, waiting_for, plan.fell_back)


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
    return Plan(chosen, reasons, bool(plan.fell_back))
