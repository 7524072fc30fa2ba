"""SchedulerState: the data that the threads of one scheduler share, under one lock."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from eccos_aios.clock import Clock
from eccos_aios.predict import CallText
from eccos_aios.schedule.affinity import Affinity
from eccos_aios.schedule.budgets import Budgets
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.decision_log import DecisionLog
from eccos_aios.schedule.execution import AbandonedError, Execute, Prober
from eccos_aios.schedule.extra_calls import ExtraCalls
from eccos_aios.schedule.fair_queue import FairQueue
from eccos_aios.schedule.metrics import SchedulerMetrics
from eccos_aios.schedule.plan_rows import PlanSource
from eccos_aios.schedule.plan_stages import Judge
from eccos_aios.schedule.quality_debt import QualityDebt
from eccos_aios.schedule.settings import SchedulerSettings

logger = logging.getLogger(__name__)


class SchedulerState:
    """The calls that the scheduler holds, the state of each, and the cores.

    Attributes
    ----------
    changed : Condition
        Guards every field, and the state of every call held. Notified for the rounds.
    watched : Condition
        On the same lock. Notified for the deadlines.
    """

    def __init__(
        self,
        pool: CorePool,
        execute: Execute,
        settings: SchedulerSettings,
        prober: Prober | None,
        clock: Clock,
        wall_s: Callable[[], float] = time.time,
        judge: Judge | None = None,
        planner: PlanSource | None = None,
        past: Sequence[CallText] = (),
    ) -> None:
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.watched = threading.Condition(lock)
        self._delivered = threading.Condition(lock)  # notified when an on_done has returned
        self._delivering = 0  # on_done callbacks that are running
        self.clock = clock
        self.pool = pool
        self.execute = execute
        self.settings = settings
        self.prober = prober
        self.judge = judge
        self.planner = planner
        self.past = past
        self.queue = FairQueue(settings.agent_weights, settings.max_age_s)
        self.backing_off: set[Call] = set()
        self.held: set[Call] = set()
        self._by_arrival: list[tuple[float, int, Call]] = []  # a heap of those held, and some that are done
        self.debt = QualityDebt()
        self.budgets = Budgets(settings.budget, settings.agent_budgets, wall_s)
        self.extra_calls = ExtraCalls(settings.max_calls_per_query)
        self.metrics = SchedulerMetrics()
        self.decision_log = DecisionLog()
        self.affinity = Affinity()
        self.dirty = False  # something happened since the last round
        self.gathering = False  # a new call has come since the last round
        self.starved = False  # a call could not be sent for want of a thread
        self.next_check_s = float("-inf")  # when the deadlines check next, unless they are woken
        self.some_down = False  # whether a core was down at their last check
        self.stopping = False
        self.stop_at_s = float("inf")

    def wake(self) -> None:
        """Wake the rounds; the lock is held."""
        self.dirty = True
        self.changed.notify_all()

    def check_by(self, moment_s: float) -> None:
        """Make the deadlines check by then; the lock is held."""
        if moment_s < self.next_check_s:
            self.watched.notify_all()

    @property
    def pending(self) -> int:
        """Number of calls that wait; the lock is held."""
        return len(self.queue) + len(self.backing_off)

    @property
    def in_flight(self) -> int:
        """Number of calls at a core; the lock is held."""
        return len(self.held) - self.pending

    def hold(self, call: Call) -> None:
        """Accept a call; the lock is held."""
        self.held.add(call)
        heapq.heappush(self._by_arrival, (call.arrived_s, call.number, call))
        self.queue.join(call)
        self.check_by(float("-inf") if self.some_down else call.arrived_s + self.settings.call_timeout_s)

    def wait_again(
        self, call: Call, not_before_s: float | None = None, *, keep_estimates: bool = False
    ) -> None:
        """Queue a call once more, at once or at a given moment; the lock is held."""
        call.core, call.attempt = None, None
        if not keep_estimates:
            call.row = None  # it may go to fewer cores now
        if not_before_s is None:
            call.enter(CallState.PENDING)
            self.queue.rejoin(call)
        else:
            call.not_before_s = not_before_s
            call.enter(CallState.RETRYING)
            self.backing_off.add(call)
        self.wake()

    def end_backoffs(self, now_s: float) -> None:
        """Queue the calls whose backoff is over; the lock is held."""
        for call in [call for call in self.backing_off if call.not_before_s <= now_s]:
            self.backing_off.discard(call)
            call.enter(CallState.PENDING)
            self.queue.rejoin(call)

    def arrived_before(self, moment_s: float) -> list[Call]:
        """The calls held that arrived by then; the lock is held."""
        return [call for arrived_s, _, call in self._oldest_first(moment_s)]

    @property
    def first_arrived_s(self) -> float | None:
        """When the oldest call held arrived; None if none is held. The lock is held."""
        while self._by_arrival and self._by_arrival[0][2] not in self.held:
            heapq.heappop(self._by_arrival)
        return self._by_arrival[0][0] if self._by_arrival else None

    def _oldest_first(self, moment_s: float) -> Sequence[tuple[float, int, Call]]:
        found = []
        while (first_s := self.first_arrived_s) is not None and first_s <= moment_s:
            found.append(heapq.heappop(self._by_arrival))
        for entry in found:
            heapq.heappush(self._by_arrival, entry)
        return found

    def finish(self, call: Call, result: CallResult) -> bool:
        """Give a call its one final result; False if it has one already.

        Instead of an error it gets the answer that a stage of its plan brought, if there is one.
        """
        with self.changed:
            first = call in self.held
            if first:
                result = _with_stages(call, result)
                call.enter(CallState.DONE)
                call.attempt = None
                self.held.discard(call)
                self.queue.leave(call)
                self.backing_off.discard(call)
                self._note_result(call, result)
            self.wake()
            if self.stopping and not self.held:
                self.watched.notify_all()
        if first:
            self._deliver(call, result)
        return first

    def refuse(self, call: Call, result: CallResult) -> None:
        """Answer a call that was never accepted."""
        with self.changed:
            call.enter(CallState.DONE)
            self._note_result(call, result)
        self._deliver(call, result)

    def wait_until_delivered(self, timeout_s: float) -> bool:
        """Wait until every `on_done` has returned; False on a timeout."""
        with self.changed:
            until_s = self.clock.now_s() + timeout_s
            return self.clock.wait_for(self._delivered, lambda: not self._delivering, until_s)

    def _note_result(self, call: Call, result: CallResult) -> None:
        """Count a result that is about to be delivered; the lock is held."""
        self.metrics.add_result(result)
        if call.stages is not None:
            self.metrics.add_plan(call.stages)
            self.extra_calls.settle(call.stages.expected_calls, call.stages.begun)
        self.decision_log.finish(call, result)
        self._delivering += 1

    def _deliver(self, call: Call, result: CallResult) -> None:
        try:
            call.on_done(call, result)
        except BaseException as error:
            logger.error("on_done of a call raised", exc_info=error)
        finally:
            with self.changed:
                self._delivering -= 1
                self._delivered.notify_all()


def _with_stages(call: Call, result: CallResult) -> CallResult:
    """The result of a call with its plan's stages, and with an answer of theirs in place of an error."""
    if call.stages is None:
        return result
    stages = tuple(call.stages.ended)
    answer = call.stages.in_hand
    if not result.failed or answer is None or isinstance(result.error, AbandonedError):
        return replace(result, stages=stages)
    return CallResult(
        answer.core, answer.value, service_s=answer.seconds, causes=result.causes, stages=stages
    )
