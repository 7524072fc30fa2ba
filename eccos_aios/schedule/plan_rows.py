"""Estimates of calls over plans of several cores, and plans as options of a round's batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eccos_aios.plans import AnswerPlan
from eccos_aios.plans.plan import FIRST_STAGE, StageMatrices, stage_matrices
from eccos_aios.predict import CallText
from eccos_aios.schedule.call import Call, EstimateRow, PlanRow

if TYPE_CHECKING:
    from eccos_aios.plans import PlanEstimates

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


UNTRIED_REACHED = 0.5  # probability that the last stage is reached, of a plan that nothing is known of


class PlanSource(Protocol):
    """Estimates calls under plans."""

    @property
    def to_explore(self) -> tuple[AnswerPlan, ...]:
        """Plans of which too little is known to estimate them; another object after each fit."""

    def estimate(self, calls: Sequence[CallText]) -> PlanEstimates | None:
        """Estimates; None where only plans of one core are known."""


@dataclass(frozen=True, eq=False)
class PlanTable:
    """Plans of several cores over the columns of a pool; see its attributes.

    Attributes
    ----------
    plans : tuple of AnswerPlan
    chosen : ndarray of int of shape (plans,)
        Their columns in the estimates.
    stages : StageMatrices
        Over the pool's cores.
    position : ndarray of int of shape (cores,)
        Of each core of the pool, its column in the planner's estimates; -1: it does not know the core.
    first, last : ndarray of int of shape (plans,)
        Columns of the core that is asked first and of the core of the last stage.
    """

    plans: tuple[AnswerPlan, ...]
    chosen: IntArray
    stages: StageMatrices
    position: IntArray
    first: IntArray
    last: IntArray


@lru_cache(maxsize=8)
def plan_table(plans: tuple[AnswerPlan, ...], names: tuple[str, ...]) -> PlanTable:
    """The plans of several cores, all of them in a pool of these names."""
    column = {name: number for number, name in enumerate(names)}
    chosen = [
        number
        for number, plan in enumerate(plans)
        if plan.kind != "single" and all(core in column for core in plan.every_core)
    ]
    single = {plan.first: number for number, plan in enumerate(plans) if plan.kind == "single"}
    position = np.array([single.get(name, -1) for name in names], dtype=np.int64)
    staged = tuple(plans[number] for number in chosen)
    stages = stage_matrices(staged, names)
    first = np.array([column[plan.first] for plan in staged], dtype=np.int64)
    last = np.array([column[plan.otherwise or ""] for plan in staged], dtype=np.int64)
    return PlanTable(staged, np.array(chosen, dtype=np.int64), stages, position, first, last)


class PlanPromise(NamedTuple):
    """What a call may expect of a plan of several cores: quality, 0 to 1; US dollars; cores asked."""

    quality: float
    cost: float
    calls: float


def promise_of(row: EstimateRow, plan: AnswerPlan, names: Sequence[str]) -> PlanPromise:
    """The estimates of a plan for a call; of one that is only explored, a guess from those of its cores.

    Parameters
    ----------
    row : EstimateRow
        Of the call.
    plan : AnswerPlan
        Of several cores.
    names : sequence of str
        Names of the pool's cores, in the order of the row's columns.
    """
    known = row.plans
    if known is not None and plan in known.plans:
        option = known.plans.index(plan)
        found = known.quality[option], known.cost[option], known.calls[option]
        return PlanPromise(*map(float, found))
    columns = [names.index(core) for core in plan.every_core]
    first = columns[: FIRST_STAGE[plan.kind]]
    quality = (1 - UNTRIED_REACHED) * row.quality[first].mean() + UNTRIED_REACHED * row.quality[columns[-1]]
    cost = row.cost[first].sum() + UNTRIED_REACHED * row.cost[columns[-1]]
    return PlanPromise(float(quality), float(cost), len(first) + UNTRIED_REACHED)


def attach_plans(calls: Sequence[Call], found: PlanEstimates, names: tuple[str, ...]) -> None:
    """Give calls that have a row of estimates the estimates of plans.

    A plan's quality is the planner's, corrected by what the scheduler's predictor expects of the plan's cores
    beyond the planner, each by the probability that its answer is given: so both follow a core that
    changes, and a plan is compared with cores by one measure. Its cost is the sum of its stages' costs by
    the call's own row, each by the probability that it is reached.

    Parameters
    ----------
    calls : sequence of Call
        In the order of the rows of `found`.
    found : PlanEstimates
    names : tuple of str
        Names of the pool's cores.
    """
    table = plan_table(found.plans, names)
    if not table.plans:
        return
    rows = [call.row for call in calls if call.row is not None]
    quality = np.array([row.quality for row in rows])
    cost = np.array([row.cost for row in rows])
    allowed = np.array([row.allowed for row in rows], dtype=np.float64)
    known = table.position >= 0
    beyond = np.where(known, quality - found.quality.take(table.position, axis=1), 0.0)
    reached = found.reached.take(table.chosen, axis=1)
    middle = found.middle.take(table.chosen, axis=1)
    stages = table.stages
    beyond_first = np.where(stages.has_middle, middle, reached)
    by_stage = stages.by_stage(beyond)
    correction = (1.0 - beyond_first) * by_stage[:, 0] / stages.asked_first
    correction += np.maximum(beyond_first - reached, 0.0) * by_stage[:, 1]
    correction += reached * by_stage[:, 2]
    plan_quality = np.minimum(np.maximum(found.quality.take(table.chosen, axis=1) + correction, 0.0), 1.0)
    plan_cost = stages.sums(cost, middle, reached)
    may = stages.by_stage(allowed).sum(axis=1) >= stages.cores
    asked = stages.asked_first + middle + reached
    for position, (call, row) in enumerate(zip(calls, rows, strict=True)):
        plans = PlanRow(
            table.plans,
            plan_quality[position],
            plan_cost[position],
            asked[position],
            reached[position],
            may[position],
        )
        call.row = replace(row, plans=plans)


@dataclass(frozen=True, eq=False)
class PlanOptions:
    """What a round may choose for its calls besides a core; arrays have shape (calls, plans).

    Attributes
    ----------
    plans : tuple of AnswerPlan
        Of several cores.
    first, last : ndarray of int of shape (plans,)
        Columns of the core that is asked first and of the core of the last stage.
    quality, cost, calls, reached : ndarray
        As in `PlanRow`.
    allowed : ndarray of bool
    """

    plans: tuple[AnswerPlan, ...]
    first: IntArray
    last: IntArray
    quality: FloatArray
    cost: FloatArray
    calls: FloatArray
    reached: FloatArray
    allowed: BoolArray

    @classmethod
    def of(cls, rows: Sequence[EstimateRow], names: tuple[str, ...]) -> PlanOptions | None:
        """The options of calls with these estimates; None where no call has any.

        Plans that only calls estimated before the last fit know are left out.
        """
        newest = next((row.plans for row in reversed(rows) if row.plans is not None), None)
        if newest is None:
            return None
        plans = newest.plans
        given = [row.plans if row.plans is not None and row.plans.plans == plans else None for row in rows]
        nothing = np.zeros(len(plans))
        none = PlanRow(plans, nothing, nothing, nothing, nothing, np.zeros(len(plans), dtype=np.bool_))
        filled = [none if each is None else each for each in given]
        table = plan_table(plans, names)
        return cls(
            plans,
            table.first,
            table.last,
            np.array([each.quality for each in filled]),
            np.array([each.cost for each in filled]),
            np.array([each.calls for each in filled]),
            np.array([each.reached for each in filled]),
            np.array([each.allowed for each in filled], dtype=np.bool_),
        )

    def take(self, rows: IntArray) -> PlanOptions:
        """The options of some of the calls."""
        arrays = (self.quality, self.cost, self.calls, self.reached, self.allowed)
        return PlanOptions(self.plans, self.first, self.last, *(array[rows] for array in arrays))  # type: ignore[arg-type]
