"""Exploration: passes that send a small share of calls to cores, or along plans, of which little is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eccos_aios.plans import AnswerPlan
from eccos_aios.reasons import EXPLORED
from eccos_aios.schedule.capacity import IntArray
from eccos_aios.schedule.plan import Plan
from eccos_aios.schedule.plan_rows import promise_of
from eccos_aios.schedule.round_batch import RoundBatch, estimates_of

EXPLORED_PER_FIT = 200  # calls that follow one plan until the next fit; without grades there is none
ROUNDING = 1e-9  # of sums of shares
OUTCOME_SPREAD = 0.5  # standard deviation of a right or wrong answer at most, in points of quality

FloatArray = NDArray[np.float64]


class Exploration:
    """Thompson sampling (Thompson, 1933) for at most a share of the calls; a pass.

    For a call that explores, every core's quality is drawn from a normal distribution around its estimate
    with deviation ``OUTCOME_SPREAD / sqrt(1 + support)``; the call goes to the cheapest core that reaches its
    target in the draw, or to the best. A core with much support is drawn near its estimate, so exploration
    ends where nothing is left to learn.

    Not thread-safe: the thread of the rounds alone uses it.

    Parameters
    ----------
    share : float
        Of the calls, 0 to 1; 0: none.
    seed : int, optional
    """

    def __init__(self, share: float, seed: int | None = None) -> None:
        self.share = share
        self._random = np.random.default_rng(seed)

    def choose(
        self,
        quality: FloatArray,
        cost: FloatArray,
        support: FloatArray,
        allowed: NDArray[np.bool_],
        target: float,
    ) -> int | None:
        """The column that a call explores, every array of shape (cores,); None: it goes as planned."""
        if not allowed.any() or self._random.random() >= self.share:
            return None
        drawn = self._random.normal(quality, OUTCOME_SPREAD / np.sqrt(1.0 + support))
        drawn = np.where(allowed, drawn, -np.inf)
        reached = np.flatnonzero(drawn >= target)
        return int(reached[np.argmin(cost[reached])] if reached.size else np.argmax(drawn))

    def __call__(self, batch: RoundBatch, plan: Plan) -> Plan:
        """Move some of the calls that are sent now to another core with a free slot."""
        if not self.share:
            return plan
        left = batch.capacity.free - plan.load(len(batch.capacity.free))
        moves: dict[int, int] = {}
        for row, sent in enumerate(plan.is_sent(batch.capacity.free)):
            if not sent:
                continue
            call, planned = batch.calls[row], int(plan.columns[row])
            estimates = estimates_of(call)
            open_to = estimates.allowed & (left > 0)
            open_to[planned] = True
            target = batch.target.of(call)
            column = self.choose(estimates.quality, estimates.cost, estimates.support, open_to, target)
            if column is not None and column != planned:
                moves[row] = column
                left[[planned, column]] += [1, -1]
        return plan.moved(moves, EXPLORED)


class PlanExploration:
    """Lets at most a share of the calls follow a plan of several cores of which too little is known; a pass.

    An estimate of a plan needs calls that followed it: no core alone tells how often its answers agree with
    another's. Only calls whose answers can be checked are taken, one in ``1 / share``, where the plan's cores
    may take the call and the first has a free slot. Once a fit knows enough, `RoundBatch.untried` is empty;
    where no answer is graded there is no fit, and exploration ends after `EXPLORED_PER_FIT` calls a plan.

    Not thread-safe: the thread of the rounds alone uses it.

    Parameters
    ----------
    share : float
        Of the calls, 0 to 1; 0: none.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._due = 0.0  # calls that should have explored by now
        self._plans: tuple[AnswerPlan, ...] = ()
        self._explored: Counter[AnswerPlan] = Counter()  # calls, since the fit that left `_plans` open

    def __call__(self, batch: RoundBatch, plan: Plan) -> Plan:
        """Let some of the calls that are sent now follow a plan that is to be explored."""
        if batch.untried is not self._plans:
            self._plans, self._explored = batch.untried, Counter()
        free = batch.capacity.free
        left, spare = free - plan.load(len(free)), batch.spare_calls
        columns, staged = plan.columns.copy(), dict(plan.staged)
        reasons = dict(plan.reasons)
        for row, sent in enumerate(plan.is_sent(free)):
            if not sent or not batch.calls[row].may_be_staged:
                continue
            self._due += self.share
            if self._due < 1.0 - ROUNDING:
                continue
            self._due = 1.0  # what could not explore in time is not made up for
            found = self._next(batch, row, int(columns[row]), left, spare)
            if found is None:
                continue
            self._due = 0.0
            self._explored[found] += 1
            column = batch.names.index(found.first)
            left[columns[row]] += 1
            left[column] -= 1
            spare -= promise_of(estimates_of(batch.calls[row]), found, batch.names).calls - 1.0
            columns[row], staged[row], reasons[row] = column, found, EXPLORED
        return replace(plan, columns=columns, staged=staged, reasons=reasons)

    def _next(
        self, batch: RoundBatch, row: int, planned: int, left: IntArray, spare: float
    ) -> AnswerPlan | None:
        """The plan that was explored least of those that a call may follow now; None: there is none."""
        found = []
        for plan in self._plans:
            columns = [batch.names.index(core) for core in plan.every_core if core in batch.names]
            known = len(columns) == len(plan.every_core)
            if not known or not batch.candidates.allowed[row, columns].all():
                continue
            has_slot = columns[0] == planned or left[columns[0]] > 0
            extra = promise_of(estimates_of(batch.calls[row]), plan, batch.names).calls - 1.0
            if has_slot and extra <= spare and self._explored[plan] < EXPLORED_PER_FIT:
                found.append(plan)
        return min(found, key=self._explored.__getitem__, default=None)
