"""Scheduler: submit -> round -> dispatch -> complete. Independent of AIOS."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.core import Core
from eccos_aios.predict import CallText, Predictor
from eccos_aios.schedule.affinity import Conversation
from eccos_aios.schedule.attempts import Attempts
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.call_threads import CallThreads
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.deadlines import Deadlines
from eccos_aios.schedule.decision_log import Decision
from eccos_aios.schedule.execution import AbandonedError, Execute, OverloadedError, Prober, stopped
from eccos_aios.schedule.metrics import Histogram, decision_percentiles
from eccos_aios.schedule.plan_rows import PlanSource
from eccos_aios.schedule.plan_stages import Judge
from eccos_aios.schedule.rounds import Rounds
from eccos_aios.schedule.settings import SchedulerSettings
from eccos_aios.schedule.slot_source import SlotSource
from eccos_aios.schedule.state import SchedulerState
from eccos_aios.supervised import SupervisedThread
from eccos_aios.version import __version__

DELIVERY_S = 5.0  # seconds; without a limit, an on_done that itself stops the scheduler would deadlock
ENDING_S = 1.0  # seconds beyond the grace for a thread that is stuck in a plug-in's code
STALLED_S = 5.0  # seconds after which a round counts as stuck
OVERLOADED_RETRY_S = 1.0  # seconds after which a refused agent may ask again


class Scheduler:
    """Schedules calls in rounds, within the cores' quotas.

    It owns two threads: ``eccos-rounds`` estimates, plans and dispatches; ``eccos-deadlines`` watches
    timeouts and cores that are down, whatever the first is doing. Each goes on after an exception. Every
    call in flight has a thread, ``eccos-call-N``. `start` starts the first two, `stop` ends all.

    Parameters
    ----------
    cores : sequence of Core
        In the order in which they are shown.
    predictor : Predictor
        Fitted.
    execute : callable
        Sends a call to a core and waits for the answer.
    settings : SchedulerSettings, optional
    prober : Prober, optional
        Checks whether a core that is down has recovered. Default: a call is sent there now and then.
    clock : Clock, optional
        Times every wait, deadline and pause.
    wall_s : callable, optional
        Unix seconds now, for the periods of budgets.
    judge : callable, optional
        Checks the answers to calls that have a `Call.question`. Default: one core answers each call.
    planner : PlanSource, optional
        Estimates calls under plans of several cores. Default: as for `judge`.
    source : SlotSource, optional
        Where the slots of cores that are shared with other kernels come from. Whoever owns it calls `wake`
        when there are more.
    past : sequence of CallText, optional
        Calls like those to come, by which quality gets its price before the first of them. Default: the
        first calls set it, which costs more until there are some hundred.
    """

    def __init__(
        self,
        cores: Sequence[Core],
        predictor: Predictor,
        execute: Execute,
        settings: SchedulerSettings | None = None,
        prober: Prober | None = None,
        *,
        clock: Clock = MONOTONIC_CLOCK,
        wall_s: Callable[[], float] = time.time,
        judge: Judge | None = None,
        planner: PlanSource | None = None,
        source: SlotSource | None = None,
        past: Sequence[CallText] = (),
    ) -> None:
        self._clock = clock
        pool = CorePool((), predictor, probed=prober is not None, clock=clock, source=source)
        pool = pool.successor(cores, predictor)
        self._state = state = SchedulerState(
            pool, execute, settings or SchedulerSettings(), prober, clock, wall_s, judge, planner, past
        )
        self._call_threads = CallThreads(clock=clock)
        attempts = Attempts(state, self._call_threads)
        self._rounds = Rounds(state, attempts)
        self._workers = (
            SupervisedThread("eccos-rounds", self._rounds.run, self._rounds.recover, clock),
            SupervisedThread(
                "eccos-deadlines", Deadlines(state, attempts, self._call_threads).run, clock=clock
            ),
        )

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.start()

    def stop(self, grace_s: float | None = None) -> None:
        """Accept no more calls, finish those that are held, and answer the rest with an error.

        Returns once every call's `on_done` has returned, unless one takes longer than `DELIVERY_S`. A
        predictor or a core that hangs does not delay it.

        Parameters
        ----------
        grace_s : float, optional
            Seconds that calls get to finish; default: the settings'.
        """
        state = self._state
        with state.changed:
            grace = state.settings.grace_s if grace_s is None else grace_s
            state.stop_at_s = min(state.stop_at_s, self._clock.now_s() + grace)
            state.stopping = True
            state.wake()
            state.watched.notify_all()
            end_s = state.stop_at_s + ENDING_S
        for worker in self._workers:
            worker.end()
            worker.join(max(0.0, end_s - self._clock.now_s()))
        with state.changed:
            left = list(state.held)
        for call in left:
            state.finish(call, stopped("the scheduler was stopped before the call was answered"))
        self._call_threads.close()
        with state.changed:
            state.watched.notify_all()
        state.wait_until_delivered(DELIVERY_S)

    def submit(self, call: Call) -> None:
        """Queue a call; its `on_done` is called exactly once, whatever happens.

        Where `max_pending` calls wait already, the agent with the most waiting calls loses its last one.
        """
        state = self._state
        refusal, evicted = None, None
        with state.changed:
            call.arrived_s = self._clock.now_s()
            state.metrics.submitted += 1
            if state.stopping:
                refusal = stopped("the scheduler is stopped and takes no more calls")
            elif state.pending >= state.settings.max_pending:
                evicted = state.queue.last_of_busiest()
                state.metrics.refused += 1
                if evicted is None or state.queue.waiting_of(evicted.agent) <= state.queue.waiting_of(
                    call.agent
                ):
                    evicted, refusal = None, _overloaded(state.settings.max_pending)
            if refusal is None and (spent := state.budgets.refusal(call.agent)) is not None:
                evicted, refusal = None, CallResult(None, error=spent, failed=True)
            if refusal is None:
                if call.quality_target is None:
                    call.quality_target = state.settings.agent_targets.get(call.agent)
                state.hold(call)
                state.gathering = True
                state.wake()
        if refusal is not None:
            state.refuse(call, refusal)
        if evicted is not None:
            state.finish(evicted, _overloaded(state.settings.max_pending))

    def reconfigure(
        self,
        cores: Sequence[Core],
        predictor: Predictor,
        execute: Execute,
        settings: SchedulerSettings,
        prober: Prober | None = None,
        *,
        judge: Judge | None = None,
        planner: PlanSource | None = None,
        past: Sequence[CallText] = (),
    ) -> None:
        """Replace the configuration; calls in flight keep their slots, waiting calls are planned anew."""
        state = self._state
        with state.changed:
            state.pool = state.pool.successor(cores, predictor)
            state.execute = execute
            state.settings = settings
            state.prober = prober or state.prober
            state.judge = judge or state.judge
            state.planner, state.past = planner, past
            state.extra_calls.max_calls = settings.max_calls_per_query
            state.queue.weights = dict(settings.agent_weights)
            state.queue.max_age_s = settings.max_age_s
            state.budgets.configure(settings.budget, settings.agent_budgets)
            state.wake()
            state.watched.notify_all()

    def add_core(self, core: Core) -> None:
        """Add a core, unless there is one of that name."""
        state = self._state
        with state.changed:
            if core.name not in state.pool.names:
                state.pool = state.pool.successor((*state.pool.cores, core), state.pool.predictor)
                state.wake()

    def remove_core(self, name: str) -> None:
        """Remove a core. Its calls in flight finish; waiting calls that only it may take are refused."""
        state = self._state
        with state.changed:
            left = [core for core in state.pool.cores if core.name != name]
            if len(left) < len(state.pool.cores):
                state.pool = state.pool.successor(left, state.pool.predictor)
                state.wake()

    def abandon(self, call: Call) -> bool:
        """Drop a call whose agent has left; False if it is at a core already, or answered.

        Its `on_done` is called with an `AbandonedError`.
        """
        state = self._state
        with state.changed:
            waits = call in state.held and call.state is not CallState.IN_FLIGHT
            state.metrics.abandoned += waits
        if not waits:
            return False
        error = AbandonedError("the agent has gone before the call was sent")
        return state.finish(call, CallResult(None, error=error, failed=True))

    @property
    def pending(self) -> int:
        """Number of calls that wait for a core."""
        with self._state.changed:
            return self._state.pending

    def wake(self) -> None:
        """Plan anew, as slots have changed."""
        with self._state.changed:
            self._state.wake()

    def hear_of_core(self, name: str, state: str, seconds: float, cause: str) -> None:
        """Take over what another kernel reports of a core; parameters as `SlotSource.report`."""
        with self._state.changed:
            slots = self._state.pool.known.get(name)
            if slots is not None:
                slots.hear(state, seconds, cause)
                self._state.wake()
                self._state.watched.notify_all()

    def hear_of_service(self, name: str, service_s: float) -> None:
        """Take over the seconds that a core needed for an answer to another kernel."""
        with self._state.changed:
            slots = self._state.pool.known.get(name)
            if slots is not None:
                slots.hear_service(service_s)

    def take_account(self) -> dict[str, Any]:
        """How this kernel has changed the quality debt and the budgets since this was last asked, as JSON."""
        with self._state.changed:
            debt, spent = self._state.debt.take_change(), self._state.budgets.take_changes()
        return {**({"debt": debt} if debt else {}), **({"spent": spent} if spent else {})}

    def hear_account(self, account: Mapping[str, Any]) -> None:
        """Take over how another kernel has changed them, by its `take_account`."""
        with self._state.changed:
            self._state.debt.changed_elsewhere(float(account.get("debt", 0.0)))
            spent = account.get("spent")
            if isinstance(spent, Mapping):
                self._state.budgets.changed_elsewhere(spent)

    def remember(self, conversation: Conversation, core: str, tokens: float = 0.0) -> None:
        """Note which core holds a conversation, where that matters; `tokens`: how many it has read of it."""
        state = self._state
        with state.changed:
            if state.settings.affinity != "off" or state.pool.priced_caches:
                state.affinity.served(conversation, core, tokens, self._clock.now_s())

    def budget_state(self) -> dict[str, Any]:
        """What is spent of the budgets, as JSON, for `restore_budgets`; empty without budgets."""
        with self._state.changed:
            return self._state.budgets.state()

    def restore_budgets(self, state: Mapping[str, Any]) -> None:
        """Take over what an earlier process has spent of the budgets in the same periods."""
        with self._state.changed:
            self._state.budgets.restore(state)

    def note_refusal(self) -> None:
        """Count a call that was refused before it was submitted."""
        with self._state.changed:
            self._state.metrics.refused += 1

    def note_quality(self, call: int | str, quality: float) -> bool:
        """Correct the quality debt by the actual quality, 0 to 1, of a call; the last one counts.

        `call` is its number or its id; False if no such finished call is remembered.
        """
        with self._state.changed:
            decision = self._state.decision_log.decision(call)
            if decision is None or decision.finished_at is None:
                return False
            if decision.quality is None:
                self._state.debt.delivered(decision.predicted_quality, quality)
            else:
                self._state.debt.corrected(decision.quality, quality, decision.predicted_quality)
            decision.quality = quality
            return True

    def decision(self, call: int | str) -> Decision | None:
        """The last decision on the call of this number or id, if it is remembered."""
        with self._state.changed:
            return copy(self._state.decision_log.decision(call))

    def latest_decision(self, agent: str) -> Decision | None:
        """The decision on the agent's call that finished last, if it is remembered."""
        with self._state.changed:
            return copy(self._state.decision_log.latest(agent))

    @property
    def core_names(self) -> tuple[str, ...]:
        """Names of the cores, in the order of the configuration."""
        with self._state.changed:
            return self._state.pool.names

    @property
    def predictor(self) -> Predictor:
        """The predictor in use."""
        with self._state.changed:
            return self._state.pool.predictor

    def status(self) -> dict[str, object]:
        """The body of ``GET /eccos/status``."""
        state = self._state
        degraded = sum(worker.restarts for worker in self._workers)
        with state.changed:
            decision_ms, totals = state.metrics.decision_ms(), state.metrics.totals()
            status = {
                "scheduler": "eccos",
                "version": __version__,
                "pending": state.pending,
                "pending_by_agent": state.queue.busiest(),
                "quality_target": state.settings.quality_target,
                "quality_owed": round(state.debt.points, 6),
                "cores": {slots.core.name: slots.status() for slots in state.pool.slots},
                "baselines": state.metrics.baselines.status(),
                **state.budgets.status(),
            }
        totals |= {**decision_percentiles(decision_ms), "degraded": degraded}
        return {**status, "totals": totals}

    def faults(self) -> list[str]:
        """Why calls are not served as they should be, a line each; empty where nothing is wrong."""
        state = self._state
        now_s = self._clock.now_s()
        with state.changed:
            pending, starved = state.pending, state.starved
            until_s = now_s + state.settings.call_timeout_s
            down = {slots.core.name: why for slots in state.pool.slots if (why := slots.why_down(until_s))}
            cores = len(state.pool.slots)
        faults = [f"thread {worker.name} has ended" for worker in self._workers if not worker.alive]
        began_s = self._rounds.began_s
        if began_s is not None and now_s - began_s > STALLED_S:
            faults.append(f"a round has been under way for {now_s - began_s:.0f} s, {pending} calls wait")
        if starved:
            faults.append(f"the process can start no more threads, {pending} calls wait")
        if cores and len(down) == cores:
            faults.append("every core is down: " + "; ".join(f"{name}: {why}" for name, why in down.items()))
        return faults

    def restarts(self) -> list[str]:
        """The threads that raised and were restarted, a line each."""
        return [note for worker in self._workers if (note := worker.note())]

    def decisions(self) -> list[Decision]:
        """The last decisions, the newest first."""
        with self._state.changed:
            return self._state.decision_log.decisions()

    def histograms(self) -> list[tuple[str, str, Histogram]]:
        """Name, meaning and a copy of each histogram of seconds."""
        with self._state.changed:
            return self._state.metrics.histograms()


def _overloaded(max_pending: int) -> CallResult:
    reason = f"max_pending = {max_pending} calls wait already"
    return CallResult(None, error=OverloadedError(reason, OVERLOADED_RETRY_S), failed=True)
