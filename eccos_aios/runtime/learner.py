"""Learner: lets the predictor of a running kernel learn from feedback."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from eccos_aios.errors import EccosError, HistoryError
from eccos_aios.history import HistoryStore, Record
from eccos_aios.history.schema import is_store
from eccos_aios.log_once import LogOnce
from eccos_aios.predict import (
    Drift,
    Fitted,
    OnlinePredictor,
    PredictorSpec,
    fit_store,
    fitted_predictor,
    is_persistent,
    online_predictor,
    received_predictor,
    refit_is_due,
    saved_file,
    stored_predictor,
)
from eccos_aios.runtime.planner import Planner
from eccos_aios.runtime.refit import Refit
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

LOOK_S = 0.5  # seconds between two checks of a fit that is under way
STOP_S = 2.0  # seconds that `stop` waits for the thread


class Learner:
    """Passes each graded outcome to the predictor, and replaces its fit when enough have come.

    It owns the thread ``eccos-learner``, which ends with `stop`; nothing else changes the predictor. A fit
    runs in a separate process, so that no round waits for it, and its result is swapped in as a whole, with
    the outcomes that came meanwhile. A predictor that cannot be saved is fitted in the thread instead.
    Without a store, outcomes count until the kernel ends, and there is no new fit.

    An outcome that cannot be learned is skipped and counted. After any other exception the estimates stay as
    they are, and learning continues.

    Parameters
    ----------
    predictor : OnlinePredictor
    store : Path, optional
        The history's store, for new fits.
    fitted : int
        Number of records that the predictor was fitted on.
    spec : PredictorSpec, optional
        The predictor to fit. Default: the hybrid predictor.
    """

    def __init__(
        self,
        predictor: OnlinePredictor,
        store: Path | None = None,
        fitted: int = 0,
        spec: PredictorSpec | None = None,
    ) -> None:
        self.predictor = predictor
        self._store = store
        self._fitted = fitted
        self.spec = spec or PredictorSpec()
        self.planner: Planner | None = None  # fitted again whenever the predictor is; set by the service
        self._persistent = store is not None and is_persistent(self.spec)
        # Set by the service where kernels share one history, which one of them writes and fits.
        self.may_fit: Callable[[], bool] = lambda: True
        self.on_fitted: Callable[[bytes], None] = lambda content: None
        self.before_reading: Callable[[], object] = lambda: None  # waits until the store has all outcomes
        # Guards the attributes from here to `_refits`. Never held while learning, reading or writing.
        self._changed = threading.Condition()
        self._waiting: dict[object, Record] = {}  # by id: of several records of a call the last is learned
        self._in_hand: list[Record] = []  # taken from `_waiting`, not yet learned
        self._stopping = False
        self._learned = 0
        self._refused = 0  # records that cannot be learned
        self._refits = 0
        self._offered: bytes | None = None  # a predictor that another kernel has fitted
        self._refit: Refit | None = None  # used by the thread only
        self._least_new = 0  # records to wait for after a failed fit; used by the thread only
        self._log = LogOnce(logger)
        self._thread = SupervisedThread("eccos-learner", self._run)

    def start(self) -> None:
        """Start the thread, unless it has been started before."""
        if not self._thread.started:
            self._thread.start()

    def stop(self) -> None:
        """End the thread and a fit that is under way; may be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.end()
        if not self._thread.join(STOP_S):
            logger.warning("the learner did not end within %g s and is abandoned", STOP_S)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.alive

    def restarts(self) -> list[str]:
        """A line about the thread, if it was restarted after an unexpected exception."""
        return [note] if (note := self._thread.note()) else []

    def faults(self) -> list[str]:
        """Reasons why outcomes are not learned, a line each; empty if all is well."""
        with self._changed:
            stopping = self._stopping
        ended = self._thread.started and not stopping and not self.alive
        return ["the learner has ended"] if ended else []

    def learn(self, record: Record) -> None:
        """Queue a graded outcome, or a correction of one; does not block."""
        key: object = object() if record.id is None else record.id
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = record
            self._changed.notify_all()

    def offer(self, content: bytes) -> None:
        """Queue a predictor that another kernel has fitted on the shared history; does not block."""
        with self._changed:
            self._offered = content
            self._changed.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all queued outcomes have been learned; False after a timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._in_hand, timeout_s)

    def status(self) -> dict[str, object]:
        """The ``learning`` of ``/eccos/status``: calls, fits, and how far cores have changed.

        ``online`` is false if the predictor takes outcomes into account at its next fit only.
        """
        with self._changed:
            counts = {"learned": self._learned, "refused": self._refused, "refits": self._refits}
        shifts = {core: round(shift, 4) for core, shift in self.predictor.shifts.items()}
        return {"online": self.predictor.learns_online, **counts, "shifts": shifts}

    def _run(self) -> None:
        while self._next_batch():
            self._teach()
            self._check_fit()
        if self._refit is not None:
            self._refit.cancel()
        with self._changed:
            self._in_hand = []
            self._changed.notify_all()

    def _next_batch(self) -> bool:
        """Take the queued outcomes, or none if it is time to check a fit; False to end."""
        with self._changed:
            look_s = None if self._refit is None else LOOK_S
            self._changed.wait_for(
                lambda: self._in_hand or self._waiting or self._stopping or self._offered is not None, look_s
            )
            if not self._in_hand:  # else the thread was restarted, and continues with them
                self._in_hand = list(self._waiting.values())
                self._waiting = {}
            return not self._stopping

    def _teach(self) -> None:
        with self._changed:
            batch = list(self._in_hand)
        for record in batch:
            with self._changed:
                if self._stopping:
                    return
            before = self.predictor.calls
            drifts, fault = self._attempt(record)
            if fault is not None:  # perhaps for lack of memory; learning a record twice is harmless
                drifts, fault = self._attempt(record)
            with self._changed:
                del self._in_hand[0]
                self._learned += self.predictor.calls - before
                self._refused += fault is not None
                self._changed.notify_all()
            if fault is not None:
                self._log.warning("refused", "an outcome cannot be learned: %s", type(fault).__name__)
            for drift in drifts:
                self._report(drift)

    def _attempt(self, record: Record) -> tuple[list[Drift], BaseException | None]:
        try:
            return self.predictor.learn([record]), None
        except BaseException as fault:  # noqa: BLE001 - one bad record must not affect the others
            return [], fault

    def _report(self, drift: Drift) -> None:
        logger.warning(
            "core %r got %s: %+.2f of quality, noticed after %d outcomes",
            drift.core,
            "worse" if drift.shift < 0 else "better",
            drift.shift,
            drift.outcomes,
        )

    def _check_fit(self) -> None:
        """Start a fit that is due, or adopt one that has ended; a failure is retried later."""
        if self._store is None:
            return
        with self._changed:
            offered, self._offered = self._offered, None
        try:
            if offered is not None and self._persistent:
                self._take_over(self._store, offered)
            elif self._refit is None:
                self._begin_fit(self._store)
            elif self._refit.ended:
                refit, self._refit = self._refit, None
                fault = refit.fault()
                if fault is None:
                    self._adopt(self._store, stored_predictor(self._store, self.spec))
                    self.on_fitted(saved_file(self._store).read_bytes())
                else:
                    self._put_off(fault)
        except BaseException as error:  # noqa: BLE001 - a disk, a process or an archive may fail in any way
            self._put_off(str(error) if isinstance(error, EccosError) else type(error).__name__)

    def _begin_fit(self, path: Path) -> None:
        new = self.predictor.calls
        due = refit_is_due(new, self._fitted, suspecting=self.predictor.suspecting)
        if not due or new < self._least_new or (self._persistent and not self.may_fit()):
            return
        self._store_changes(path)
        self.before_reading()
        if self._persistent:
            self._refit = Refit(path, self.spec, self.planner)
        else:
            self._adopt(path, fit_store(path, self.spec))

    def _put_off(self, fault: str) -> None:
        new = self.predictor.calls
        self._least_new = 2 * new
        logger.warning("no new fit before %d outcomes more: %s", new, fault)

    def _store_changes(self, path: Path) -> None:
        """Store the changes of cores, so that the fit corrects outcomes from before them."""
        changes = self.predictor.changes
        if changes:
            with HistoryStore(path) as store:
                store.note_changes(changes)

    def _take_over(self, path: Path, content: bytes) -> None:
        """Replace the fit by another kernel's, unless that was fitted on less."""
        try:
            fitted = received_predictor(content, path, self.spec)
        except HistoryError as error:
            self._log.warning("offered", "another kernel's predictor cannot be used: %s", error.allowed)
            return
        if fitted.records > self._fitted:
            self._adopt(path, fitted)

    def _adopt(self, path: Path, fitted: Fitted) -> None:
        """Replace the fit by a new one, and learn the outcomes that came while it was made."""
        self.before_reading()
        since = _since(path, fitted)
        try:
            drifts = self.predictor.rebase(fitted.predictor, since)
        except ValueError:
            drifts = self.predictor.rebase(fitted.predictor, ())
            for record in since:  # one of them cannot be learned
                self.learn(record)
        for drift in drifts:
            self._report(drift)
        self._fitted, self._least_new = fitted.records, 0
        with self._changed:
            self._refits += 1
        planner = self.planner
        if planner is not None:
            # what is persistent, the process has fitted and saved
            planner.fit(path, anew=not self._persistent, until=fitted.mark)


def learner_of(history: Path, spec: PredictorSpec | None = None) -> Learner:
    """The learner of a history; of a store, with what came after the fit.

    Raises
    ------
    HistoryError
        The history cannot be read.
    ConfigError
        `spec` is wrong.
    """
    fitted = fitted_predictor(history, spec)
    predictor = online_predictor(fitted.predictor)
    if not is_store(history):
        return Learner(predictor, spec=spec)
    learner = Learner(predictor, history, fitted.records, spec)
    since = _since(history, fitted)
    try:
        predictor.learn(since)
    except ValueError:
        for record in since:  # one of them cannot be learned
            learner.learn(record)
    return learner


def _since(store: Path, fitted: Fitted) -> list[Record]:
    if fitted.mark is None:
        return []
    with HistoryStore(store, read_only=True) as opened:
        if not opened.holds(fitted.mark):  # another kernel's store, on another machine
            return []
        return list(opened.records_since(fitted.mark))
