"""Deadlines: timeouts, unreachable calls and probes, watched independently of the rounds."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from eccos_aios.schedule.attempt import Attempt
from eccos_aios.schedule.attempts import RELEASE_DELAY_S, Attempts, causes_of
from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.call_threads import CallThreads
from eccos_aios.schedule.execution import CallTimeoutError, Prober, UnavailableError
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind
from eccos_aios.schedule.slots import CoreSlots
from eccos_aios.schedule.state import SchedulerState

CHECK_INTERVAL_S = 0.1  # seconds between checks while a core is down
LONGEST_SLEEP_S = 5.0  # seconds; a call whose deadline is later than that need not wake the thread on arrival
SHARE_OF_WAIT = 0.9  # of unavailable_after_s, so that the agent gets its error within it
LEAST_PING_S = 2.0  # seconds; the shortest timeout of a ping
PING_FACTOR = 3.0  # times the core's usual service time


class Deadlines:
    """The work of the thread ``eccos-deadlines``.

    It times out calls and attempts, answers calls whose every core is down, and starts probes. Nothing here
    waits for a round, so that a predictor that hangs cannot keep an agent waiting.

    Parameters
    ----------
    state : SchedulerState
    attempts : Attempts
    threads : CallThreads
        Run the probes.
    """

    def __init__(self, state: SchedulerState, attempts: Attempts, threads: CallThreads) -> None:
        self._state = state
        self._attempts = attempts
        self._threads = threads

    def run(self) -> None:
        """Check until the scheduler has ended."""
        state = self._state
        while True:
            with state.changed:
                if state.stopping and not state.held:
                    return
                state.next_check_s = self._next_check_s()
                state.clock.wait(state.watched, state.next_check_s)
                state.next_check_s = float("-inf")
                if state.stopping and state.clock.now_s() >= state.stop_at_s:
                    return
            self._check()

    def _next_check_s(self) -> float:
        """When something may be due next; the lock is held."""
        state = self._state
        now_s = state.clock.now_s()
        moments_s = [now_s + LONGEST_SLEEP_S, self._attempts.next_deadline_s()]
        if (first_s := state.first_arrived_s) is not None:
            moments_s.append(first_s + state.settings.call_timeout_s)
        if state.stopping:
            moments_s.append(state.stop_at_s)
        moments_s += [at_s for slots in state.pool.slots if (at_s := slots.probe_at_s()) is not None]
        state.some_down = bool(state.pool.down(now_s + state.settings.call_timeout_s))
        if state.pending and state.some_down:
            moments_s.append(now_s + CHECK_INTERVAL_S)
        return max(now_s, min(moments_s))

    def _check(self) -> None:
        now_s = self._state.clock.now_s
        self._time_out(now_s())
        self._attempts.give_up_silent(now_s())
        self._give_up_unreachable(now_s())
        self._probe()

    def _time_out(self, now_s: float) -> None:
        """Answer the calls that have timed out."""
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
                for slots in state.pool.slots
                if (why := slots.why_down(now_s + state.settings.call_timeout_s))
            }
            waiting = [*state.queue, *state.backing_off] if reasons else []
            over: list[tuple[Call, str]] = []
            ended: list[tuple[Call, CallResult]] = []
            for call in waiting:
                if call.in_stages and call.awaited_core in reasons:
                    answer = self._attempts.skip_stage(call)
                    ended += [] if answer is None else [(call, answer)]
                    continue
                down = self._all_down(call, reasons)
                if not down:
                    call.unreachable_s = None
                elif call.unreachable_s is None:
                    call.unreachable_s = now_s
                elif now_s - call.unreachable_s >= SHARE_OF_WAIT * state.settings.unavailable_after_s:
                    over.append((call, "; ".join(f"{name}: {reasons[name]}" for name in down)))
        for call, answer in ended:
            state.finish(call, answer)
        for call, why in over:
            error = UnavailableError(f"every core that may take this call is down ({why})")
            state.finish(call, CallResult(call.core, error=error, failed=True, causes=call.causes))

    def _all_down(self, call: Call, reasons: Collection[str]) -> list[str]:
        """The cores that may take a call if all of them are down, else none; the lock is held."""
        state, pool = self._state, self._state.pool
        row = call.row if call.row is not None and call.row.pool is pool else None
        if row is not None and any(
            name not in reasons for name, may in zip(pool.names, row.allowed.tolist(), strict=True) if may
        ):
            return []
        permitted = sorted(pool.permitted(call) - call.unfit)
        if not permitted or not all(name in reasons for name in permitted):
            if row is not None and permitted:
                call.row = None  # the cores that it was limited to are down: open it to the others
                state.wake()
            return []
        for name in permitted:
            pool.known[name].await_probe()
        return permitted

    def _probe(self) -> None:
        """Start the probes that are due."""
        with self._state.changed:
            prober, pool = self._state.prober, self._state.pool
        if prober is None:
            return
        for slots in pool.slots:
            if slots.begin_probe():
                began_s = self._state.clock.now_s()
                if self._threads.reserve():
                    self._threads.run(partial(self._serve_probe, prober, slots, began_s))
                else:
                    slots.end_probe(None, began_s)

    def _serve_probe(self, prober: Prober, slots: CoreSlots, began_s: float) -> None:
        """Look, then ping; runs in a thread of its own."""
        outcome: AttemptOutcome | None = None
        usual_s = slots.typical_service_s() or 0.0
        timeout_s = max(LEAST_PING_S, PING_FACTOR * usual_s)
        attempt = Attempt(slots.core.name, timeout_s=timeout_s, clock=self._state.clock)
        try:
            with attempt.current():
                outcome = self._look_and_ping(prober, slots)
        except BaseException as error:  # noqa: BLE001 - a backend may raise anything
            attempt.note_error(error)
            outcome = attempt.outcome()
        finally:
            slots.end_probe(outcome, began_s)
            with self._state.changed:
                self._state.wake()
                self._state.watched.notify_all()

    def _look_and_ping(self, prober: Prober, slots: CoreSlots) -> AttemptOutcome | None:
        """The outcome of a probe; None if calls hold every slot, so that no ping was sent."""
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
                self._state.clock.sleep(RELEASE_DELAY_S)
            slots.release()
        return outcome
