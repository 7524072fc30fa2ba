"""RoundPipeline: the two stages of a round, with a fallback for each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence

# Stage 2 imports it where it first needs it, which in a kernel would be while calls wait.
import scipy.optimize  # noqa: F401

from eccos_aios.log_once import LogOnce
from eccos_aios.plans import AnswerPlan
from eccos_aios.predict import CallText, Estimates
from eccos_aios.predict.encoded import EncodedCalls
from eccos_aios.requirements import Requirements
from eccos_aios.schedule.budget import BudgetLimit
from eccos_aios.schedule.budgets import explained, limited
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.capacity import Capacity, Target
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.explore import Exploration, PlanExploration
from eccos_aios.schedule.passes import PASSES, optimise
from eccos_aios.schedule.plan import (
    CALLS_PER_SLOT,
    SPARE_CALLS,
    Dispatch,
    Pass,
    Plan,
    checked_plan,
    dispatch_of,
    first_free,
    place_stages,
    undecided,
)
from eccos_aios.schedule.plan_rows import PlanSource, attach_plans
from eccos_aios.schedule.quality_price import QualityPrice
from eccos_aios.schedule.reasons import with_reasons
from eccos_aios.schedule.round_batch import RoundBatch, Wanted
from eccos_aios.schedule.settings import SchedulerSettings

logger = logging.getLogger(__name__)


class RoundPipeline:
    """Estimates and plans; calls go on whatever a predictor, the optimiser or a pass raises.

    Not thread-safe: the thread of the rounds alone uses it.

    Parameters
    ----------
    on_degraded : callable
        Called once for each stage of a round in which something failed, with the number of calls that lost
        their estimates by it.
    """

    def __init__(self, on_degraded: Callable[[int], None]) -> None:
        self._on_degraded = on_degraded
        self._once = LogOnce(logger)
        self._exploration = Exploration(0.0)
        self._plan_exploration = PlanExploration(0.0)
        self._quality_price = QualityPrice()
        self._primed: CorePool | None = None  # the last for which past calls were to set that price

    def prime(
        self,
        pool: CorePool,
        settings: SchedulerSettings,
        past: Sequence[CallText],
        planner: PlanSource | None,
    ) -> None:
        """Set the price of quality by past calls where no call before these cores has set it yet.

        The price that a few calls give is chance: the first 100 recorded tool calls, decided one by one, cost
        twice the optimum without this, and 1.0 to 1.1 times with it. They were learned from, so they promise
        up to a point more than other calls do; calls that come take their places.

        Parameters
        ----------
        pool : CorePool
        settings : SchedulerSettings
        past : sequence of CallText
            Of the history.
        planner : PlanSource or None
            Estimates plans of several cores.
        """
        if pool is self._primed:
            return
        self._primed = pool
        if not past or self._quality_price.is_of(_cores_of(pool)):
            return
        texts = EncodedCalls(past)
        try:
            estimates, sound, fault = pool.predict(texts).checked(len(past), pool.names)
            if not sound.all():
                raise ValueError(fault)
            calls = [
                Call(text, Requirements.of(text), None, lambda *_: None, number=0, id="") for text in past
            ]
            pool.attach_estimates(calls, estimates)
            found = None if planner is None else planner.estimate(texts)
            if found is not None:
                attach_plans(calls, found, pool.names)
            possible = [call for call in calls if call.row is not None and call.row.allowed.any()]
        except BaseException as error:  # noqa: BLE001 - as in `estimate`
            self._log("past calls cannot be estimated, the first calls set the price of quality", error)
            return
        if possible:
            target = Target(settings.quality_target, lambda calls: 0.0, settings.price_per_second)
            # 0.0: plans are options, and the price counts them however many attempts they add
            batch = RoundBatch.of(
                possible, pool.capacity(settings.waiting), target, names=pool.names, spare_calls=0.0
            )
            self._counted(batch, pool, settings.max_calls_per_query)

    def estimate(self, pool: CorePool, calls: Sequence[CallText]) -> Estimates:
        """Stage 1, checked; wrong estimates are replaced by the prior."""
        try:
            estimates = pool.predict(calls)
            if not isinstance(estimates, Estimates):
                raise TypeError(f"the predictor returned {type(estimates).__name__}, not Estimates")
            estimates, sound, fault = estimates.checked(len(calls), pool.names)
        except BaseException as error:  # noqa: BLE001 - an embedder or a model may raise anything, SystemExit too
            self._on_degraded(len(calls))
            self._log("stage 1 failed, every core counts as equally good", error)
            return pool.prior(calls)
        if sound.all():
            return estimates
        self._on_degraded(int((~sound).sum()))
        self._log("stage 1 is wrong, those calls get the prior", ValueError(fault))
        return estimates.with_rows_of(pool.prior(calls), ~sound)

    def estimate_plans(
        self, planner: PlanSource, pool: CorePool, calls: Sequence[Call], texts: Sequence[CallText]
    ) -> None:
        """Give calls that have a row of estimates those of plans, too; none where the planner fails."""
        try:
            found = planner.estimate(texts)
            if found is not None:
                attach_plans(calls, found, pool.names)
        except BaseException as error:  # noqa: BLE001 - as in `estimate`
            self._on_degraded(0)
            self._log("plans cannot be estimated, calls go to one core", error)

    def count(
        self,
        pool: CorePool,
        settings: SchedulerSettings,
        calls: Sequence[Call],
        owed: Callable[[int], float],
        spare_calls: float | None = None,
    ) -> None:
        """Let the price of quality see calls that have just been estimated, before their round begins.

        `plan` does so for calls that this has not seen. Parameters as there.
        """
        capacity = pool.capacity(settings.waiting)
        fresh = [call for call in calls if call.row is not None and not call.in_stages]
        if fresh and any(capacity.free.tolist()):
            batch = _batch(pool, settings, fresh, owed, 0.0, spare_calls, capacity)
            self._counted(batch, pool, settings.max_calls_per_query)

    def plan(
        self,
        pool: CorePool,
        settings: SchedulerSettings,
        pending: Sequence[Call],
        owed: Callable[[int], float],
        now_s: float,
        limits: Callable[[tuple[Call, ...]], tuple[BudgetLimit, ...]] | None = None,
        spare_calls: float | None = None,
        untried: tuple[AnswerPlan, ...] = (),
    ) -> Dispatch:
        """Stage 2: ECCOS's own passes, exploration, then the settings' passes.

        Parameters
        ----------
        pending : sequence of Call
            Calls with a row of estimates, in the order of the queue.
        owed : callable
            See `Target`.
        now_s : float
            Seconds on the scheduler's clock.
        limits : callable, optional
            What budgets allow each call. Default: there are none.
        spare_calls : float, optional
            Attempts beyond one a call that plans of several cores may add. Default: there are no such plans.
        untried : tuple of AnswerPlan, optional
            As in `RoundBatch`.

        Notes
        -----
        A call at a later stage of its plan is placed first: it is older, and its core is decided.
        """
        capacity = pool.capacity(settings.waiting)
        if not pending or not any(capacity.free.tolist()):
            return Dispatch([], {})
        if any(call.in_stages for call in pending):
            stages = place_stages(pending, pool.columns, capacity)
            fresh = [call for call in pending if not call.in_stages]
            dispatch = self._fresh(pool, settings, fresh, owed, now_s, limits, spare_calls, untried, capacity)
            return Dispatch(
                [*stages.placements, *dispatch.placements],
                {**stages.waiting_for, **dispatch.waiting_for},
                dispatch.fell_back,
            )
        return self._fresh(pool, settings, pending, owed, now_s, limits, spare_calls, untried, capacity)

    def _fresh(
        self,
        pool: CorePool,
        settings: SchedulerSettings,
        pending: Sequence[Call],
        owed: Callable[[int], float],
        now_s: float,
        limits: Callable[[tuple[Call, ...]], tuple[BudgetLimit, ...]] | None,
        spare_calls: float | None,
        untried: tuple[AnswerPlan, ...],
        capacity: Capacity,
    ) -> Dispatch:
        """The decisions on calls whose core is open."""
        if not pending or not any(capacity.free.tolist()):
            return Dispatch([], {})
        batch = _batch(pool, settings, pending, owed, now_s, spare_calls, capacity)
        self._counted(batch, pool, settings.max_calls_per_query)
        allowed = None if limits is None else limits(batch.calls)
        if allowed is not None:
            batch = limited(batch, allowed)
        wanted = self._wanted(batch, settings.max_calls_per_query)
        batch = batch.wanting(wanted, untried)
        plan = self._plan(batch, settings)
        if allowed is not None:
            plan = explained(plan, allowed)
        return dispatch_of(batch, self._passed(with_reasons, batch, plan) or plan)

    def _counted(self, batch: RoundBatch, pool: CorePool, max_calls: float) -> None:
        """Let the price of quality see the calls that are new."""
        try:
            self._quality_price.count(batch, _cores_of(pool))
            self._quality_price.renew(batch.target, max_calls)
        except BaseException as error:  # noqa: BLE001 - as in `estimate`
            self._quality_price = QualityPrice()
            self._on_degraded(0)
            self._log("the price of quality is lost, and is learned anew", error)

    def _wanted(self, batch: RoundBatch, max_calls: float) -> Wanted | None:
        """What the calls get at the price of quality; None: they have to reach their target by themselves."""
        try:
            return self._quality_price.wanted(batch, max_calls)
        except BaseException as error:  # noqa: BLE001 - as in `estimate`
            self._on_degraded(0)
            self._log("the price of quality cannot be set", error)
            return None

    def _plan(self, batch: RoundBatch, settings: SchedulerSettings) -> Plan:
        """The plan after all passes; one that raises leaves the plan as it was, or the first free cores."""
        if self._exploration.share != settings.exploration:
            self._exploration = Exploration(settings.exploration)
        plan, failed = undecided(len(batch)), 0
        if self._plan_exploration.share != settings.explore_plans:
            self._plan_exploration = PlanExploration(settings.explore_plans)
        own: tuple[Pass, ...] = (*PASSES, self._exploration) if settings.exploration else PASSES
        own = (*own, self._plan_exploration) if batch.untried else own
        for step in own:
            passed = self._passed(step, batch, plan)
            failed += passed is None
            if passed is not None:
                plan = passed
            elif step is optimise:
                plan = first_free(batch)
        for step in settings.passes:
            batch.lock()
            plan.columns.setflags(write=False)
            passed = self._passed(step, batch, plan, check=True)
            failed += passed is None
            plan = plan if passed is None else passed
        if failed:
            self._on_degraded(0)
        return plan

    def _passed(self, step: Pass, batch: RoundBatch, plan: Plan, check: bool = False) -> Plan | None:
        """The plan after one pass; None where the pass raised or returned a wrong plan."""
        try:
            passed = step(batch, plan)
            return checked_plan(batch, passed) if check else passed
        except BaseException as error:  # noqa: BLE001 - whatever the optimiser or a user's code raises
            self._log(f"pass {_name(step)} failed, the plan stays as it was before it", error)
            return None

    def _log(self, failure: str, error: BaseException) -> None:
        cause = f"{failure}: {type(error).__name__}"
        self._once.warning(cause, "%s: %s", cause, error, exc_info=error)


def _batch(
    pool: CorePool,
    settings: SchedulerSettings,
    pending: Sequence[Call],
    owed: Callable[[int], float],
    now_s: float,
    spare_calls: float | None,
    capacity: Capacity,
) -> RoundBatch:
    """The front of the queue as a round sees it; at least one slot is free."""
    free = sum(capacity.free.tolist())
    front = pending[: CALLS_PER_SLOT * free + SPARE_CALLS]
    # Every round plans all waiting calls anew, and would grant all their slack to the few that it sends.
    slack = settings.reach_slack * min(1.0, free / len(front))
    target = Target(settings.quality_target, owed, settings.price_per_second, slack)
    return RoundBatch.of(front, capacity, target, settings.waiting, now_s, pool.names, spare_calls)


def _cores_of(pool: CorePool) -> Hashable:
    """What a price of quality holds for: the cores and their prices."""
    return pool.names, pool.prices.tobytes()


def _name(step: Pass) -> str:
    named = step if hasattr(step, "__qualname__") else type(step)
    return f"{named.__module__}:{named.__qualname__}"
