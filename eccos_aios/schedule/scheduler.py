"""Scheduler: submit -> round -> dispatch -> complete. It has never heard of AIOS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from eccos_aios.core import Core
from eccos_aios.errors import EccosError, NoCoreError
from eccos_aios.predict import Predictor
from eccos_aios.schedule.affinity import Affinity
from eccos_aios.schedule.call import Call, CallResult, CallState
from eccos_aios.schedule.clock import next_moment_s
from eccos_aios.schedule.debt import QualityDebt
from eccos_aios.schedule.execute import AbandonedError, CallTimeoutError, Execute, stopped
from eccos_aios.schedule.histogram import Histogram
from eccos_aios.schedule.ledger import LOG_LINE, Decision, Ledger, decision_of
from eccos_aios.schedule.limits import why_none
from eccos_aios.schedule.line import Line
from eccos_aios.schedule.round import Placement
from eccos_aios.schedule.settings import SchedulerSettings
from eccos_aios.schedule.slots import CoreSlots
from eccos_aios.schedule.stages import Stages
from eccos_aios.schedule.table import CoreTable
from eccos_aios.version import __version__

logger = logging.getLogger(__name__)

TELLING_S = 5.0  # seconds; a receiver that itself stops the scheduler would be waited for without end


class Scheduler:
    """Decides calls in rounds and holds them to the cores' quotas.

    One thread, ``eccos-rounds``, estimates what arrives, plans, and dispatches. Each call in flight has a
    thread of its own, which ends with the call. `start` makes the first, `stop` ends it.

    Parameters
    ----------
    cores : sequence of Core
        In the order in which they are shown.
    predictor : Predictor
        Fitted.
    execute : callable
        Sends a call to a core and waits for the answer.
    settings : SchedulerSettings, optional
    """

    def __init__(
        self,
        cores: Sequence[Core],
        predictor: Predictor,
        execute: Execute,
        settings: SchedulerSettings | None = None,
    ) -> None:
        # Guards everything below, and the state of every call that was submitted.
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._all_told = threading.Condition(lock)  # no receiver of a result is at work
        self._telling = 0  # receivers that are
        self._execute = execute
        self._settings = settings or SchedulerSettings()
        self._table = CoreTable((), predictor).successor(cores, predictor)
        self._line = Line(self._settings.agent_weights, self._settings.max_age_s)
        self._debt = QualityDebt()
        self._ledger = Ledger()
        self._affinity = Affinity()
        self._held: set[Call] = set()
        self._dirty = False  # something happened that a round has not seen
        self._gathering = False  # a new call has come since the last round
        self._stopping = False
        self._stop_at_s = float("inf")
        self._seen_s = float("-inf")  # when the last round began
        self._stages = Stages(self._count_degraded)
        self._gathered_ms = 0.0  # what estimating took while the next round's calls were gathered
        self._rounds = threading.Thread(target=self._run, name="eccos-rounds", daemon=True)

    def start(self) -> None:
        """Start deciding."""
        self._rounds.start()

    def stop(self, grace_s: float | None = None) -> None:
        """Take no more calls, finish those that are held, and answer the rest with an error.

        Returns once every call's `on_done` has returned, unless one takes longer than `TELLING_S`.

        Parameters
        ----------
        grace_s : float, optional
            Seconds that calls get to finish; default: the settings'.
        """
        with self._changed:
            grace = self._settings.grace_s if grace_s is None else grace_s
            self._stop_at_s = min(self._stop_at_s, time.monotonic() + grace)
            self._stopping = True
            self._wake()
        if self._rounds.ident is not None:
            self._rounds.join()
        with self._changed:
            self._all_told.wait_for(lambda: not self._telling, TELLING_S)

    def submit(self, call: Call) -> None:
        """Queue a call; its `on_done` is called exactly once, whatever happens."""
        with self._changed:
            self._ledger.submitted += 1
            self._held.add(call)
            accepted = not self._stopping
            if accepted:
                if call.quality_target is None:
                    call.quality_target = self._settings.agent_targets.get(call.agent)
                self._line.join(call)
                self._gathering = True
                self._wake()
        if not accepted:
            self._finish(call, stopped("the scheduler is stopped and takes no more calls"))

    def reconfigure(
        self, cores: Sequence[Core], predictor: Predictor, execute: Execute, settings: SchedulerSettings
    ) -> None:
        """Swap configuration under way; calls in flight keep their slots, pending calls are planned anew."""
        with self._changed:
            self._table = self._table.successor(cores, predictor)
            self._execute = execute
            self._settings = settings
            self._line.weights = dict(settings.agent_weights)
            self._line.max_age_s = settings.max_age_s
            self._wake()

    def add_core(self, core: Core) -> None:
        """Let a core join; a name that is known already stays as it is."""
        with self._changed:
            if core.name not in self._table.names:
                self._table = self._table.successor((*self._table.cores, core), self._table.predictor)
                self._wake()

    def remove_core(self, name: str) -> None:
        """Let a core leave: calls in flight there end there, those that need it and no other are refused."""
        with self._changed:
            left = [core for core in self._table.cores if core.name != name]
            if len(left) < len(self._table.cores):
                self._table = self._table.successor(left, self._table.predictor)
                self._wake()

    def abandon(self, call: Call) -> bool:
        """Drop a call whose agent has gone; False where it is with a core already, or answered.

        Its `on_done` is called with an `AbandonedError`.
        """
        with self._changed:
            waits = call in self._held and call.state is not CallState.IN_FLIGHT
            self._ledger.abandoned += waits
        if waits:
            error = AbandonedError("the agent has gone before the call was sent")
            self._finish(call, CallResult(None, error=error, failed=True))
        return waits

    @property
    def pending(self) -> int:
        """Calls that wait for a core."""
        with self._changed:
            return sum(call.state is not CallState.IN_FLIGHT for call in self._held)

    def note_refusal(self) -> None:
        """Count a call that was turned away for want of room before it was submitted."""
        with self._changed:
            self._ledger.refused += 1

    def give_quality(self, call: int | str, quality: float) -> bool:
        """Tell the quality, 0 to 1, that a call really had; what is told last counts.

        `call` is its number or its id; False where no such finished call is remembered.
        """
        with self._changed:
            decision = self._ledger.decision(call)
            if decision is None or decision.finished_at is None:
                return False
            if decision.quality is None:
                self._debt.delivered(decision.predicted_quality, quality)
            else:
                self._debt.corrected(decision.quality, quality)
            decision.quality = quality
            return True

    def decision(self, call: int | str) -> Decision | None:
        """The last decision on the call of this number or id, if it is remembered."""
        with self._changed:
            return copy(self._ledger.decision(call))

    def latest_decision(self, agent: str) -> Decision | None:
        """The decision on the agent's call that finished last, if it is remembered."""
        with self._changed:
            return copy(self._ledger.latest(agent))

    @property
    def core_names(self) -> tuple[str, ...]:
        """Names of the cores, in the order of the configuration."""
        with self._changed:
            return self._table.names

    @property
    def predictor(self) -> Predictor:
        """What estimates the calls."""
        with self._changed:
            return self._table.predictor

    def status(self) -> dict[str, object]:
        """What ``GET /eccos/status`` answers."""
        with self._changed:
            return {
                "scheduler": "eccos",
                "version": __version__,
                "pending": sum(call.state is not CallState.IN_FLIGHT for call in self._held),
                "quality_target": self._settings.quality_target,
                "quality_owed": round(self._debt.points, 6),
                "cores": {slots.core.name: slots.status() for slots in self._table.slots},
                "totals": self._ledger.totals(),
            }

    def decisions(self) -> list[Decision]:
        """The last decisions, the newest first."""
        with self._changed:
            return self._ledger.decisions()

    def histograms(self) -> list[tuple[str, str, Histogram]]:
        """Name, meaning and a copy of each histogram of seconds."""
        with self._changed:
            return self._ledger.histograms()

    def _wake(self) -> None:
        """Tell the rounds' thread of a change; the lock is held."""
        self._dirty = True
        self._changed.notify_all()

    def _run(self) -> None:
        while self._wait_for_change():
            self._gather()
            self._round()
        with self._changed:
            left = list(self._held)
        for call in left:
            self._finish(call, stopped("the scheduler was stopped before the call was answered"))

    def _wait_for_change(self) -> bool:
        """Sleep until a round could decide something; False when it is time to end."""
        with self._changed:
            if not self._dirty and not self._over:
                self._changed.wait(self._sleep_s())
            return not self._over

    @property
    def _over(self) -> bool:
        """Whether it is time to end; the lock is held."""
        return self._stopping and not (self._held and time.monotonic() < self._stop_at_s)

    def _gather(self) -> None:
        """Calls that arrive together are decided together; those that are there are estimated meanwhile."""
        started_s = time.monotonic()
        with self._changed:
            gathering = self._gathering and not self._stopping
            until_s = started_s + self._settings.gather_s
            table = self._table
            arrived = [call for call in self._held if call.state is CallState.PENDING] if gathering else []
        self._price(table, arrived)
        with self._changed:
            now_s = time.monotonic()
            self._gathered_ms = (now_s - started_s) * 1000 if arrived else 0.0
            if gathering and now_s < until_s:
                self._changed.wait_for(lambda: self._stopping, timeout=until_s - now_s)
            self._dirty = self._gathering = False

    def _sleep_s(self) -> float | None:
        """Seconds until the clock alone gives reason for a round or to end; None: never. The lock is held."""
        next_s = next_moment_s(self._held, self._table.slots, self._settings, self._seen_s)
        if self._stopping:
            next_s = self._stop_at_s if next_s is None else min(next_s, self._stop_at_s)
        return None if next_s is None else max(0.0, next_s - time.monotonic())

    def _round(self) -> None:
        started_s = time.monotonic()
        self._time_out(started_s)
        with self._changed:
            self._seen_s = started_s
            for call in self._held:
                if call.state is CallState.RETRYING and call.not_before_s <= started_s:
                    call.enter(CallState.PENDING)
            table, settings, execute = self._table, self._settings, self._execute
            owed = self._debt.owed
            waiting = [c for c in self._held if c.state in (CallState.PENDING, CallState.PLANNED)]
            pending = self._line.order(waiting, started_s)
        if not pending:
            return
        refused = self._price(table, pending)
        pending = [call for call in pending if call not in refused]
        plan = self._stages.plan(table, settings, pending, owed)
        with self._changed:
            for call in pending:
                if call.state is not CallState.DONE:
                    call.enter(CallState.PLANNED if call in plan.waiting_for else CallState.PENDING)
            self._ledger.degraded_rounds += plan.fell_back
            decision_ms = self._gathered_ms + (time.monotonic() - started_s) * 1000
            self._ledger.round(len(plan.placements), decision_ms)
        for placement in plan.placements:
            self._dispatch(table, settings, execute, placement, decision_ms)

    def _time_out(self, now_s: float) -> None:
        """Answer the calls that took too long; a core's late answer is dropped."""
        with self._changed:
            limit_s = self._settings.call_timeout_s
            over = [call for call in self._held if call.arrived_s + limit_s <= now_s]
            slots = self._table.known
            for call in over:
                if call.state is CallState.IN_FLIGHT and call.core is not None:
                    slots[call.core].blame()
        reason = f"no core answered within call_timeout_s = {limit_s:g} seconds"
        for call in over:
            self._finish(call, CallResult(call.core, error=CallTimeoutError(reason), failed=True))

    def _price(self, table: CoreTable, pending: Sequence[Call]) -> set[Call]:
        """Give estimates to the calls that lack them under this table; return those that no core may take."""
        calls = [call for call in pending if call.row is None or call.row.table is not table]
        if not calls:
            return set()
        estimates = self._stages.estimate(table, calls)
        with self._changed:
            kept_to = {call: self._affinity.core_of(call.conversation) for call in calls}
            affinity = self._settings.affinity
        table.price(calls, estimates, kept_to, affinity)
        refused = {call for call in calls if call.row is not None and not call.row.allowed.any()}
        for call in refused:
            reason = NoCoreError(why_none(call.needs, table.cores))
            self._finish(call, CallResult(None, error=reason, failed=True))
        return refused

    def _count_degraded(self) -> None:
        with self._changed:
            self._ledger.degraded_rounds += 1

    def _dispatch(
        self,
        table: CoreTable,
        settings: SchedulerSettings,
        execute: Execute,
        placement: Placement,
        decision_ms: float,
    ) -> None:
        call, slots = placement.call, table.slots[placement.column]
        name = slots.core.name
        with self._changed:
            if call.state is CallState.DONE or not slots.acquire():
                return
            call.enter(CallState.IN_FLIGHT)
            call.core, call.attempts = name, call.attempts + 1
            decision = decision_of(placement, table.names, decision_ms, settings.log_text)
            self._ledger.decide(decision)
            self._line.served(call)
            if settings.affinity != "off":
                self._affinity.served(call.conversation, name)
            target = settings.quality_target if call.quality_target is None else call.quality_target
            self._debt.sent(target, decision.predicted_quality)
        logger.debug(LOG_LINE, *decision.log_values())
        threading.Thread(
            target=self._serve, args=(call, slots, execute), name=f"eccos-call-{name}", daemon=True
        ).start()

    def _serve(self, call: Call, slots: CoreSlots, execute: Execute) -> None:
        name = slots.core.name
        started_s = time.monotonic()
        nothing = EccosError(f"core {name!r} ended the call without an answer")
        result, retryable, unwell = CallResult(name, error=nothing, failed=True), True, True
        try:
            executed = execute(call, name)
            result = CallResult(name, value=executed.value, failed=executed.failed)
            retryable = executed.failed and executed.retryable
            unwell = retryable and not executed.core_is_well
        except Exception as error:  # noqa: BLE001 - a backend may raise anything; the agent must be answered
            result = CallResult(name, error=error, failed=True)
        finally:
            service_s = time.monotonic() - started_s
            slots.release(failed=result.failed, at_fault=unwell, service_s=service_s)
            with self._changed:
                self._ledger.service.add(service_s)
            if not (retryable and self._retry(call, name)):
                self._finish(call, replace(result, service_s=service_s))

    def _retry(self, call: Call, core: str) -> bool:
        """Let a call whose core failed be tried again, elsewhere if it can be."""
        with self._changed:
            backoff_s = self._settings.retry.backoff_s(call)
            if backoff_s is None or call.state is CallState.DONE or self._stopping:
                return False
            call.tried.add(core)
            call.row = None  # its limits have changed
            call.not_before_s = time.monotonic() + backoff_s
            call.enter(CallState.RETRYING)
            self._ledger.retries += 1
            self._wake()
            return True

    def _finish(self, call: Call, result: CallResult) -> None:
        """Give a call its one final result; whoever comes second finds it done."""
        with self._changed:
            first = call.state is not CallState.DONE
            if first:
                call.enter(CallState.DONE)
                self._held.discard(call)
                self._ledger.finish(call, result)
                self._telling += 1
            self._wake()
        if not first:
            return
        try:
            call.on_done(call, result)
        except Exception:
            logger.exception("the receiver of a call's result raised")
        finally:
            with self._changed:
                self._telling -= 1
                self._all_told.notify_all()
