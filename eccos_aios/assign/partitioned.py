"""Stage 2 for a batch in parts: the same problem as `solve`, from sums over parts and a few calls.

Prices from a sample of the calls are refined on all of them, as in `duals`, whose derivatives are sums. At
fixed prices each part then places its calls, and leaves open those that belong elsewhere nearly as well.
These are solved exactly, here, within what the others leave of the quotas and of the requirement.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from eccos_aios.assign import duals
from eccos_aios.assign import parts as on_part
from eccos_aios.assign.admission import admitted_counts
from eccos_aios.assign.duals import COOLING, Derivatives, climb, smoothed_prices
from eccos_aios.assign.instance import TIE_VALUE, Instance, most_gain_bound
from eccos_aios.assign.parts import Admitted, Doubts, Drawn, Multipliers, Objective, Part, Survey
from eccos_aios.assign.problem import (
    REACH_SLACK,
    TOLERANCE,
    Assignment,
    AssignmentProblem,
    DualPrices,
    FloatArray,
    IntArray,
)
from eccos_aios.assign.refine import refine
from eccos_aios.assign.solver import FAILURES, solve

log = logging.getLogger(__name__)

MOST_OPEN = 32_768  # calls that fixed prices leave open; a batch of no more is solved as a whole
SAMPLE = 16_384  # calls from which the first prices come
SAMPLE_UNDECIDED = 0.05  # share of the sample that its prices leave undecided
WIDER = 4  # times as many calls are left open where they are too few to hold the limits
CLOSE_SHARE = 1 / 32  # of the open calls, over the cores: a load may be that far off
DAMPINGS = (*duals.DAMPINGS, 1e3, 3e4)  # where many calls are tied, a step may be far too long
POOR = 1e-3  # relative gap from which on all calls are solved here, if they fit
WHOLE_CELLS = 2**25  # calls × cores that fit
GOOD = 1e-4  # relative gap from which on more calls are left open to close it
CLOSE_GAIN = 0.1  # of the range of gain, that an open call may supply
CLOSE = 1e-6  # of the bound: the calls that prices place may exceed it by that much
HEATING = COOLING**2
MOST_HEATINGS = 2
MOST_STAGES = 24


class Parts(Protocol):
    """The parts of a batch, wherever they are. Results come in the order of the parts."""

    def each(
        self, work: Callable[..., Any], *several: Sequence[Any], common: Sequence[Any] = ()
    ) -> list[Any]:
        """``work(part, …, *common)`` on each part, with an item of each of `several` in between."""

    def keep(
        self, work: Callable[..., Any], *several: Sequence[Any], common: Sequence[Any] = ()
    ) -> tuple[list[Any], list[Any]]:
        """The same for work that returns two things: the first stays with the part.

        A handle comes in its place, which may be an item of `several` later.
        """


@dataclass(frozen=True, eq=False)
class PartedAssignment:
    """Where the calls of all parts go.

    Attributes
    ----------
    assignment : Assignment
        Its figures; without `core`.
    load : ndarray of shape (M,)
        Calls by core.
    cores : list
        A handle for each part to the cores of its calls, shape (calls,), `WAITS` where it has none.
    """

    assignment: Assignment
    load: IntArray
    cores: list[Any]


@dataclass(frozen=True)
class _Opening:
    """Which calls are left open: all of a greater doubt, a share of those of this one.

    `excess` is by how much the others exceed the bound.
    """

    doubt: int
    share: float
    excess: float


@dataclass(frozen=True, eq=False)
class _Found:
    """Groups of cores for all placed calls: as drawn by each part, and of those that it left open."""

    drawn: list[Any]
    settled: list[IntArray]
    load: list[IntArray]
    gain: float
    score: float
    bound: float
    prices: DualPrices

    @property
    def gap(self) -> float:
        """Relative distance of the minimised sum from its bound."""
        over = self.score - self.bound
        return over / abs(self.bound) if self.bound else over


class PartedProblem:
    """A batch in parts, surveyed once, to be assigned at any target or budget.

    Parameters
    ----------
    parts : Parts
        Of `Part`.
    quota : ndarray of shape (M,)
        Calls of the whole batch that each core may take.
    most_open : int
        Calls that are solved here.
    """

    def __init__(self, parts: Parts, quota: IntArray, most_open: int = MOST_OPEN) -> None:
        self.parts = parts
        self.surveys: list[Survey] = parts.each(on_part.survey)
        self.calls = sum(each.calls for each in self.surveys)
        self._most_open = most_open
        self._quota = np.minimum(quota, self.calls)
        self._admitted, self.placed = self._admit()
        self._twins = self._twin_cores()
        self._group_quota = np.minimum([int(each.sum()) for _, each in self._twins], self.placed)

    def solve(
        self,
        *,
        target: float = 0.0,
        budget: float | None = None,
        reach_slack: float = REACH_SLACK,
    ) -> PartedAssignment:
        """Assign the batch; parameters and result as in `AssignmentProblem` and `solve`."""
        if self.placed <= self._most_open:
            return self._solved_whole(target, budget, reach_slack)
        objective = Objective(tuple(int(cores[0]) for cores, _ in self._twins), budget is not None)
        if budget is None:
            required = (target - 0.5 * TOLERANCE) * self.placed
        else:
            required = -budget * (1.0 + 0.5 * TOLERANCE)
        found = self._best(objective, required, reach_slack * self.placed if budget is None else None)
        if found is None:
            return self._solved_whole(target, budget, reach_slack)
        return self._described(found, target, budget)

    def _admit(self) -> tuple[list[Admitted], int]:
        """Which calls are placed, and how many."""
        kinds = np.unique(np.concatenate([each.kinds for each in self.surveys]), axis=0)
        place = {kind.tobytes(): number for number, kind in enumerate(kinds)}
        number_of = [[place[kind.tobytes()] for kind in each.kinds] for each in self.surveys]
        counts = []
        for each, numbers in zip(self.surveys, number_of, strict=True):
            count = np.zeros(len(kinds), dtype=np.int64)
            count[numbers] = each.counts
            counts.append(count)

        def run(part: int) -> IntArray:
            wanted = [number == part for number in range(len(counts))]
            kind = next(each for each in self.parts.each(_kinds_if, wanted) if each is not None)
            numbers: IntArray = np.array(number_of[part])[kind]
            return numbers

        taken = admitted_counts(kinds, counts, self._quota, run)
        able = kinds.any(axis=1)
        admitted, begin = [], 0
        for count, first, numbers in zip(counts, taken, number_of, strict=True):
            everything = bool((count[able] == first[able]).all())
            admitted.append(Admitted(None if everything else first[numbers], begin))
            begin += int(first.sum())
        return admitted, begin

    def _twin_cores(self) -> list[tuple[IntArray, IntArray]]:
        """For each group of identical cores these and their quotas."""
        alike: dict[tuple[bytes, ...], list[int]] = {}
        for core in range(len(self._quota)):
            alike.setdefault(tuple(each.columns[core] for each in self.surveys), []).append(core)
        return [(np.array(cores), self._quota[cores]) for cores in alike.values()]

    def _best(self, objective: Objective, required: float, slack: float | None) -> _Found | None:
        """The least value that gains what is required, or else as much as is within reach.

        None where all calls have to be solved at once.
        """
        if not self._beyond_reach(objective, required):
            found = self._attempts(objective, required)
            if found is not None:
                return None if found.gap > POOR and self._fits_here else found
        most = self._attempts(replace(objective, tie_weight=self._tie_weight(objective)), 0.0)
        if most is None or most.gain >= required:
            if self._fits_here:
                return None
            log.warning("prices do not decide between enough calls: far from the least cost")
            return most
        if slack:
            within = self._attempts(objective, most.gain - slack)
            most = most if within is None else within
        return replace(most, bound=np.inf)

    @property
    def _fits_here(self) -> bool:
        return self.placed * len(self._quota) <= WHOLE_CELLS

    def _beyond_reach(self, objective: Objective, required: float) -> bool:
        """Whether the requirement is out of reach for certain, whatever the quotas, or on a sample."""
        if all(each.first is None for each in self._admitted):
            best = [-each.least_cost if objective.budgeted else each.most_quality for each in self.surveys]
            if sum(best) < required:
                return True
        sample = self._sample(objective, required)
        return bool(most_gain_bound(sample) < sample.required)

    def _tie_weight(self, objective: Objective) -> float:
        value, gain = self._ranges(objective)
        return TIE_VALUE * (gain or 1.0) / (value or 1.0)

    def _ranges(self, objective: Objective) -> tuple[float, float]:
        """Greatest less least value, and gain."""
        ranges = np.array([each.value_range for each in self.surveys])
        cost, quality = (
            float(ranges[:, high].max() - ranges[:, low].min()) for low, high in ((0, 1), (2, 3))
        )
        return (quality, cost) if objective.budgeted else (cost, quality)

    def _attempts(self, objective: Objective, required: float) -> _Found | None:
        """An assignment by fixed prices, a second time with more calls left open where that may help."""
        best: _Found | None = None
        for most_open in (self._most_open, WIDER * self._most_open):
            if most_open >= self.placed:
                break
            found = self._attempt(objective, required, most_open)
            if found is not None and (best is None or found.gap < best.gap):
                best = found
            if best is not None and best.gap <= GOOD:
                break
        return best

    def _attempt(self, objective: Objective, required: float, most_open: int) -> _Found | None:
        """None where the calls that are left open cannot hold the quotas, or gain what is required."""
        prices, opening, bound = self._prices(objective, required, most_open)
        cores, drawn = self.parts.keep(
            on_part.draw, self._admitted, common=(objective, prices, opening.doubt, opening.share)
        )
        left = self._left(drawn, required)
        if (left.quota < 0).any():
            return None
        try:
            refined = refine(left)
        except FAILURES as error:
            log.warning("refinement failed (%s): more calls are left open", type(error).__name__)
            return None
        if not np.isfinite(refined.bound):
            return None
        exact = Multipliers(refined.price, refined.slot_price)
        least = self.parts.each(on_part.least_sum, self._admitted, common=(objective, exact))
        bound = max(bound, self._bound(sum(least), exact, required))
        score = left.value_of(refined.core) + sum(each.score for each in drawn)
        return self._settled(cores, drawn, refined.core, score, bound, exact)

    def _prices(
        self, objective: Objective, required: float, most_open: int
    ) -> tuple[Multipliers, _Opening, float]:
        """Prices at which calls may be drawn, which of these are left open, and the bound by the prices.

        The temperature falls until the calls that are not left open exceed the bound by next to nothing.
        """
        sample = self._sample(objective, required)
        free = objective.tie_weight is None
        undecided = int(SAMPLE_UNDECIDED * len(sample.value))
        start = smoothed_prices(sample, undecided, fixed_price=None if free else 0.0)
        multipliers, temperature = np.append(start.slot_price, start.price), start.temperature
        dual = _PartedDual(self, objective, required)
        close = np.full(len(multipliers), CLOSE_SHARE * most_open / len(start.slot_price))
        close[-1] *= CLOSE_GAIN * self._ranges(objective)[1]
        heated = 0
        for _ in range(MOST_STAGES):
            multipliers, there = climb(dual, multipliers, temperature, free, close, DAMPINGS)
            if heated < MOST_HEATINGS and not there.balanced(there.movable(multipliers, free), 2.0 * close):
                # where many calls are tied, the dual is flat at a distance from the kink of many temperatures
                temperature, heated = temperature / HEATING, heated + 1
                continue
            prices = Multipliers(float(multipliers[-1]), multipliers[:-1], temperature)
            doubts: list[Doubts] = self.parts.each(on_part.doubts, self._admitted, common=(objective, prices))
            bound = self._bound(sum(each.least for each in doubts), prices, required)
            opening = _opening(doubts, most_open)
            if opening.excess <= CLOSE * abs(bound):
                break
            temperature *= COOLING
        return prices, opening, bound

    def _sample(self, objective: Objective, required: float) -> Instance:
        """An instance of every so many-th call, with its share of the limits."""
        stride = max(1, self.placed // SAMPLE)
        several = self.parts.each(on_part.sample, self._admitted, common=(objective, stride))
        calls = on_part.joined_calls(several)
        share = len(calls.rows) / self.placed
        quota = np.ceil(self._group_quota * share).astype(np.int64)
        return Instance(calls.score, calls.required_gain, quota, required * share)

    def _left(self, drawn: Sequence[Drawn], required: float) -> Instance:
        """The open calls, with what the others leave of the limits."""
        calls = on_part.joined_calls([each.left_open for each in drawn])
        quota = self._group_quota - np.sum([each.load for each in drawn], axis=0)
        return Instance(
            calls.score,
            calls.required_gain,
            np.minimum(quota, len(calls.rows)),
            required - sum(each.required_gain for each in drawn),
        )

    def _bound(self, least: float, prices: Multipliers, required: float) -> float:
        """The Lagrangian at these prices, a lower bound for any that are at least 0."""
        return float(least - prices.slot_price @ self._group_quota + prices.price * required)

    def _settled(
        self,
        cores: list[Any],
        drawn: Sequence[Drawn],
        settled: IntArray,
        score: float,
        bound: float,
        prices: Multipliers,
    ) -> _Found:
        groups = len(self._group_quota)
        ends = np.cumsum([len(each.left_open.rows) for each in drawn])
        by_part = np.split(settled, ends[:-1])
        rows = [np.arange(len(each)) for each in by_part]
        gain = sum(
            float(each.left_open.gain[row, group].sum())
            for each, row, group in zip(drawn, rows, by_part, strict=True)
        )
        return _Found(
            cores,
            by_part,
            [
                each.load + np.bincount(group, minlength=groups)
                for each, group in zip(drawn, by_part, strict=True)
            ],
            gain + sum(each.gain for each in drawn),
            score,
            bound,
            DualPrices(prices.slot_price, prices.price),
        )

    def _solved_whole(self, target: float, budget: float | None, reach_slack: float) -> PartedAssignment:
        """All placed calls brought here and solved at once."""
        everything = Objective(tuple(range(len(self._quota))))
        several: list[Part] = self.parts.each(on_part.whole, self._admitted, common=(everything,))
        problem = AssignmentProblem(
            np.concatenate([each.cost for each in several]),
            np.concatenate([each.quality for each in several]),
            self._quota,
            target,
            np.concatenate([each.allowed for each in several]),
            budget=budget,
            reach_slack=reach_slack,
        )
        assignment = solve(problem)
        settled = np.split(assignment.core, np.cumsum([len(each.cost) for each in several])[:-1])
        alone = [(np.array([core]), self._quota[[core]]) for core in range(len(self._quota))]
        no_begins = [np.zeros(len(alone), dtype=np.int64)] * len(several)
        cores, _ = self.parts.keep(
            on_part.finish, self._admitted, [None] * len(several), settled, [alone] * len(several), no_begins
        )
        load = np.bincount(assignment.core, minlength=len(alone))
        return PartedAssignment(replace(assignment, core=np.zeros(0, dtype=np.int64)), load, cores)

    def _described(self, found: _Found, target: float, budget: float | None) -> PartedAssignment:
        begins = list(np.cumsum([np.zeros_like(found.load[0]), *found.load[:-1]], axis=0))
        cores, finished = self.parts.keep(
            on_part.finish,
            self._admitted,
            found.drawn,
            [each.astype(np.int16) for each in found.settled],
            [self._twins] * len(begins),
            begins,
        )
        load = np.sum([each.load for each in finished], axis=0)
        cost = float(sum(each.cost for each in finished))
        quality = float(sum(each.quality for each in finished)) / self.placed
        met = quality >= target - TOLERANCE if budget is None else cost <= budget * (1.0 + TOLERANCE)
        slot_price = np.zeros(len(self._quota))
        for price, (twins, _) in zip(
            np.broadcast_to(found.prices.slot, len(self._twins)), self._twins, strict=True
        ):
            slot_price[twins] = price
        assignment = Assignment(
            core=np.zeros(0, dtype=np.int64),
            cost=cost,
            quality=quality,
            lower_bound=max(0.0, found.bound) if budget is None else 0.0,
            met=bool(met),
            objective=cost,
            dual_prices=DualPrices(slot_price, found.prices.quality),
        )
        return PartedAssignment(assignment, load, cores)


def _opening(doubts: Sequence[Doubts], most_open: int) -> _Opening:
    """Leave open as many calls as may be, those of the greatest doubt."""
    count = np.sum([each.count for each in doubts], axis=0)
    excess = np.sum([each.excess for each in doubts], axis=0)
    more = np.append(np.cumsum(count[::-1])[::-1], 0)  # calls of this doubt or a greater one
    doubt = int(np.flatnonzero(more <= most_open)[0]) - 1
    if doubt < 0:
        return _Opening(0, 1.0, 0.0)
    share = (most_open - int(more[doubt + 1])) / int(count[doubt])
    return _Opening(doubt, share, float(excess[:doubt].sum() + (1.0 - share) * excess[doubt]))


class _PartedDual:
    """The smoothed dual of a batch in parts."""

    def __init__(self, problem: PartedProblem, objective: Objective, required: float) -> None:
        self._problem = problem
        self._objective = objective
        self._limit = np.append(problem._group_quota, -required).astype(np.float64)

    @property
    def calls(self) -> int:
        return self._problem.placed

    def derivatives(self, multipliers: FloatArray, temperature: float) -> Derivatives:
        common = (self._objective, multipliers, temperature)
        first, *others = self._problem.parts.each(on_part.derivatives, self._problem._admitted, common=common)
        total: Derivatives = sum(others, first)
        return total.within(multipliers, self._limit)


def _kinds_if(part: Part, wanted: bool) -> IntArray | None:
    return on_part.kinds_in(part) if wanted else None
