"""SchedulerState: what the threads of one scheduler share, under one lock."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Sequence

from eccos_aios.schedule.affinity import Affinity
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.decision_log import DecisionLog
from eccos_aios.schedule.execution import Execute, Prober
from eccos_aios.schedule.fair_queue import FairQueue
from eccos_aios.schedule.quality_debt import QualityDebt
from eccos_aios.schedule.settings import SchedulerSettings

logger = logging.getLogger(__name__)


class SchedulerState:
    """The calls that are held, where each of them is, and what is known of the cores.

    Attributes
    ----------
    changed : Condition
        Guards every field, and the state of every call that is held. Notified for the rounds.
    watched : Condition
        On the same lock. Notified for the deadlines.
    """

    def __init__(
        self, table: CorePool, execute: Execute, settings: SchedulerSettings, prober: Prober | None
    ) -> None:
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.watched = threading.Condition(lock)
        self._all_told = threading.Condition(lock)  # no receiver of a result is at work
        self._receiving = 0  # receivers that are
        self.table = table
        self.execute = execute
        self.settings = settings
        self.prober = prober
        self.queue = FairQueue(settings.agent_weights, settings.max_age_s)
        self.backing_off: set[Call] = set()
        self.held: set[Call] = set()
        self._by_arrival: list[tuple[float, int, Call]] = []  # a heap of those held, and some that are done
        self.debt = QualityDebt()
        self.ledger = DecisionLog()
        self.affinity = Affinity()
        self.dirty = False  # something happened that a round has not seen
        self.gathering = False  # a new call has come since the last round
        self.starved = False  # a call could not be sent for want of a thread
        self.watching_until_s = float("-inf")  # when the deadlines look next, unless they are woken
        self.some_down = False  # whether they saw a core that is down
        self.stopping = False
        self.stop_at_s = float("inf")

    def wake(self) -> None:
        """Tell the rounds of a change; the lock is held."""
        self.dirty = True
        self.changed.notify_all()

    def watch_by(self, moment_s: float) -> None:
        """Have the deadlines look by then; the lock is held."""
        if moment_s < self.watching_until_s:
            self.watched.notify_all()

    @property
    def pending(self) -> int:
        """Calls that wait; the lock is held."""
        return len(self.queue) + len(self.backing_off)

    @property
    def in_flight(self) -> int:
        """Calls that are with a core; the lock is held."""
        return len(self.held) - self.pending

    def hold(self, call: Call) -> None:
        """Take a call in; the lock is held."""
        self.held.add(call)
        heapq.heappush(self._by_arrival, (call.arrived_s, call.number, call))
        self.queue.join(call)
        self.watch_by(float("-inf") if self.some_down else call.arrived_s + self.settings.call_timeout_s)

    def wait_again(self, call: Call, not_before_s: float | None = None) -> None:
        """Let a call wait for a core once more, at once or from then on; the lock is held."""
        call.row, call.core, call.attempt = None, None, None  # its limits have changed
        if not_before_s is None:
            call.enter(CallState.PENDING)
            self.queue.rejoin(call)
        else:
            call.not_before_s = not_before_s
            call.enter(CallState.RETRYING)
            self.backing_off.add(call)
        self.wake()

    def end_backoffs(self, now_s: float) -> None:
        """Let the calls wait whose backoff is over; the lock is held."""
        for call in [call for call in self.backing_off if call.not_before_s <= now_s]:
            self.backing_off.discard(call)
            call.enter(CallState.PENDING)
            self.queue.rejoin(call)

    def arrived_before(self, moment_s: float) -> list[Call]:
        """The calls held that arrived by then; the lock is held."""
        return [call for arrived_s, _, call in self._oldest_first(moment_s)]

    @property
    def first_arrived_s(self) -> float | None:
        """When the oldest call that is held arrived; None: none is. The lock is held."""
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
        """Give a call its one final result; False for whoever comes second."""
        with self.changed:
            first = call in self.held
            if first:
                call.enter(CallState.DONE)
                call.attempt = None
                self.held.discard(call)
                self.queue.leave(call)
                self.backing_off.discard(call)
                self.ledger.finish(call, result)
                self._receiving += 1
            self.wake()
            if self.stopping and not self.held:
                self.watched.notify_all()
        if first:
            self._deliver(call, result)
        return first

    def refuse(self, call: Call, result: CallResult) -> None:
        """Answer a call that was never taken in."""
        with self.changed:
            call.enter(CallState.DONE)
            self.ledger.finish(call, result)
            self._receiving += 1
        self._deliver(call, result)

    def wait_until_told(self, timeout_s: float) -> bool:
        """Wait until every receiver of a result has returned; False where the time ran out."""
        with self.changed:
            return self._all_told.wait_for(lambda: not self._receiving, timeout_s)

    def _deliver(self, call: Call, result: CallResult) -> None:
        try:
            call.on_done(call, result)
        except BaseException as error:
            logger.error("the receiver of a call's result raised", exc_info=error)
        finally:
            with self.changed:
                self._receiving -= 1
                self._all_told.notify_all()
