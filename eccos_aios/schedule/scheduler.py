"""Scheduler: submit -> round -> dispatch -> complete. It has never heard of AIOS."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import Core
from eccos_aios.errors import EccosError, NoCoreError
from eccos_aios.predict import Predictor
from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.limits import why_none
from eccos_aios.schedule.round import Capacity, Placement, Waiting, first_free, plan_round
from eccos_aios.schedule.slots import CoreSlots
from eccos_aios.schedule.table import CoreTable
from eccos_aios.version import __version__

logger = logging.getLogger(__name__)

REMEMBERED_DECISIONS = 1000  # decision times that the percentiles of `status` look back on


class StoppedError(EccosError):
    """The scheduler was stopped before the call was answered."""


class CallTimeoutError(EccosError):
    """No core answered the call in the time that a call may take."""


@dataclass(frozen=True)
class Executed:
    """What a core answered: the answer itself, and whether it is an error."""

    value: object
    failed: bool = False


Execute = Callable[[Call, str], Executed]
"""Sends a call to the core of that name and waits for its answer; may raise."""


@dataclass(frozen=True)
class SchedulerSettings:
    """Knobs of the clockwork; units and meaning as in `EccosConfig`."""

    quality_target: float = 0.8
    max_wait_s: float = 1.0
    max_quality_wait_s: float = 30.0
    gather_s: float = 0.002
    call_timeout_s: float = 600.0
    grace_s: float = 10.0


@dataclass
class Totals:
    """Counts since the start."""

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    decided: int = 0
    predicted_quality_sum: float = 0.0
    cost_usd: float = 0.0
    degraded_rounds: int = 0


class Scheduler:
    """Decides calls in rounds and holds them to the cores' quotas.

    One thread, ``eccos-rounds``, owns the pending calls: it estimates what arrives, plans, and dispatches.
    Each call in flight has a thread of its own, which ends with the call. `start` makes the first, `stop`
    ends it.

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
        self._execute = execute
        self._settings = settings or SchedulerSettings()
        self._table = CoreTable((), predictor).successor(cores, predictor)
        # Guards everything below it that has no other note, and the three above.
        self._changed = threading.Condition()
        self._inbox: list[Call] = []
        self._dirty = False  # something happened that a round has not seen
        self._stopping = False
        self._stop_at_s = float("inf")
        self._totals = Totals()
        self._decision_ms: deque[float] = deque(maxlen=REMEMBERED_DECISIONS)
        self._in_flight: set[Call] = set()
        self._pending: list[
            Call
        ] = []  # changed by the rounds' thread alone, which may read it without the lock
        self._seen_causes: set[str] = set()  # the rounds' thread alone uses it
        self._rounds = threading.Thread(target=self._run, name="eccos-rounds", daemon=True)

    def start(self) -> None:
        """Start deciding."""
        self._rounds.start()

    def stop(self, grace_s: float | None = None) -> None:
        """Take no more calls, finish those that are held, and answer the rest with an error.

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

    def submit(self, call: Call) -> None:
        """Queue a call; its `on_done` is called exactly once, whatever happens."""
        with self._changed:
            self._totals.submitted += 1
            accepted = not self._stopping
            if accepted:
                self._inbox.append(call)
                self._wake()
        if not accepted:
            self._finish(call, _refused("the scheduler is stopped and takes no more calls"))

    def reconfigure(
        self, cores: Sequence[Core], predictor: Predictor, execute: Execute, settings: SchedulerSettings
    ) -> None:
        """Swap configuration under way; calls in flight keep their slots, pending calls are planned anew."""
        with self._changed:
            self._table = self._table.successor(cores, predictor)
            self._execute = execute
            self._settings = settings
            self._wake()

    def add_core(self, core: Core) -> None:
        """Let a core join; a name that is known already stays as it is."""
        with self._changed:
            if core.name not in self._table.names:
                self._table = self._table.successor((*self._table.cores, core), self._table.predictor)
                self._wake()

    @property
    def core_names(self) -> tuple[str, ...]:
        with self._changed:
            return self._table.names

    def status(self) -> dict[str, object]:
        """What ``GET /eccos/status`` answers."""
        with self._changed:
            totals, decided = self._totals, max(1, self._totals.decided)
            times = np.array(self._decision_ms or [0.0])
            p50, p99 = np.percentile(times, [50, 99]).tolist()
            return {
                "scheduler": "eccos",
                "version": __version__,
                "pending": len(self._inbox) + len(self._pending),
                "quality_target": self._settings.quality_target,
                "cores": {slots.core.name: slots.status() for slots in self._table.slots},
                "totals": {
                    "submitted": totals.submitted,
                    "completed": totals.completed,
                    "failed": totals.failed,
                    "predicted_quality": round(totals.predicted_quality_sum / decided, 6),
                    "cost_usd": round(totals.cost_usd, 9),
                    "decision_ms_p50": round(p50, 3),
                    "decision_ms_p99": round(p99, 3),
                    "degraded_rounds": totals.degraded_rounds,
                },
            }

    def _wake(self) -> None:
        """Tell the rounds' thread of a change; the lock is held."""
        self._dirty = True
        self._changed.notify_all()

    def _run(self) -> None:
        while self._wait_for_change():
            self._round()
        self._close()

    def _wait_for_change(self) -> bool:
        """Sleep until a round could decide something; False when it is time to end."""
        with self._changed:
            if not self._dirty:
                self._changed.wait(self._sleep_s())
            if self._inbox and not self._stopping:
                # Calls that arrive together are decided together.
                self._changed.wait_for(lambda: self._stopping, timeout=self._settings.gather_s)
            self._dirty = False
            held = self._inbox or self._pending or self._in_flight
            return not self._stopping or (bool(held) and time.monotonic() < self._stop_at_s)

    def _sleep_s(self) -> float | None:
        """Seconds until the clock alone gives reason for a round; None: never."""
        now_s = time.monotonic()
        limits_s = (self._settings.max_wait_s, self._settings.max_quality_wait_s)
        lates = (call.arrived_s + limit_s - now_s for call in self._pending for limit_s in limits_s)
        reasons = [late for late in lates if late > 0]
        oldest_s = min((call.arrived_s for call in (*self._pending, *self._in_flight)), default=None)
        if oldest_s is not None:
            reasons.append(max(0.0, oldest_s + self._settings.call_timeout_s - now_s))
        if self._stopping:
            reasons.append(max(0.0, self._stop_at_s - now_s))
        return min(reasons, default=None)

    def _round(self) -> None:
        started_s = time.monotonic()
        with self._changed:
            self._pending += self._inbox
            self._inbox = []
            table, settings, execute = self._table, self._settings, self._execute
        self._time_out(settings.call_timeout_s)
        if not self._pending:
            return
        self._refuse(self._price(table))
        placements = self._place(table, settings)
        placed = {placement.call for placement in placements}
        decision_ms = (time.monotonic() - started_s) * 1000
        with self._changed:
            self._pending = [call for call in self._pending if call not in placed]
            self._in_flight |= placed
            self._decision_ms.extend([decision_ms] * len(placements))
        for placement in placements:
            self._dispatch(table, execute, placement)

    def _time_out(self, limit_s: float) -> None:
        """Answer the calls that took too long; a core's late answer is dropped."""
        latest_s = time.monotonic() - limit_s
        with self._changed:
            over = [call for call in (*self._pending, *self._in_flight) if call.arrived_s <= latest_s]
            self._pending = [call for call in self._pending if call.arrived_s > latest_s]
        for call in over:
            reason = f"no core answered within call_timeout_s = {limit_s:g} seconds"
            self._finish(call, CallResult(None, error=CallTimeoutError(reason), failed=True))

    def _price(self, table: CoreTable) -> list[tuple[Call, str]]:
        """Give estimates to the calls that lack them under this table; return those that no core may take."""
        calls = [call for call in self._pending if call.row is None or call.row.table is not table]
        if not calls:
            return []
        try:
            estimates = table.predict(calls)
        except Exception as error:  # noqa: BLE001 - an embedder or a model may raise anything; calls go on
            self._degrade("stage 1 failed, every core counts as equally good", error)
            estimates = table.prior(calls)
        table.price(calls, estimates)
        return [
            (call, why_none(call.needs, table.cores))
            for call in calls
            if call.row is not None and not call.row.allowed.any()
        ]

    def _refuse(self, impossible: Sequence[tuple[Call, str]]) -> None:
        refused = {call for call, _ in impossible}
        with self._changed:
            self._pending = [call for call in self._pending if call not in refused]
        for call, reason in impossible:
            self._finish(call, CallResult(None, error=NoCoreError(reason), failed=True))

    def _place(self, table: CoreTable, settings: SchedulerSettings) -> list[Placement]:
        waiting = Waiting(settings.max_wait_s, settings.max_quality_wait_s)
        capacity = Capacity(
            free=_counts(slots.free for slots in table.slots),
            soon=_counts(slots.freed_within(waiting.for_price_s) for slots in table.slots),
            later=_counts(slots.freed_within(waiting.for_quality_s) for slots in table.slots),
        )
        try:
            return plan_round(self._pending, capacity, settings.quality_target, time.monotonic(), waiting)
        except Exception as error:  # noqa: BLE001 - whatever stage 2 raises, calls must go on
            self._degrade("stage 2 failed, calls go to their first free core", error)
            return first_free(self._pending, capacity.free)

    def _degrade(self, what: str, error: Exception) -> None:
        with self._changed:
            self._totals.degraded_rounds += 1
        cause = f"{what}: {type(error).__name__}"
        if cause not in self._seen_causes:
            self._seen_causes.add(cause)
            logger.warning("%s (told once)", cause, exc_info=error)

    def _dispatch(self, table: CoreTable, execute: Execute, placement: Placement) -> None:
        call, slots = placement.call, table.slots[placement.column]
        if not slots.acquire():  # the quota shrank since the plan was made
            with self._changed:
                self._in_flight.discard(call)
                self._inbox.append(call)
                self._wake()
            return
        row = call.row
        with self._changed:
            self._totals.decided += 1
            if row is not None:
                self._totals.predicted_quality_sum += float(row.quality[placement.column])
                self._totals.cost_usd += float(row.cost[placement.column])
        threading.Thread(
            target=self._serve, args=(call, slots, execute), name=f"eccos-call-{slots.core.name}", daemon=True
        ).start()

    def _serve(self, call: Call, slots: CoreSlots, execute: Execute) -> None:
        name = slots.core.name
        started_s = time.monotonic()
        result = CallResult(
            name, error=EccosError(f"core {name!r} ended the call without an answer"), failed=True
        )
        try:
            executed = execute(call, name)
            result = CallResult(name, value=executed.value, failed=executed.failed)
        except Exception as error:  # noqa: BLE001 - a backend may raise anything; the agent must be answered
            result = CallResult(name, error=error, failed=True)
        finally:
            slots.release(failed=result.failed, service_s=time.monotonic() - started_s)
            self._finish(call, result)

    def _finish(self, call: Call, result: CallResult) -> None:
        first = call.finish()
        with self._changed:
            self._in_flight.discard(call)
            if first and result.failed:
                self._totals.failed += 1
            elif first:
                self._totals.completed += 1
            self._wake()
        if not first:
            return
        try:
            call.on_done(call, result)
        except Exception:
            logger.exception("the receiver of a call's result raised")

    def _close(self) -> None:
        """Answer what is left; an answer that a core still gives later is dropped."""
        with self._changed:
            left = [*self._inbox, *self._pending, *self._in_flight]
            self._inbox, self._pending = [], []
        for call in left:
            self._finish(call, _refused("the scheduler was stopped before the call was answered"))


def _counts(numbers: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(numbers, dtype=np.int64)


def _refused(reason: str) -> CallResult:
    return CallResult(None, error=StoppedError(reason), failed=True)
