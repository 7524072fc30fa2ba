"""Attempts: calls on their way to a core, and what follows when they come back or do not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from eccos_aios.schedule.attempt import Attempt
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.call_threads import CallThreads
from eccos_aios.schedule.decision_log import Decision
from eccos_aios.schedule.execution import CallFailedError, CallTimeoutError, ExecutionResult
from eccos_aios.schedule.next_step import NextStep, next_step
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind
from eccos_aios.schedule.slots import CoreSlots
from eccos_aios.schedule.state import SchedulerState

logger = logging.getLogger(__name__)

SILENT = AttemptOutcome(OutcomeKind.CORE_SILENT, "no answer in time")
UNFINISHED = AttemptOutcome(OutcomeKind.CORE_UNFIT, "the call's own time was over")
LETTING_GO_S = 0.25  # seconds until a core has noticed that its client hung up, and lets go of the call
SHARE_OF_CALL = 0.5  # of the call's time that one core gets at most, where there is another


class Attempts:
    """Sends calls and draws the consequences.

    An attempt's consequence is drawn once: when the client comes back with something, or when the time is
    over that the core had. In that case the slot stays taken until the client lets go, and what it then
    brings still counts if it is an answer and the call has none.

    Parameters
    ----------
    state : SchedulerState
    threads : CallThreads
        A call in flight has one.
    """

    def __init__(self, state: SchedulerState, threads: CallThreads) -> None:
        self._state = state
        self._threads = threads
        # Guarded by the state's lock.
        self._under_way: dict[Attempt, tuple[Call, CoreSlots]] = {}
        self._retries: set[Attempt] = set()

    def send(self, call: Call, slots: CoreSlots, decide: Callable[[], Decision]) -> Decision | None:
        """Send a waiting call to a core; None where it goes on waiting.

        Parameters
        ----------
        call : Call
        slots : CoreSlots
        decide : callable
            Makes the decision once the call has its slot; the lock is held.
        """
        state = self._state
        if not self._threads.reserve():
            with state.changed:
                state.starved = True
            return None
        begun: Decision | None = None
        try:
            with state.changed:
                if call not in state.queue or not self._within_budget(call):
                    return None
                begun, attempt = self._begin(call, slots, decide)
                if begun is None:
                    return None
                execute = state.execute
            self._threads.run(partial(self._serve, call, slots, attempt, execute))
        finally:
            if begun is None:
                self._threads.cancel()
        return begun

    def next_deadline_s(self) -> float:
        """When the first attempt under way has had its time; the lock is held."""
        return min((attempt.deadline_s for attempt in self._under_way), default=float("inf"))

    def give_up_silent(self, now_s: float) -> None:
        """Try those calls elsewhere whose core has had its time."""
        with self._state.changed:
            over = [
                (attempt, *where) for attempt, where in self._under_way.items() if attempt.deadline_s <= now_s
            ]
            for attempt, call, slots in over:
                self._forget(attempt)
                slots.give_up(call.number, SILENT, attempt.timeout_s, trial=attempt.trial)
        for attempt, call, slots in over:
            self._draw(call, slots, attempt, ExecutionResult(None, SILENT), None)

    def give_up(self, call: Call) -> None:
        """The call's own time is over; the core is to blame if it had as long as it gets."""
        with self._state.changed:
            attempt = call.attempt
            if attempt is None or attempt not in self._under_way:
                return
            _, slots = self._under_way[attempt]
            self._forget(attempt)
            patience_s = min(slots.attempt_timeout_s(), self._state.settings.call_timeout_s)
            outcome = SILENT if time.monotonic() - attempt.started_s >= 0.9 * patience_s else UNFINISHED
            timeout_s = (
                attempt.timeout_s if outcome is SILENT else 0.0
            )  # no reason to be more patient with it
            slots.give_up(call.number, outcome, timeout_s, trial=attempt.trial)
            call.failures[slots.core.name] = outcome

    def _within_budget(self, call: Call) -> bool:
        retry = self._state.settings.retry
        return not call.attempts or retry.allows(len(self._retries), len(self._under_way))

    def _begin(
        self, call: Call, slots: CoreSlots, decide: Callable[[], Decision]
    ) -> tuple[Decision | None, Attempt]:
        """Give a call its slot; the lock is held."""
        state, name = self._state, slots.core.name
        attempt = Attempt(name, call.attempts + 1, self._timeout_s(call, slots))
        admitted = slots.acquire()
        if admitted is None:
            return None, attempt
        attempt.trial = admitted == "trial"
        call.attempts += 1
        try:
            decision = decide()
            call.enter(CallState.IN_FLIGHT)
        except BaseException:
            call.attempts -= 1
            slots.release()
            if attempt.trial:
                slots.end_probe(None, attempt.started_s)
            raise
        call.core, call.attempt, call.unreachable_s = name, attempt, None
        state.queue.leave(call)
        state.queue.served(call)
        self._under_way[attempt] = call, slots
        if call.attempts > 1:
            self._retries.add(attempt)
        state.watch_by(attempt.deadline_s)
        return decision, attempt

    def _timeout_s(self, call: Call, slots: CoreSlots) -> float:
        """Seconds that a core gets for a call; the lock is held."""
        state = self._state
        settings = state.settings
        timeout_s = settings.attempt_timeout_s
        if timeout_s is None:
            timeout_s = slots.attempt_timeout_s()
            if len(state.table.permitted(call)) > 1:
                timeout_s = min(timeout_s, SHARE_OF_CALL * settings.call_timeout_s)
        left_s = call.arrived_s + settings.call_timeout_s - time.monotonic()
        return max(0.0, min(timeout_s, left_s))

    def _serve(
        self, call: Call, slots: CoreSlots, attempt: Attempt, execute: Callable[[Call, str], ExecutionResult]
    ) -> None:
        """Send a call and wait for what comes; in a thread of its own."""
        error: BaseException | None = None
        try:
            with attempt.current():
                executed = execute(call, attempt.core)
        except BaseException as raised:  # noqa: BLE001 - a backend may raise anything; the agent must be answered
            error = raised
            attempt.note_error(raised)
            executed = ExecutionResult(None, attempt.outcome())
        try:
            self._come_back(call, slots, attempt, executed, error)
        except BaseException as fault:
            logger.error("the consequence of an attempt could not be drawn", exc_info=fault)
            self._state.finish(
                call, CallResult(attempt.core, error=CallFailedError(repr(fault)), failed=True)
            )

    def _come_back(
        self,
        call: Call,
        slots: CoreSlots,
        attempt: Attempt,
        executed: ExecutionResult,
        error: BaseException | None,
    ) -> None:
        service_s = time.monotonic() - attempt.started_s
        silent = executed.outcome.kind is OutcomeKind.CORE_SILENT
        with self._state.changed:
            late = attempt not in self._under_way
            self._forget(attempt)
            self._state.ledger.service.add(service_s)
            if silent and not late:
                slots.give_up(call.number, executed.outcome, attempt.timeout_s, trial=attempt.trial)
            elif not late or not executed.failed:
                # in the same breath, so that no round sees the slot of a core that has just failed
                slots.note(
                    call.number,
                    executed.outcome,
                    service_s=service_s,
                    started_s=attempt.started_s,
                    trial=attempt.trial,
                )
            if not silent:
                slots.release(silent=late)
            self._state.wake()
            if executed.failed:
                self._state.watch_by(time.monotonic())
        if not late:
            self._draw(call, slots, attempt, executed, error, service_s)
        elif not executed.failed:
            self._answer(call, slots, executed, service_s)
        if silent:
            time.sleep(LETTING_GO_S)
            slots.release(silent=True)
            with self._state.changed:
                self._state.wake()

    def _forget(self, attempt: Attempt) -> None:
        """The attempt is no longer waited for; the lock is held."""
        self._under_way.pop(attempt, None)
        self._retries.discard(attempt)

    def _draw(
        self,
        call: Call,
        slots: CoreSlots,
        attempt: Attempt,
        executed: ExecutionResult,
        error: BaseException | None,
        service_s: float | None = None,
    ) -> None:
        """What an attempt that has ended means for its call."""
        if not executed.failed:
            self._answer(call, slots, executed, service_s)
            return
        state, name, outcome = self._state, attempt.core, executed.outcome
        with state.changed:
            if call not in state.held or call.attempt is not attempt:
                return
            if attempt.trial or outcome.kind is OutcomeKind.CORE_BUSY:
                call.attempts -= 1
            self._judge(call, name, outcome)
            call.failures[name] = outcome
            step = NextStep.END if state.stopping else self._next_step(call, outcome)
            if step is not NextStep.END:
                state.ledger.retries += 1
                backoff_s = state.settings.retry.backoff_s(call.attempts)
                later_s = time.monotonic() + backoff_s if step is NextStep.LATER else None
                state.wait_again(call, later_s)
                return
        result = CallResult(name, executed.value, error, failed=True, service_s=service_s, causes=call.causes)
        if result.value is None and error is None:
            silent = outcome.kind is OutcomeKind.CORE_SILENT
            fault = CallTimeoutError if silent else CallFailedError
            result = replace(result, error=fault(f"no core answered{causes_of(call)}"))
        state.finish(call, result)

    def _answer(
        self, call: Call, slots: CoreSlots, executed: ExecutionResult, service_s: float | None
    ) -> None:
        state, name = self._state, slots.core.name
        with state.changed:
            if call not in state.held:
                return
            if call.disputed:
                self._blame_again(call)
        state.finish(call, CallResult(name, executed.value, service_s=service_s, causes=call.causes))

    def _next_step(self, call: Call, outcome: AttemptOutcome) -> NextStep:
        state = self._state
        down = state.table.down(call.arrived_s + state.settings.call_timeout_s)
        return next_step(call, outcome, state.table.permitted(call), down, state.settings.retry.max_attempts)

    def _judge(self, call: Call, name: str, outcome: AttemptOutcome) -> None:
        """Take back what is held against cores that fail this call alike; the lock is held."""
        known = self._state.table.known
        alike = {core for core, earlier in call.failures.items() if core != name and earlier.is_like(outcome)}
        if alike or (call.disputed and outcome.disputable):
            call.disputed = True
            for core in {name, *alike} & known.keys():
                known[core].forgive(call.number)

    def _blame_again(self, call: Call) -> None:
        """A core has answered what others failed alike, so that it was their fault; the lock is held."""
        for core, outcome in call.failures.items():
            slots = self._state.table.known.get(core)
            if slots is not None and outcome.disputable:
                slots.blame(call.number, outcome)


def causes_of(call: Call) -> str:
    """What became of a call at every core that it was tried on, in brackets; empty where it was on none."""
    causes = "; ".join(f"{core}: {cause}" for core, cause in call.causes.items())
    return f" ({causes})" if causes else ""
