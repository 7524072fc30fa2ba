"""KernelSharing: a kernel's part in slots, the health of cores, outcomes and grades that kernels share."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eccos_aios.config import SECTION, EccosConfig
from eccos_aios.errors import EccosError, HistoryError
from eccos_aios.history import CallOutcome, HistoryStore
from eccos_aios.log_once import LogOnce
from eccos_aios.predict import embedding_of
from eccos_aios.runtime.kernel_figures import figures_of, summed
from eccos_aios.shared import (
    Event,
    EventRelay,
    LeasedSlots,
    PredictorRelay,
    RedisEventLog,
    RedisPublication,
    RedisSlotTable,
    SlotShare,
    without_password,
)

logger = logging.getLogger(__name__)

# Of `EccosConfig`, by the attributes of `SharedCores`.
KEYS = {
    "url": "shared",
    "name": "shared_name",
    "lease_s": "lease_s",
    "history": "history",
    "store_text": "store_text",
}
SETTLE_S = 3.0  # seconds that the learner waits for outcomes on their way to the store


@dataclass(frozen=True)
class SharedCores:
    """Where kernels share their cores, from the config.

    Attributes
    ----------
    url : str
        Of Redis.
    name : str
        The kernels of one name share.
    lease_s : float
        Seconds after which the slots of a kernel that ended are free again.
    store_text : bool
        Whether outcomes are sent with the text of calls.
    history : Path or None
        The store, which one of the kernels writes.
    """

    url: str
    name: str
    lease_s: float
    store_text: bool = True
    history: Path | None = None


def require_same_sharing(before: SharedCores | None, after: SharedCores | None) -> None:
    """Refuse a change of how cores are shared, which only a restart can make.

    Raises
    ------
    EccosError
        Names the first key that has changed.
    """
    for attribute, key in KEYS.items():
        now, wanted = getattr(before, attribute, None), getattr(after, attribute, None)
        if now != wanted:
            if attribute == "url":
                now, wanted = _shown_url(now), _shown_url(wanted)
            raise EccosError(
                f"{SECTION}.{key}: {wanted}: cannot be changed while the kernel runs, which has {now}: "
                "restart it, or restore the value"
            )


def _shown_url(url: str | None) -> str:
    return "absent" if url is None else without_password(url)


def shared_cores(config: EccosConfig, store: HistoryStore | None) -> SharedCores | None:
    """What the config says; None if the kernel is alone."""
    if config.shared is None:
        return None
    url, path = config.shared.get_secret_value(), None if store is None else store.path
    return SharedCores(url, config.shared_name, config.lease_s, config.store_text, path)


class KernelSharing:
    """The `SlotSource` of a scheduler, and its way to tell other kernels what happened and to hear of them.

    It owns five threads, of `LeasedSlots`, `EventRelay` and `PredictorRelay`, from `start` to `stop`.

    Parameters
    ----------
    cores : SharedCores
    on_slots : callable
        Called when there are more slots or fewer.
    on_core : callable
        Called with the core, the state, its seconds and the cause when another kernel reports a core.
    on_outcome : callable
        Called with each outcome of another kernel, and the call that it is a stage of.
    take_account : callable
        Returns how this kernel has changed the quality debt and the budgets since it was last called.
    on_account : callable
        Called with that of another kernel.
    scheduler_status : callable
        Returns `Scheduler.status`, of which the other kernels are told the figures.
    on_predictor : callable
        Called with the saved predictor that another kernel has fitted.
    on_grade : callable
        Called with the id and the quality of a call that was graded at another kernel.
    """

    def __init__(
        self,
        cores: SharedCores,
        *,
        on_slots: Callable[[], None],
        on_core: Callable[[str, str, float, str], None],
        on_outcome: Callable[[CallOutcome, str | None], None],
        on_grade: Callable[[str, float], None],
        take_account: Callable[[], Mapping[str, Any]],
        on_account: Callable[[Mapping[str, Any]], None],
        scheduler_status: Callable[[], Mapping[str, Any]],
        on_predictor: Callable[[bytes], None],
    ) -> None:
        self.cores = cores
        self._on_core, self._on_outcome, self._on_grade = on_core, on_outcome, on_grade
        self._take_account, self._on_account = take_account, on_account
        self._scheduler_status = scheduler_status
        self._slots = LeasedSlots(RedisSlotTable(cores.url, cores.name), on_slots, lease_s=cores.lease_s)
        self._relay = EventRelay(
            RedisEventLog(cores.url, cores.name),
            self._hear,
            None if cores.history is None else self._write,
            on_tick=self._send_accounts,
            kernel=self._slots.kernel,
            lease_s=cores.lease_s,
        )
        self._predictors = PredictorRelay(RedisPublication(cores.url, cores.name), on_predictor)
        self._store: HistoryStore | None = None  # opened and used by the relay's thread alone
        self._told: object = None  # the figures last sent, and to whom; used by the relay's thread alone
        self._lock = threading.Lock()  # guards the two below
        self._recorded = 0  # outcomes that this kernel has stored, of all kernels
        self._figures: dict[str, Mapping[str, Any]] = {}  # of the other kernels
        self._log = LogOnce(logger)

    def start(self) -> None:
        """Start the threads."""
        self._slots.start()
        self._relay.start()
        self._predictors.start()

    def stop(self) -> None:
        """Give back the slots, send the last outcomes if Redis answers, and end the threads."""
        self._slots.stop()
        self._predictors.stop()
        self._relay.stop()
        if self._store is not None:
            self._store.close()

    @property
    def leads(self) -> bool:
        """Whether this is the kernel that writes the store and fits."""
        return self._relay.leads

    def configure(self, quotas: Mapping[str, int]) -> None:
        """As `SlotSource.configure`."""
        self._slots.configure(quotas)

    def take(self, core: str) -> str | None:
        """As `SlotSource.take`."""
        return self._slots.take(core)

    def give_back(self, core: str, token: str) -> None:
        """As `SlotSource.give_back`."""
        self._slots.give_back(core, token)

    def share(self, core: str) -> SlotShare:
        """As `SlotSource.share`."""
        return self._slots.share(core)

    def want(self, pending: Mapping[str, int]) -> None:
        """As `SlotSource.want`."""
        self._slots.want(pending)

    def report(self, core: str, state: str, seconds: float, cause: str) -> None:
        """As `SlotSource.report`."""
        self._relay.send("core", {"core": core, "state": state, "seconds": seconds, "cause": cause})

    def send_outcome(self, outcome: CallOutcome, stage_of: str | None) -> bool:
        """Tell the others of an outcome, as `OutcomeLog.record`; False if it is dropped."""
        if not self.cores.store_text:
            outcome = outcome.without_text(embedding_of)
        fields = outcome.model_dump(mode="json", exclude_none=True)
        return self._relay.send("outcome", {"outcome": fields, "stage_of": stage_of})

    def send_grade(self, call_id: str, quality: float) -> bool:
        """Tell the others of a grade; False if it is dropped."""
        return self._relay.send("grade", {"call_id": call_id, "quality": quality})

    def settle(self) -> bool:
        """Wait until the store has what happened so far; False if it does not have it in time."""
        return self._relay.settle(SETTLE_S)

    def publish_predictor(self, content: bytes) -> None:
        """Give the other kernels a predictor that this one has fitted."""
        self._predictors.publish(content)

    def degraded(self) -> list[str]:
        """What does not work as it should, a line each."""
        return [*self._slots.degraded(), *self._relay.degraded(), *self._predictors.degraded()]

    def faults(self) -> list[str]:
        """Threads that have ended, a line each."""
        return self._slots.faults()

    def status(self, scheduled: Mapping[str, Any]) -> dict[str, object]:
        """The ``shared`` of ``/eccos/status``; its ``all`` are the figures of all kernels together.

        Parameters
        ----------
        scheduled : mapping
            `Scheduler.status`.
        """
        return {
            "redis": without_password(self.cores.url),
            "name": self.cores.name,
            "process": os.getpid(),
            "kernels": len(self._slots.kernels),
            "leads": self.leads,
            "away": self._slots.is_away,
            "held": self._slots.holds(),
            "dropped": self._relay.dropped,
            "all": summed([figures_of(scheduled, self._recorded_here()), *self._other_figures()]),
        }

    @property
    def recorded(self) -> int:
        """Outcomes that the live kernels have stored, as far as they have told."""
        return self._recorded_here() + sum(int(figures["recorded"]) for figures in self._other_figures())

    def _recorded_here(self) -> int:
        with self._lock:
            return self._recorded

    def _other_figures(self) -> list[Mapping[str, Any]]:
        live = self._slots.kernels
        with self._lock:
            return [figures for kernel, figures in self._figures.items() if kernel in live]

    def _send_accounts(self) -> None:
        account = dict(self._take_account())
        if account:
            self._relay.send("account", account)
        figures = figures_of(self._scheduler_status(), self._recorded_here())
        told = figures, self._slots.kernels  # a kernel that has just come knows nothing yet
        if told != self._told and self._relay.send("figures", figures):
            self._told = told

    def _hear(self, event: Event) -> None:
        """Hand on an event of another kernel."""
        content = event.content
        if event.kind == "outcome":
            outcome = _outcome(content)
            if outcome is not None:
                self._on_outcome(outcome, content.get("stage_of"))
        elif event.kind == "grade":
            self._on_grade(str(content["call_id"]), float(content["quality"]))
        elif event.kind == "account":
            self._on_account(content)
        elif event.kind == "figures":
            summed([content])  # raises if another version sent something else
            with self._lock:
                self._figures[event.kernel] = content
        elif event.kind == "core":
            self._on_core(
                str(content["core"]), str(content["state"]), float(content["seconds"]), str(content["cause"])
            )

    def _write(self, events: Sequence[Event]) -> None:
        """Store the outcomes and grades of all kernels; the relay calls it where this kernel leads."""
        if self._store is None and self.cores.history is not None:
            self._store = HistoryStore(
                self.cores.history, store_text=self.cores.store_text, embed=embedding_of
            )
        store = self._store
        if store is None:
            return
        outcomes = [_outcome(event.content) for event in events if event.kind == "outcome"]
        added = store.append_outcomes([outcome for outcome in outcomes if outcome is not None])
        with self._lock:
            self._recorded += added
        for event in events:
            if event.kind == "grade":
                self._grade(store, event.content)

    def _grade(self, store: HistoryStore, content: Mapping[str, Any]) -> None:
        try:
            store.give_quality(str(content["call_id"]), float(content["quality"]))
        except HistoryError as error:
            if not error.key:  # the store cannot be written: try again
                raise
            self._log.warning("grade", "a grade is not stored: %s", error.allowed)


def _outcome(content: Mapping[str, Any]) -> CallOutcome | None:
    try:
        return CallOutcome.model_validate(content.get("outcome"))
    except ValidationError:  # of another version of this package
        return None
