"""RoundBatch: the calls at the front of the queue as arrays, with the capacity of the cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eccos_aios.candidates import Candidates
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, IntArray, Target, WaitLimits
from eccos_aios.schedule.plan_rows import PlanOptions

Scalar = TypeVar("Scalar", np.float64, np.bool_)


@dataclass(frozen=True, eq=False)
class RoundBatch:
    """The input of a round's passes.

    Attributes
    ----------
    calls : tuple of Call
        At least one, in the order of the queue.
    candidates : Candidates
        Their estimates and limits, arrays of shape (calls, cores).
    capacity : Capacity
        Slots and service times of the cores, arrays of shape (cores,).
    target : Target
    limits : WaitLimits
    now_s : float
        Seconds on the scheduler's clock.
    names : tuple of str
        Names of the cores, in the order of the columns.
    options : PlanOptions or None
        Plans of several cores that calls may get; None where there are none.
    spare_calls : float
        Attempts beyond one a call that the plans of the round may add.
    """

    calls: tuple[Call, ...]
    candidates: Candidates
    capacity: Capacity
    target: Target
    limits: WaitLimits = WaitLimits()  # noqa: RUF009 - is frozen
    now_s: float = 0.0
    names: tuple[str, ...] = ()
    options: PlanOptions | None = None
    spare_calls: float = 0.0

    @classmethod
    def of(
        cls,
        calls: Sequence[Call],
        capacity: Capacity,
        target: Target,
        limits: WaitLimits | None = None,
        now_s: float = 0.0,
        names: tuple[str, ...] = (),
        spare_calls: float = 0.0,
    ) -> RoundBatch:
        """The batch of calls that have a row of estimates.

        Raises
        ------
        ValueError
            A call has none.
        """
        rows = [estimates_of(call) for call in calls]
        candidates = Candidates(
            quality=_stacked([row.quality for row in rows]),
            cost=_stacked([row.cost for row in rows]),
            allowed=_stacked([row.allowed for row in rows]),
        )
        options = PlanOptions.of(rows, names) if spare_calls > 0 else None
        limits = limits or WaitLimits()
        return cls(tuple(calls), candidates, capacity, target, limits, now_s, names, options, spare_calls)

    def take(self, rows: IntArray) -> RoundBatch:
        """The batch of some of the calls."""
        calls = tuple(self.calls[row] for row in rows.tolist())
        candidates = self.candidates.take(rows)
        options = None if self.options is None else self.options.take(rows)
        return replace(self, calls=calls, candidates=candidates, options=options)

    def lock(self) -> None:
        """Make the arrays read-only: a pass that wrote to them would undo the check of its plan."""
        given, capacity = self.candidates, self.capacity
        for array in (given.quality, given.cost, given.allowed, capacity.free, capacity.soon, capacity.later):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def cores(self) -> int:
        """Number of cores."""
        return len(self.capacity.free)

    @cached_property
    def mean_target(self) -> float:
        """Mean of the calls' own quality targets."""
        return sum(map(self.target.of, self.calls)) / len(self.calls)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The earlier in the queue, the heavier; shape (calls,)."""
        return np.arange(len(self.calls), 0, -1, dtype=np.float64)


def estimates_of(call: Call) -> EstimateRow:
    """The call's estimates; ValueError where it has none."""
    if call.row is None:
        raise ValueError("call.row: None: a call needs estimates before it is planned")
    return call.row


def _stacked(rows: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """`numpy.stack` of rows, without its checks of each."""
    return np.concatenate(rows).reshape(len(rows), -1)
