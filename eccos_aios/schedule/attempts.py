"""Attempts: sends calls to cores and handles what comes back, or does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from eccos_aios.schedule.attempt import Attempt
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.call_threads import CallThreads
from eccos_aios.schedule.decision_log import Decision
from eccos_aios.schedule.execution import CallFailedError, CallTimeoutError, ExecutionResult
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind
from eccos_aios.schedule.plan_stages import PlanStages, Stage
from eccos_aios.schedule.retry import NextStep, next_step
from eccos_aios.schedule.slots import CoreSlots
from eccos_aios.schedule.state import SchedulerState
from eccos_aios.verify import PASSES, AnswerCheck

logger = logging.getLogger(__name__)

SILENT = AttemptOutcome(OutcomeKind.CORE_SILENT, "no answer in time")
UNFINISHED = AttemptOutcome(OutcomeKind.CORE_UNFIT, "the call's own time was over")
UNAVAILABLE = "is down, or may not take the call"  # a stage that was not begun
RELEASE_DELAY_S = 0.25  # seconds until a core notices that its client hung up, and drops the call
SHARE_OF_CALL = 0.5  # of the call's time that one attempt gets at most, where another core may take the call
SILENT_FROM = 0.9  # share of its time after which an attempt without an answer counts as silent


class Attempts:
    """Sends calls and handles their outcomes.

    The outcome of an attempt is handled once: when the client returns, or when the attempt times out. After
    a timeout the slot stays taken until the client returns, and an answer that it then brings is used if
    the call still has none.

    Parameters
    ----------
    state : SchedulerState
    threads : CallThreads
        One for each call in flight.
    """

    def __init__(self, state: SchedulerState, threads: CallThreads) -> None:
        self._state = state
        self._threads = threads
        # Guarded by the state's lock.
        self._under_way: dict[Attempt, tuple[Call, CoreSlots]] = {}
        self._retries: set[Attempt] = set()

    def send(
        self,
        call: Call,
        slots: CoreSlots,
        decide: Callable[[], Decision],
        stages: PlanStages | None = None,
    ) -> Decision | None:
        """Send a waiting call to a core; None if it has to wait longer.

        Parameters
        ----------
        call : Call
        slots : CoreSlots
        decide : callable
            Makes the decision once the call has its slot; the lock is held.
        stages : PlanStages, optional
            The plan of several cores that begins here.
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
                begun, attempt = self._begin(call, slots, decide, stages)
                if begun is None or attempt is None:
                    return None
                execute = state.execute
            self._threads.run(partial(self._serve, call, slots, attempt, execute))
        finally:
            if begun is None:
                self._threads.cancel()
        return begun

    def send_beside(self, call: Call, slots: CoreSlots) -> bool:
        """Send a call that is at its plan's first core to the second one, too; False if it has to wait.

        Its plan then asks that core once the first has answered.
        """
        if not self._threads.reserve():
            return False
        begun = False
        try:
            with self._state.changed:
                stages = call.stages
                if stages is None or call.state is not CallState.IN_FLIGHT or not stages.under_way:
                    return False
                if stages.beside() != slots.core.name:
                    return False
                attempt = self._acquire(call, slots)
                if attempt is None:
                    return False
                call.attempts += 1
                self._watch(call, slots, attempt)
                begun, execute = True, self._state.execute
            self._threads.run(partial(self._serve, call, slots, attempt, execute))
        finally:
            if not begun:
                self._threads.cancel()
        return begun

    def next_deadline_s(self) -> float:
        """When the first attempt under way times out; the lock is held."""
        return min((attempt.deadline_s for attempt in self._under_way), default=float("inf"))

    def give_up_silent(self, now_s: float) -> None:
        """End the attempts that have timed out, and let their calls be tried elsewhere."""
        with self._state.changed:
            over = [
                (attempt, *where) for attempt, where in self._under_way.items() if attempt.deadline_s <= now_s
            ]
            for attempt, call, slots in over:
                self._forget(attempt)
                slots.give_up(call.number, SILENT, attempt.timeout_s, trial=attempt.trial)
        for attempt, call, slots in over:
            self._conclude(call, slots, attempt, ExecutionResult(None, SILENT), None)

    def give_up(self, call: Call) -> None:
        """End the attempt of a call that has timed out itself.

        The core is to blame if the attempt had about as long as an attempt gets. The lock is held.
        """
        stages = call.stages if call.in_stages else None
        attempts = [call.attempt] if stages is None else list(stages.under_way.values())
        for attempt in attempts:
            if attempt is not None and attempt in self._under_way:
                self._give_up_attempt(call, attempt)

    def _give_up_attempt(self, call: Call, attempt: Attempt) -> None:
        state = self._state
        _, slots = self._under_way[attempt]
        self._forget(attempt)
        attempt_s = min(slots.attempt_timeout_s(), state.settings.call_timeout_s)
        silent = state.clock.now_s() - attempt.started_s >= SILENT_FROM * attempt_s
        outcome = SILENT if silent else UNFINISHED
        # Where the core is not to blame there is no reason to give it more time in future.
        slots.give_up(call.number, outcome, attempt.timeout_s if silent else 0.0, trial=attempt.trial)
        call.failures[slots.core.name] = outcome

    def _within_budget(self, call: Call) -> bool:
        retry = self._state.settings.retry
        return not call.attempts or call.in_stages or retry.allows(len(self._retries), len(self._under_way))

    def _acquire(self, call: Call, slots: CoreSlots) -> Attempt | None:
        """An attempt that has its slot; None where there is none. The lock is held."""
        timeout_s = self._timeout_s(call, slots)
        attempt = Attempt(slots.core.name, call.attempts + 1, timeout_s, self._state.clock)
        admitted = slots.acquire()
        attempt.trial = admitted == "trial"
        return None if admitted is None else attempt

    def _begin(
        self, call: Call, slots: CoreSlots, decide: Callable[[], Decision], stages: PlanStages | None
    ) -> tuple[Decision, Attempt] | tuple[None, None]:
        """Give a call its slot; the lock is held."""
        state = self._state
        attempt = self._acquire(call, slots)
        if attempt is None:
            return None, None
        call.attempts += 1
        before = call.stages
        if stages is not None:
            call.stages = stages
        try:
            decision = decide()
            call.enter(CallState.IN_FLIGHT)
        except BaseException:
            call.attempts -= 1
            call.stages = before
            slots.release()
            if attempt.trial:
                slots.end_probe(None, attempt.started_s)
            raise
        call.core, call.attempt = attempt.core, attempt
        if not attempt.trial:
            call.unreachable_s = None
        state.queue.leave(call)
        state.queue.served(call)
        self._watch(call, slots, attempt)
        return decision, attempt

    def _watch(self, call: Call, slots: CoreSlots, attempt: Attempt) -> None:
        """Count an attempt that has its slot as under way; the lock is held."""
        self._under_way[attempt] = call, slots
        if call.stages is not None and not call.stages.given_up:
            call.stages.begin(attempt)
        elif call.attempts > 1:
            self._retries.add(attempt)
        self._state.check_by(attempt.deadline_s)

    def _timeout_s(self, call: Call, slots: CoreSlots) -> float:
        """Seconds until an attempt at a call times out; the lock is held."""
        state = self._state
        settings = state.settings
        timeout_s = settings.attempt_timeout_s
        if timeout_s is None:
            timeout_s = slots.attempt_timeout_s()
            if call.row is not None and call.row.has_choice:
                timeout_s = min(timeout_s, SHARE_OF_CALL * settings.call_timeout_s)
        left_s = call.arrived_s + settings.call_timeout_s - state.clock.now_s()
        return max(0.0, min(timeout_s, left_s))

    def _serve(
        self, call: Call, slots: CoreSlots, attempt: Attempt, execute: Callable[[Call, str], ExecutionResult]
    ) -> None:
        """Send a call and wait for the client to return; runs in a thread of its own."""
        error: BaseException | None = None
        try:
            with attempt.current():
                result = execute(call, attempt.core)
        except BaseException as raised:  # noqa: BLE001 - a backend may raise anything; the agent must be answered
            error = raised
            attempt.note_error(raised)
            result = ExecutionResult(None, attempt.outcome())
        try:
            self._on_return(call, slots, attempt, result, error)
        except BaseException as fault:
            logger.error("handling the outcome of an attempt raised", exc_info=fault)
            self._state.finish(
                call, CallResult(attempt.core, error=CallFailedError(repr(fault)), failed=True)
            )

    def _on_return(
        self,
        call: Call,
        slots: CoreSlots,
        attempt: Attempt,
        result: ExecutionResult,
        error: BaseException | None,
    ) -> None:
        """Handle what the client returned, be it in time or late."""
        state = self._state
        service_s = state.clock.now_s() - attempt.started_s
        silent = result.outcome.kind is OutcomeKind.CORE_SILENT
        with state.changed:
            late = attempt not in self._under_way
            self._forget(attempt)
            state.metrics.service.add(service_s)
            state.budgets.returned(call, slots.core, attempt.usage, free=result.failed and not silent)
            if silent and not late:
                slots.give_up(call.number, result.outcome, attempt.timeout_s, trial=attempt.trial)
            elif not late or not result.failed:
                # Under the same lock as the release, so that no round sees a free slot of a core that has
                # just failed.
                slots.note(
                    call.number,
                    result.outcome,
                    service_s=service_s,
                    started_s=attempt.started_s,
                    trial=attempt.trial,
                )
            if not silent:
                slots.release(silent=late)
            state.wake()
            if result.failed:
                state.check_by(state.clock.now_s())
        if not late:
            self._conclude(call, slots, attempt, result, error, service_s)
        elif not result.failed:
            self._answer(call, slots, attempt, result, service_s)
        if silent:
            state.clock.sleep(RELEASE_DELAY_S)
            slots.release(silent=True)
            with state.changed:
                state.wake()

    def _forget(self, attempt: Attempt) -> None:
        """Stop waiting for an attempt; the lock is held."""
        self._under_way.pop(attempt, None)
        self._retries.discard(attempt)

    def _conclude(
        self,
        call: Call,
        slots: CoreSlots,
        attempt: Attempt,
        result: ExecutionResult,
        error: BaseException | None,
        service_s: float | None = None,
    ) -> None:
        """Answer a call after its attempt, or queue it for another."""
        if not result.failed:
            self._answer(call, slots, attempt, result, service_s)
            return
        state, name, outcome = self._state, attempt.core, result.outcome
        answer: CallResult | None = None
        with state.changed:
            stages = call.stages if call.in_stages else None
            latest = call.attempt if stages is None else stages.under_way.get(name)
            if call not in state.held or latest is not attempt:
                return
            if attempt.trial or outcome.kind is OutcomeKind.CORE_BUSY:
                call.attempts -= 1
            self._forgive_alike(call, name, outcome)
            call.failures[name] = outcome
            if stages is not None:
                stages.end(Stage(name, None, seconds=service_s, failure=str(outcome)))
                if outcome.consequence.elsewhere:
                    answer = self._next_stage(call, stages)
                    if answer is None and not stages.given_up:
                        return
                    if answer is not None and self._another_may_pass(call, stages):
                        answer, stages.given_up = None, True
                else:
                    stages.given_up = True  # no core can take it; an answer that there is will be given
            step = NextStep.END if state.stopping else self._next_step(call, name, outcome)
            given_up = call.stages if call.stages is not None and call.stages.given_up else None
            if given_up and given_up.answered and not self._another_may_pass(call, given_up):
                step = NextStep.END  # with the answer in hand
            if answer is None and step is not NextStep.END:
                state.metrics.retries += 1
                backoff_s = state.settings.retry.backoff_s(call.attempts)
                later_s = state.clock.now_s() + backoff_s if step is NextStep.LATER else None
                state.wait_again(call, later_s)
                return
        if answer is not None:
            state.finish(call, answer)
            return
        final = CallResult(name, result.value, error, failed=True, service_s=service_s, causes=call.causes)
        if final.value is None and error is None:
            silent = outcome.kind is OutcomeKind.CORE_SILENT
            fault = CallTimeoutError if silent else CallFailedError
            final = replace(final, error=fault(f"no core answered{causes_of(call)}"))
        state.finish(call, final)

    def _answer(
        self,
        call: Call,
        slots: CoreSlots,
        attempt: Attempt,
        result: ExecutionResult,
        service_s: float | None,
    ) -> None:
        """Give an answer to the agent, or go on with the call's plan."""
        state, name = self._state, slots.core.name
        check = None if call.stages is None else self._checked(call, result.value)
        final = CallResult(name, result.value, service_s=service_s, causes=call.causes)
        with state.changed:
            if call not in state.held:
                return
            if call.disputed:
                self._blame_again(call)
            stages = call.stages
            if stages is not None and check is not None:
                stage = Stage(name, check, result.value, service_s, self._cost(call, slots, attempt))
                in_time = stages.end(stage, attempt)
                if stages.given_up:
                    pass  # a call of one core by now
                elif in_time:
                    call.attempts -= 1
                    step = self._next_stage(call, stages)
                    if step is None:
                        return
                    final = step
                elif stages.plan.kind != "check" or not check.passes:
                    return  # too late for the plan's rules; given where nothing better comes
        state.finish(call, final)

    def skip_stage(self, call: Call) -> CallResult | None:
        """Go on with a plan without the core that it waits for; a result: the call ends. The lock is held."""
        stages = call.stages
        if stages is None or stages.given_up or stages.awaited is None:
            return None
        stages.end(Stage(stages.awaited, None, failure=UNAVAILABLE))
        answer = self._next_stage(call, stages)
        if answer is not None and self._another_may_pass(call, stages):
            answer, stages.given_up = None, True
        if answer is None and stages.given_up:
            call.row = None  # as a call of one core it may go anywhere
            self._state.wake()
        return answer

    def _next_stage(self, call: Call, stages: PlanStages) -> CallResult | None:
        """Queue a call for its plan's next core, or end its plan; the lock is held.

        Returns
        -------
        CallResult or None
            The answer that the call ends with. None: its plan goes on, or, where `PlanStages.given_up` is
            set now, no core of it has answered.
        """
        state = self._state
        if stages.under_way:
            return None
        answer = stages.in_hand if state.stopping else None
        while answer is None and not state.stopping and (core := stages.await_next()) is not None:
            if self._can_ask(call, core):
                if call.state is CallState.IN_FLIGHT:
                    state.wait_again(call, keep_estimates=True)
                else:
                    state.wake()
                return None
            stages.end(Stage(core, None, failure=UNAVAILABLE))
        answer = answer or stages.final or stages.in_hand
        if answer is None:
            stages.given_up = True
            return None
        return CallResult(answer.core, answer.value, service_s=answer.seconds, causes=call.causes)

    def _another_may_pass(self, call: Call, stages: PlanStages) -> bool:
        """Whether no answer in hand passes and a core outside the plan is up; the lock is held."""
        state, best = self._state, stages.in_hand
        if state.stopping or (best is not None and best.passes):
            return False
        down = state.pool.down(call.arrived_s + state.settings.call_timeout_s)
        return not state.pool.permitted(call) <= {*down, *call.failures, *stages.answered}

    def _can_ask(self, call: Call, core: str) -> bool:
        pool = self._state.pool
        down = pool.down(call.arrived_s + self._state.settings.call_timeout_s)
        return core in pool.columns and core not in down and core not in call.unfit

    def _checked(self, call: Call, value: object) -> AnswerCheck:
        """The checks of an answer; one that cannot be checked passes."""
        judge = self._state.judge
        try:
            return PASSES if judge is None else judge(call, value)
        except BaseException as error:
            logger.error("checking an answer raised, it counts as one that passes", exc_info=error)
            return PASSES

    def _cost(self, call: Call, slots: CoreSlots, attempt: Attempt) -> float | None:
        """US dollars of an attempt; the lock is held."""
        price, usage, row = slots.core.known_price, attempt.usage, call.row
        if price is not None and usage is not None:
            return price.usd(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        column = self._state.pool.columns.get(slots.core.name)
        if row is None or column is None or row.pool is not self._state.pool:
            return None
        return float(row.cost[column])

    def _next_step(self, call: Call, name: str, outcome: AttemptOutcome) -> NextStep:
        state = self._state
        down = state.pool.down(call.arrived_s + state.settings.call_timeout_s)
        slots = state.pool.known.get(name)
        wait_s = 0.0 if slots is None else self._timeout_s(call, slots)
        late = state.clock.now_s() + wait_s - call.arrived_s >= state.settings.unavailable_after_s
        permitted, most = state.pool.permitted(call), state.settings.retry.max_attempts
        return next_step(call, outcome, permitted, down, most, late=late)

    def _forgive_alike(self, call: Call, name: str, outcome: AttemptOutcome) -> None:
        """Forgive the cores that failed a call alike, as it is probably at fault; the lock is held."""
        known = self._state.pool.known
        alike = {core for core, earlier in call.failures.items() if core != name and earlier.is_like(outcome)}
        if alike or (call.disputed and outcome.disputable):
            call.disputed = True
            for core in {name, *alike} & known.keys():
                known[core].forgive(call.number)

    def _blame_again(self, call: Call) -> None:
        """Count forgiven failures again, as a core has answered the call after all. The lock is held."""
        for core, outcome in call.failures.items():
            slots = self._state.pool.known.get(core)
            if slots is not None and outcome.disputable:
                slots.blame(call.number, outcome)


def causes_of(call: Call) -> str:
    """Why each core that was tried did not serve a call, in brackets; empty where none was tried."""
    causes = "; ".join(f"{core}: {cause}" for core, cause in call.causes.items())
    return f" ({causes})" if causes else ""
