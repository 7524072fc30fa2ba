"""Rounds: estimate and plan the waiting calls together, and send those that fit now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial

import numpy as np

from eccos_aios.errors import NoCoreError
from eccos_aios.plans import AnswerPlan
from eccos_aios.predict.encoded import EncodedCalls
from eccos_aios.requirements import why_none
from eccos_aios.schedule.attempts import Attempts
from eccos_aios.schedule.budget import BudgetLimit
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.decision_log import LOG_LINE, Decision, decision_of
from eccos_aios.schedule.execution import CallFailedError
from eccos_aios.schedule.pipeline import RoundPipeline
from eccos_aios.schedule.plan import CALLS_PER_SLOT, SPARE_CALLS, Placement
from eccos_aios.schedule.plan_rows import PlanSource, promise_of
from eccos_aios.schedule.plan_stages import PlanStages
from eccos_aios.schedule.settings import SchedulerSettings
from eccos_aios.schedule.slot_source import wanted_slots
from eccos_aios.schedule.state import SchedulerState

logger = logging.getLogger(__name__)

STARVED_S = 0.1  # seconds until a round retries after the process had no thread to spare
COUNTED_S = 5e-4  # seconds that are left of the batch window, at least, where calls are counted in it
CRASHES_OF_A_CALL = 3  # rounds that may fail on a call before it is answered with an error


class Rounds:
    """The work of the thread ``eccos-rounds``.

    A round looks only at the front of the queue, as many calls as can be sent now and some more, so that
    its cost does not grow with the queue. A call that makes a round raise is skipped; one that does so
    `CRASHES_OF_A_CALL` times is answered with an error.

    Parameters
    ----------
    state : SchedulerState
    attempts : Attempts
    """

    def __init__(self, state: SchedulerState, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts
        self._clock = state.clock
        self._pipeline = RoundPipeline(self._count_degraded)
        self._front: list[Call] = []  # the calls of the last round; used by this thread alone
        self._estimate_ms = 0.0  # spent on estimates while the next round's calls were gathered
        self._last_round_s = float("-inf")  # when the last round began
        self.began_s: float | None = None  # when the round under way began; read without the lock

    def run(self) -> None:
        """Run rounds until it is time to end."""
        self._prime()
        while self._wait_for_change():
            self.began_s = self._clock.now_s()
            self._prime()
            self._gather()
            self._round()
            self.began_s = None
        self.began_s = None

    def _prime(self) -> None:
        """Set the price of quality by past calls, where cores are new."""
        with self._state.changed:
            pool, settings, past = self._state.pool, self._state.settings, self._state.past
        self._pipeline.prime(pool, settings, past, self._planner())

    def recover(self, error: BaseException) -> None:
        """Answer the calls that made rounds raise too often."""
        self.began_s = None
        with self._state.changed:
            for call in self._front:
                call.crashes += 1
            poisoned = [call for call in self._front if call.crashes >= CRASHES_OF_A_CALL]
            self._state.wake()
        for call in poisoned:
            self._fail(call, error)

    def _wait_for_change(self) -> bool:
        """Wait until a round could decide something; False when it is time to end."""
        state = self._state
        with state.changed:
            if not state.dirty and not self._is_over():
                self._clock.wait(state.changed, self._wakeup_s())
            return not self._is_over()

    def _is_over(self) -> bool:
        state = self._state
        return state.stopping and not (state.held and self._clock.now_s() < state.stop_at_s)

    def _gather(self) -> None:
        """Wait for calls that arrive within the batch window, and estimate those that are there meanwhile.

        What is left of the window is used to set the price of quality; what that takes beyond it counts as
        time of the decision.
        """
        started_s = self._clock.now_s()
        state = self._state
        with state.changed:
            gathering = state.gathering and not state.stopping
            until_s = started_s + state.settings.batch_window_s
            pool, settings, owed = state.pool, state.settings, state.debt.owed
            spare_calls = None if settings.plans == "off" else state.extra_calls.spare
            arrived = self._first(pool, started_s) if gathering else []
            limited = bool(state.budgets)  # a round may refuse some of the calls
        refused = self._estimate(pool, arrived)
        estimated_s = self._clock.now_s()
        if arrived and not limited and estimated_s + COUNTED_S < until_s:
            pending = [call for call in arrived if call not in refused]
            self._pipeline.count(pool, settings, pending, owed, spare_calls)
        with state.changed:
            now_s = self._clock.now_s()
            late_s = max(0.0, now_s - max(until_s, estimated_s))
            self._estimate_ms = (estimated_s - started_s + late_s) * 1000 if arrived else 0.0
            if gathering and now_s < until_s:
                self._clock.wait_for(state.changed, lambda: state.stopping, until_s)
            state.dirty = state.gathering = False

    def _wakeup_s(self) -> float | None:
        """When time alone next calls for a round or the end; None: never. The lock is held."""
        return min((at_s for at_s in self._moments_s() if at_s > self._last_round_s), default=None)

    def _moments_s(self) -> Iterator[float]:
        """When a round could decide something new.

        A moment that passed during the last round still counts: that round did not take it into account.
        """
        state = self._state
        for slots in state.pool.slots:
            if (at_s := slots.wakeup_s()) is not None:
                yield at_s
        for call in state.backing_off:
            yield call.not_before_s
        for call in self._front:
            if call in state.queue:
                for limit_s in state.settings.waiting.limits_s:
                    yield call.arrived_s + limit_s
        if state.starved:
            yield self._last_round_s + STARVED_S
        if state.stopping:
            yield state.stop_at_s

    def _first(self, pool: CorePool, now_s: float) -> list[Call]:
        """The calls of a round; the lock is held."""
        cores = zip(pool.names, pool.availability(), strict=True)
        shared = pool.source is not None  # what is not free here may be asked of other kernels
        free = {name: core.free for name, core in cores if core.free or (shared and core.slots)}
        wanted = CALLS_PER_SLOT * sum(free.values()) + SPARE_CALLS
        served = _is_served(pool, free.keys()) if free else lambda call: True
        return self._state.queue.front(wanted, now_s, served)

    def _round(self) -> None:
        started_s = self._clock.now_s()
        state = self._state
        with state.changed:
            self._last_round_s = started_s
            state.starved = False
            state.end_backoffs(started_s)
            pool, settings, owed = state.pool, state.settings, state.debt.owed
            limits = self._limits if state.budgets else None
            spare_calls = None if settings.plans == "off" else state.extra_calls.spare
            self._front = front = self._first(pool, started_s)
            lost = [call for call in front if call.in_stages and call.awaited_core not in pool.columns]
            ended = [(call, answer) for call in lost if (answer := self._attempts.skip_stage(call))]
            unpaid = {call: state.budgets.refusal(call.agent) for call in front} if limits else {}
        for call, answer in ended:
            state.finish(call, answer)
        for call, refusal in unpaid.items():
            if refusal is not None:
                state.finish(call, CallResult(call.core, error=refusal, failed=True, causes=call.causes))
        front = [call for call in front if unpaid.get(call) is None and call not in lost]
        if not front:
            if pool.source is not None:
                pool.source.want({})
            return
        refused = self._estimate(pool, front)
        pending = [call for call in front if call not in refused and call.row is not None]
        now_s = self._clock.now_s()
        plan = self._pipeline.plan(pool, settings, pending, owed, now_s, limits, spare_calls, self._untried())
        with state.changed:
            for call in pending:
                if call in state.queue:
                    call.enter(CallState.PLANNED if call in plan.waiting_for else CallState.PENDING)
            state.metrics.degraded_rounds += plan.fell_back
            decision_ms = self._estimate_ms + (self._clock.now_s() - started_s) * 1000
            state.metrics.add_round(len(plan.placements), decision_ms)
        for placement in plan.placements:
            self._dispatch(pool, settings, placement, decision_ms)
        if pool.source is not None:
            with state.changed:
                waiting = [call for call in pending if call in state.queue]
            pool.source.want(wanted_slots(pool.names, waiting, plan))

    def _estimate(self, pool: CorePool, pending: Sequence[Call]) -> set[Call]:
        """Estimate the calls that have no estimates in this pool; return those that no core may take."""
        calls = [call for call in pending if call.row is None or call.row.pool is not pool]
        if not calls:
            return set()
        texts = EncodedCalls([call.text for call in calls])
        estimates = self._pipeline.estimate(pool, texts)
        state = self._state
        with state.changed:
            prefixes = {call: state.affinity.prefix_of(call.conversation) for call in calls}
            affinity = state.settings.affinity
            down = pool.down(self._clock.now_s() + state.settings.unavailable_after_s)
        try:
            pool.attach_estimates(calls, estimates, prefixes, affinity, down)
        except BaseException as error:  # noqa: BLE001 - a call's requirements may hold anything
            return self._estimate_one_by_one(pool, calls, error)
        refused = {call for call in calls if call.row is not None and not np.count_nonzero(call.row.allowed)}
        planner = self._planner()
        if planner is not None:
            rows = [row for row, call in enumerate(calls) if call not in refused and call.may_be_staged]
            if rows:
                planned = [calls[row] for row in rows]
                self._pipeline.estimate_plans(planner, pool, planned, texts.take(rows))
        for call in refused:
            reason = NoCoreError(why_none(call.requirements, pool.cores))
            state.finish(call, CallResult(None, error=reason, failed=True, causes=call.causes))
        return refused

    def _estimate_one_by_one(self, pool: CorePool, calls: Sequence[Call], error: BaseException) -> set[Call]:
        """Find the call that makes estimating raise and answer it; estimate the others."""
        if len(calls) == 1:
            self._fail(calls[0], error)
            return set(calls)
        return set().union(*(self._estimate(pool, [call]) for call in calls))

    def _fail(self, call: Call, error: BaseException) -> None:
        logger.error("a call of agent %r cannot be scheduled", call.agent, exc_info=error)
        fault = CallFailedError(f"the scheduler failed on this call: {type(error).__name__}")
        self._state.finish(call, CallResult(call.core, error=fault, failed=True))

    def _count_degraded(self, calls: int) -> None:
        with self._state.changed:
            self._state.metrics.degraded_rounds += 1
            self._state.metrics.degraded_calls += calls

    def _dispatch(
        self, pool: CorePool, settings: SchedulerSettings, placement: Placement, decision_ms: float
    ) -> None:
        call, slots = placement.call, pool.slots[placement.column]
        decide = partial(self._decide, pool, settings, placement, decision_ms)
        try:
            decision = self._attempts.send(call, slots, decide, _stages_of(placement, pool.names))
        except BaseException as error:
            logger.error("a call could not be sent to core %r", slots.core.name, exc_info=error)
            with self._state.changed:
                call.crashes += 1
                poisoned = call.crashes >= CRASHES_OF_A_CALL
                self._state.starved = True  # so that another round retries soon
            if poisoned:
                self._fail(call, error)
            return
        if decision is None:
            return
        logger.debug(LOG_LINE, *decision.log_values())
        if placement.beside is not None:
            self._send_beside(call, pool, placement.beside)

    def _send_beside(self, call: Call, pool: CorePool, column: int) -> None:
        """Send a call to its plan's second core at the same time; if that fails, the plan asks it later."""
        try:
            self._attempts.send_beside(call, pool.slots[column])
        except BaseException as error:
            logger.error("a call could not be sent to core %r, too", pool.names[column], exc_info=error)

    def _decide(
        self, pool: CorePool, settings: SchedulerSettings, placement: Placement, decision_ms: float
    ) -> Decision:
        """Record that a call goes to a core; the lock is held."""
        state, call = self._state, placement.call
        if call.in_stages and call.stages is not None and call.stages.begun:
            known = state.decision_log.decision(call.number)
            if known is not None:
                known.stages = [stage.to_dict() for stage in call.stages.ended]
                core = pool.names[placement.column]
                return replace(known, core=core, reason=placement.reason, attempt=call.attempts)
        waited_s = self._clock.now_s() - call.arrived_s
        decision = decision_of(placement, pool.names, decision_ms, waited_s, settings.log_text)
        state.metrics.add_decision(decision)
        state.extra_calls.sent(1.0 if call.stages is None else call.stages.expected_calls)
        state.decision_log.add(decision)
        if settings.affinity != "off" or pool.priced_caches:
            state.affinity.served(
                call.conversation, decision.core, call.text.input_tokens, self._clock.now_s()
            )
        own = settings.quality_target if call.quality_target is None else call.quality_target
        state.debt.sent(own if placement.target is None else placement.target, decision.predicted_quality)
        state.budgets.sent(call, decision.core, placement.column, own)
        return decision

    def _planner(self) -> PlanSource | None:
        """Who knows plans of several cores; None where no call may follow one."""
        state = self._state
        return None if state.judge is None or state.settings.plans == "off" else state.planner

    def _untried(self) -> tuple[AnswerPlan, ...]:
        """Plans of several cores that calls may explore."""
        planner = self._planner()
        return () if planner is None else planner.to_explore

    def _limits(self, calls: tuple[Call, ...]) -> tuple[BudgetLimit, ...]:
        """What budgets allow each call now."""
        with self._state.changed:
            return self._state.budgets.limits(calls)


def _is_served(pool: CorePool, free: Set[str]) -> Callable[[Call], bool]:
    """A test of whether a round could send a call now, or must refuse it as no core may take it."""
    names = frozenset(pool.names)

    def is_served(call: Call) -> bool:
        wanted = call.awaited_core
        if wanted in names:
            return wanted in free
        named = names if call.requirements.cores is None else call.requirements.cores & names
        return not named or not named.isdisjoint(free)

    return is_served


def _stages_of(placement: Placement, names: Sequence[str]) -> PlanStages | None:
    """The plan of several cores that begins with a placement."""
    plan, row = placement.plan, placement.call.row
    if plan is None or row is None or placement.call.stages is not None:
        return None
    return PlanStages(plan, promise_of(row, plan, names).calls)
