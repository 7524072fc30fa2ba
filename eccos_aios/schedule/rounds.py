"""Rounds: what waits is estimated and planned together, and what fits now is sent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial

from eccos_aios.errors import NoCoreError
from eccos_aios.requirements import why_none
from eccos_aios.schedule.attempts import Attempts
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.decision_log import LOG_LINE, Decision, decision_of
from eccos_aios.schedule.execution import CallFailedError
from eccos_aios.schedule.pipeline import RoundPipeline
from eccos_aios.schedule.plan import CALLS_PER_SLOT, SPARE_CALLS, Placement
from eccos_aios.schedule.settings import SchedulerSettings
from eccos_aios.schedule.state import SchedulerState

logger = logging.getLogger(__name__)

STARVED_S = 0.1  # seconds until a round tries again for which the process had no thread
CRASHES_OF_A_CALL = 3  # rounds that may fail over a call before it is answered with an error


class Rounds:
    """What the thread ``eccos-rounds`` does.

    A round looks at the front of the queue only, as much as can be sent now and some more, so that its
    cost does not grow with what waits. A call whose turn in it raises is passed over; one that does so
    again and again is answered with an error.

    Parameters
    ----------
    state : SchedulerState
    attempts : Attempts
    """

    def __init__(self, state: SchedulerState, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts
        self._stages = RoundPipeline(self._count_degraded)
        self._front: list[Call] = []  # what the last round looked at; this thread's own
        self._gathered_ms = 0.0  # what estimating took while the next round's calls were gathered
        self._seen_s = float("-inf")  # when the last round began
        self.began_s: float | None = None  # when the round began that is under way; read without the lock

    def run(self) -> None:
        """Round after round until it is time to end."""
        while self._wait_for_change():
            self.began_s = time.monotonic()
            self._gather()
            self._round()
            self.began_s = None
        self.began_s = None

    def recover(self, error: BaseException) -> None:
        """A round has raised: answer what it cannot get past."""
        self.began_s = None
        with self._state.changed:
            for call in self._front:
                call.crashes += 1
            poisoned = [call for call in self._front if call.crashes >= CRASHES_OF_A_CALL]
            self._state.wake()
        for call in poisoned:
            self._fail(call, error)

    def _wait_for_change(self) -> bool:
        """Sleep until a round could decide something; False when it is time to end."""
        state = self._state
        with state.changed:
            if not state.dirty and not self._is_over():
                state.changed.wait(self._sleep_s())
            return not self._is_over()

    def _is_over(self) -> bool:
        state = self._state
        return state.stopping and not (state.held and time.monotonic() < state.stop_at_s)

    def _gather(self) -> None:
        """Calls that arrive together are decided together; those that are there are estimated meanwhile."""
        started_s = time.monotonic()
        state = self._state
        with state.changed:
            gathering = state.gathering and not state.stopping
            until_s = started_s + state.settings.gather_s
            table = state.table
            arrived = self._first(table, started_s) if gathering else []
        self._price(table, arrived)
        with state.changed:
            now_s = time.monotonic()
            self._gathered_ms = (now_s - started_s) * 1000 if arrived else 0.0
            if gathering and now_s < until_s:
                state.changed.wait_for(lambda: state.stopping, timeout=until_s - now_s)
            state.dirty = state.gathering = False

    def _sleep_s(self) -> float | None:
        """Seconds until the clock alone gives reason for a round or to end; None: never. The lock is held."""
        next_s = min((at_s for at_s in self._moments_s() if at_s > self._seen_s), default=None)
        return None if next_s is None else max(0.0, next_s - time.monotonic())

    def _moments_s(self) -> Iterator[float]:
        """When a round could decide something new. One that passed while the last was at work is a reason
        still: that round has not seen it.
        """
        state = self._state
        for slots in state.table.slots:
            if (at_s := slots.wakeup_s()) is not None:
                yield at_s
        for call in state.backing_off:
            yield call.not_before_s
        for call in self._front:
            if call in state.queue:
                for limit_s in state.settings.waiting.limits_s:
                    yield call.arrived_s + limit_s
        if state.starved:
            yield self._seen_s + STARVED_S
        if state.stopping:
            yield state.stop_at_s

    def _first(self, table: CorePool, now_s: float) -> list[Call]:
        """The calls that a round looks at; the lock is held."""
        free = {name: room.free for name, room in zip(table.names, table.rooms(), strict=True) if room.free}
        wanted = CALLS_PER_SLOT * sum(free.values()) + SPARE_CALLS
        served = _is_served(table, free.keys()) if free else lambda call: True
        return self._state.queue.front(wanted, now_s, served)

    def _round(self) -> None:
        started_s = time.monotonic()
        state = self._state
        with state.changed:
            self._seen_s = started_s
            state.starved = False
            state.end_backoffs(started_s)
            table, settings, owed = state.table, state.settings, state.debt.owed
            self._front = front = self._first(table, started_s)
        if not front:
            return
        refused = self._price(table, front)
        pending = [call for call in front if call not in refused and call.row is not None]
        plan = self._stages.plan(table, settings, pending, owed, time.monotonic())
        with state.changed:
            for call in pending:
                if call in state.queue:
                    call.enter(CallState.PLANNED if call in plan.waiting_for else CallState.PENDING)
            state.ledger.degraded_rounds += plan.fell_back
            decision_ms = self._gathered_ms + (time.monotonic() - started_s) * 1000
            state.ledger.round(len(plan.placements), decision_ms)
        for placement in plan.placements:
            self._dispatch(table, settings, placement, decision_ms)

    def _price(self, table: CorePool, pending: Sequence[Call]) -> set[Call]:
        """Give estimates to the calls that lack them under this table; return those that no core may take."""
        calls = [call for call in pending if call.row is None or call.row.table is not table]
        if not calls:
            return set()
        estimates = self._stages.estimate(table, calls)
        state = self._state
        with state.changed:
            kept_to = {call: state.affinity.core_of(call.conversation) for call in calls}
            affinity = state.settings.affinity
            down = table.down(time.monotonic() + state.settings.unavailable_after_s)
        try:
            table.price(calls, estimates, kept_to, affinity, down)
        except BaseException as error:  # noqa: BLE001 - what a call needs may hold anything
            return self._price_one_by_one(table, calls, error)
        refused = {call for call in calls if call.row is not None and not call.row.allowed.any()}
        for call in refused:
            reason = NoCoreError(why_none(call.needs, table.cores))
            state.finish(call, CallResult(None, error=reason, failed=True, causes=call.causes))
        return refused

    def _price_one_by_one(self, table: CorePool, calls: Sequence[Call], error: BaseException) -> set[Call]:
        """One of these calls makes pricing raise: answer that one, and serve the others."""
        if len(calls) == 1:
            self._fail(calls[0], error)
            return set(calls)
        return set().union(*(self._price(table, [call]) for call in calls))

    def _fail(self, call: Call, error: BaseException) -> None:
        logger.error("a call of agent %r cannot be scheduled", call.agent, exc_info=error)
        fault = CallFailedError(f"the scheduler failed on this call: {type(error).__name__}")
        self._state.finish(call, CallResult(call.core, error=fault, failed=True))

    def _count_degraded(self, calls: int) -> None:
        with self._state.changed:
            self._state.ledger.degraded_rounds += 1
            self._state.ledger.degraded_calls += calls

    def _dispatch(
        self, table: CorePool, settings: SchedulerSettings, placement: Placement, decision_ms: float
    ) -> None:
        call, slots = placement.call, table.slots[placement.column]
        decide = partial(self._decide, table, settings, placement, decision_ms)
        try:
            decision = self._attempts.send(call, slots, decide)
        except BaseException as error:
            logger.error("a call could not be sent to core %r", slots.core.name, exc_info=error)
            with self._state.changed:
                call.crashes += 1
                poisoned = call.crashes >= CRASHES_OF_A_CALL
                self._state.starved = True  # another round tries again, a little later
            if poisoned:
                self._fail(call, error)
            return
        if decision is not None:
            logger.debug(LOG_LINE, *decision.log_values())

    def _decide(
        self, table: CorePool, settings: SchedulerSettings, placement: Placement, decision_ms: float
    ) -> Decision:
        """Write down that a call goes to a core; the lock is held."""
        state, call = self._state, placement.call
        decision = decision_of(placement, table.names, decision_ms, settings.log_text)
        state.ledger.decide(decision)
        if settings.affinity != "off":
            state.affinity.served(call.conversation, decision.core)
        target = settings.quality_target if call.quality_target is None else call.quality_target
        state.debt.sent(target, decision.predicted_quality)
        return decision


def _is_served(table: CorePool, free: Set[str]) -> Callable[[Call], bool]:
    """Whether a round could send a call now, or has to refuse it for want of any core."""
    names = frozenset(table.names)

    def is_served(call: Call) -> bool:
        if call.pinned in names:
            return call.pinned in free
        named = names if call.needs.cores is None else call.needs.cores & names
        return not named or not named.isdisjoint(free)

    return is_served
