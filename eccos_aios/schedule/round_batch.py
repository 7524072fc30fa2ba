"""RoundBatch: the calls at the front of the queue as arrays, with the capacity of the cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eccos_aios.candidates import Candidates
from eccos_aios.plans import AnswerPlan
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, IntArray, Target, WaitLimits
from eccos_aios.schedule.choices import Choices, ChoicesOfOne
from eccos_aios.schedule.plan_rows import BoolArray, FloatArray, PlanOptions

Scalar = TypeVar("Scalar", np.float64, np.bool_)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What the lasting price buys the calls of a round.

    Attributes
    ----------
    quality : ndarray of shape (calls,)
        Of each call's best choice at the price.
    out_of_reach : ndarray of bool of shape (calls,)
        Whether the last calls could not reach the call's target on the mean, at any cost.
    price_per_call : float
        US dollars that an attempt beyond the first counts for.
    """

    quality: FloatArray
    out_of_reach: BoolArray
    price_per_call: float = 0.0

    def take(self, rows: IntArray) -> Wanted:
        """Of some of the calls."""
        return replace(self, quality=self.quality[rows], out_of_reach=self.out_of_reach[rows])


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
    wanted : Wanted or None
        By the price of quality that outlives rounds; None: the calls have to reach their target alone.
    untried : tuple of AnswerPlan
        Plans of several cores that are no options, as too little is known of them, but may be explored.
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
    wanted: Wanted | None = None
    untried: tuple[AnswerPlan, ...] = ()

    @classmethod
    def of(
        cls,
        calls: Sequence[Call],
        capacity: Capacity,
        target: Target,
        limits: WaitLimits | None = None,
        now_s: float = 0.0,
        names: tuple[str, ...] = (),
        spare_calls: float | None = None,
    ) -> RoundBatch:
        """The batch of calls that have a row of estimates; without options where `spare_calls` is None.

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
        options = None if spare_calls is None else PlanOptions.of(rows, names)
        limits = limits or WaitLimits()
        return cls(
            tuple(calls), candidates, capacity, target, limits, now_s, names, options, spare_calls or 0.0
        )

    def take(self, rows: IntArray) -> RoundBatch:
        """The batch of some of the calls."""
        calls = tuple(self.calls[row] for row in rows.tolist())
        candidates = self.candidates.take(rows)
        options = None if self.options is None else self.options.take(rows)
        wanted = None if self.wanted is None else self.wanted.take(rows)
        return replace(self, calls=calls, candidates=candidates, options=options, wanted=wanted)

    def wanting(self, wanted: Wanted | None, untried: tuple[AnswerPlan, ...] = ()) -> RoundBatch:
        """The same batch with what the lasting price buys; `choices` are not made again."""
        batch = object.__new__(RoundBatch)
        batch.__dict__.update(self.__dict__, wanted=wanted, untried=untried)
        return batch

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

    @cached_property
    def choices(self) -> Choices:
        """Cores and plans as columns."""
        return Choices.of(self)

    @cached_property
    def choices_of_one(self) -> ChoicesOfOne:
        """The same where there is one call."""
        return ChoicesOfOne.of(self)

    @property
    def required(self) -> float:
        """The quality that the calls have to reach, as a sum."""
        return self.goal * len(self) + self.deficit

    @property
    def goal(self) -> float:
        """The mean quality of `required`, without what is owed beyond targets; 0 to 1."""
        return self.mean_target if self.wanted is None else sum(self.wanted.quality.tolist()) / len(self)

    @property
    def deficit(self) -> float:
        """Points of quality that the calls owe beyond their targets; what they want allows for it already."""
        return self.target.owed(len(self)) if self.wanted is None else 0.0

    def missing(self, met: bool) -> tuple[int, ...]:
        """The rows of the calls whose target is out of reach; `met`: whether a plan reaches `required`."""
        if not met:
            return tuple(range(len(self)))
        missing = () if self.wanted is None else self.wanted.out_of_reach.tolist()
        return tuple(row for row, is_missing in enumerate(missing) if is_missing)

    @property
    def seconds(self) -> FloatArray:
        """Until each core has answered; one without a free slot answers another call first; (cores,)."""
        return (2.0 - (self.capacity.free > 0)) * self.capacity.service_s

    @property
    def weights(self) -> FloatArray:
        """The earlier in the queue, the heavier; shape (calls,)."""
        return np.arange(len(self.calls), 0, -1, dtype=np.float64)


def estimates_of(call: Call) -> EstimateRow:
    """The call's estimates; ValueError where it has none."""
    if call.row is None:
        raise ValueError("call.row: None: a call needs estimates before it is planned")
    return call.row


def _stacked(rows: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """`numpy.stack` of rows, without its checks of each."""
    if len(rows) == 1:
        return rows[0].reshape(1, -1)
    return np.concatenate(rows).reshape(len(rows), -1)
