"""Deadlines: what time alone decides, watched apart from the rounds."""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial

from eccos_aios.schedule.attempt import Attempt
from eccos_aios.schedule.attempts import LETTING_GO_S, Attempts, causes_of
from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.call_threads import CallThreads
from eccos_aios.schedule.execution import CallTimeoutError, Prober, UnavailableError
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind
from eccos_aios.schedule.slots import CoreSlots
from eccos_aios.schedule.state import SchedulerState

LOOK_S = 0.1  # seconds between looks while a core is down
LONGEST_SLEEP_S = (
    5.0  # seconds: a call whose deadline is later than that need not wake the thread as it comes
)
SHARE_OF_WAIT = 0.9  # of unavailable_after_s, so that the agent has its error within it
LEAST_PING_S = 2.0  # seconds that a core gets for the smallest call there is
PING_FACTOR = 3.0  # on the core's usual service time


class Deadlines:
    """What the thread ``eccos-deadlines`` does: timeouts, calls whose every core is down, probes.

    A predictor that hangs must not keep an agent waiting, so nothing here waits for a round.

    Parameters
    ----------
    state : SchedulerState
    attempts : Attempts
    threads : CallThreads
        In which probes run.
    """

    def __init__(self, state: SchedulerState, attempts: Attempts, threads: CallThreads) -> None:
        self._state = state
        self._attempts = attempts
        self._threads = threads

    def run(self) -> None:
        """Watch until the scheduler has ended."""
        state = self._state
        while True:
            with state.changed:
                if state.stopping and not state.held:
                    return
                sleep_s = self._sleep_s()
                state.watching_until_s = time.monotonic() + sleep_s
                state.watched.wait(sleep_s)
                state.watching_until_s = float("-inf")
                if state.stopping and time.monotonic() >= state.stop_at_s:
                    return
            self._look()

    def _sleep_s(self) -> float:
        """Seconds until something is due, at most. The lock is held."""
        state = self._state
        now_s = time.monotonic()
        moments_s = [now_s + LONGEST_SLEEP_S, self._attempts.next_deadline_s()]
        if (first_s := state.first_arrived_s) is not None:
            moments_s.append(first_s + state.settings.call_timeout_s)
        if state.stopping:
            moments_s.append(state.stop_at_s)
        moments_s += [at_s for slots in state.table.slots if (at_s := slots.probe_at_s()) is not None]
        state.some_down = bool(state.table.down(now_s + state.settings.call_timeout_s))
        if state.pending and state.some_down:
            moments_s.append(now_s + LOOK_S)
        return max(0.0, min(moments_s) - now_s)

    def _look(self) -> None:
        self._time_out(time.monotonic())
        self._attempts.give_up_silent(time.monotonic())
        self._give_up_unreachable(time.monotonic())
        self._probe()

    def _time_out(self, now_s: float) -> None:
        """Answer the calls that took too long."""
        state = self._state
        with state.changed:
            limit_s = state.settings.call_timeout_s
            over = state.arrived_before(now_s - limit_s)
            for call in over:
                self._attempts.give_up(call)
        for call in over:
            reason = f"no core answered within call_timeout_s = {limit_s:g} seconds"
            error = CallTimeoutError(reason + causes_of(call))
            state.finish(call, CallResult(call.core, error=error, failed=True, causes=call.causes))

    def _give_up_unreachable(self, now_s: float) -> None:
        """Answer the calls for which every core has been down for long enough."""
        state = self._state
        with state.changed:
            reasons = {
                slots.core.name: why
                for slots in state.table.slots
                if (why := slots.why_down(now_s + state.settings.call_timeout_s))
            }
            waiting = [*state.queue, *state.backing_off] if reasons else []
            over: list[tuple[Call, str]] = []
            for call in waiting:
                down = self._all_down(call, reasons)
                if not down:
                    call.unreachable_s = None
                elif call.unreachable_s is None:
                    call.unreachable_s = now_s
                elif now_s - call.unreachable_s >= SHARE_OF_WAIT * state.settings.unavailable_after_s:
                    over.append((call, "; ".join(f"{name}: {reasons[name]}" for name in down)))
        for call, why in over:
            error = UnavailableError(f"every core that may take this call is down ({why})")
            state.finish(call, CallResult(call.core, error=error, failed=True, causes=call.causes))

    def _all_down(self, call: Call, reasons: Collection[str]) -> list[str]:
        """The cores that may take a call where all of them are down, else none; the lock is held."""
        state, table = self._state, self._state.table
        row = call.row if call.row is not None and call.row.table is table else None
        if row is not None and any(
            name not in reasons for name, may in zip(table.names, row.allowed.tolist(), strict=True) if may
        ):
            return []
        permitted = sorted(table.permitted(call) - call.unfit)
        if not permitted or not all(name in reasons for name in permitted):
            if row is not None and permitted:
                call.row = None  # those it was kept to are down: let it see the others
                state.wake()
            return []
        for name in permitted:
            table.known[name].await_probe()
        return permitted

    def _probe(self) -> None:
        """Begin the probes that are due."""
        with self._state.changed:
            prober, table = self._state.prober, self._state.table
        if prober is None:
            return
        for slots in table.slots:
            if slots.begin_probe():
                began_s = time.monotonic()
                if self._threads.reserve():
                    self._threads.run(partial(self._serve_probe, prober, slots, began_s))
                else:
                    slots.end_probe(None, began_s)

    def _serve_probe(self, prober: Prober, slots: CoreSlots, began_s: float) -> None:
        """Look, then ping; in a thread of its own."""
        outcome: AttemptOutcome | None = None
        name = slots.core.name
        usual_s = slots.typical_service_s() or 0.0
        attempt = Attempt(name, timeout_s=max(LEAST_PING_S, PING_FACTOR * usual_s))
        try:
            with attempt.current():
                outcome = _found(prober, slots)
        except BaseException as error:  # noqa: BLE001 - a backend may raise anything
            attempt.note_error(error)
            outcome = attempt.outcome()
        finally:
            slots.end_probe(outcome, began_s)
            with self._state.changed:
                self._state.wake()
                self._state.watched.notify_all()


def _found(prober: Prober, slots: CoreSlots) -> AttemptOutcome | None:
    """What a look and then a ping say of a core; None where calls hold every slot, so that none was sent."""
    name = slots.core.name
    outcome = prober.look(name)
    if outcome is not None and outcome.kind is not OutcomeKind.ANSWERED:
        return outcome
    if not slots.acquire_for_probe():
        return None
    outcome = None
    try:
        outcome = prober.ping(name)
    finally:
        if outcome is None or outcome.kind is OutcomeKind.CORE_SILENT:
            time.sleep(LETTING_GO_S)
        slots.release()
    return outcome
