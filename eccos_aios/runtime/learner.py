"""Learner: teaches the running kernel's predictor what feedback tells."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from eccos_aios.errors import EccosError
from eccos_aios.history import HistoryStore, Record
from eccos_aios.history.schema import is_store
from eccos_aios.predict import (
    Drift,
    Fitted,
    HybridPredictor,
    OnlinePredictor,
    refit_is_due,
    stored_predictor,
)
from eccos_aios.runtime.refit import Refit
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

LOOK_S = 0.5  # seconds between two looks at a fit that is under way
STOP_S = 2.0  # seconds that `stop` waits for what is being learned


class Learner:
    """Teaches a predictor each graded outcome at once, and has it fitted anew when enough have come.

    It owns the thread ``eccos-learner``, which ends with `stop`; nobody else changes the predictor. A fit
    runs in a process of its own, so that no round waits for it; its result is swapped in as a whole, with
    the outcomes that came meanwhile. Without a store outcomes count until the kernel ends, and nothing is
    fitted anew. An outcome that cannot be learned is left out and counted; whatever else raises, the
    estimates stay as good as the last fit and what was learned since, and learning goes on.

    Parameters
    ----------
    predictor : OnlinePredictor
    store : Path, optional
        Where the outcomes are kept.
    fitted : int
        Records that the predictor's fit has seen.
    """

    def __init__(self, predictor: OnlinePredictor, store: Path | None = None, fitted: int = 0) -> None:
        self.predictor = predictor
        self._store = store
        self._fitted = fitted
        # Guards what follows. Never held while anything is learned, read or written.
        self._changed = threading.Condition()
        self._waiting: dict[object, Record] = {}  # by id: of several for one call the last is learned
        self._in_hand: list[Record] = []  # taken from those, not yet learned
        self._stopping = False
        self._learned = 0
        self._refused = 0  # records that cannot be learned
        self._refits = 0
        self._refit: Refit | None = None  # the thread's own
        self._least_new = 0  # records to wait for after a fit that failed; likewise
        self._thread = SupervisedThread("eccos-learner", self._run)

    def start(self) -> None:
        """Start learning, unless it has been started before."""
        if not self._thread.started:
            self._thread.start()

    def stop(self) -> None:
        """End the thread, and a fit that is under way; twice does no harm."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.end()
        if not self._thread.join(STOP_S):
            logger.warning("what is being learned is given up: it did not end within %g s", STOP_S)

    @property
    def alive(self) -> bool:
        """Whether the thread that learns runs."""
        return self._thread.alive

    def restarts(self) -> list[str]:
        """The thread that learns, where it raised something unforeseen and went on, in a line."""
        return [note] if (note := self._thread.note()) else []

    def faults(self) -> list[str]:
        """What keeps outcomes from being learned, a line each; empty where nothing does."""
        with self._changed:
            stopping = self._stopping
        ended = self._thread.started and not stopping and not self.alive
        return ["the learner has ended"] if ended else []

    def learn(self, record: Record) -> None:
        """Take a graded outcome, or a correction of one; never waits."""
        key: object = object() if record.id is None else record.id
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = record
            self._changed.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that was taken is learned; False where the time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._in_hand, timeout_s)

    def status(self) -> dict[str, object]:
        """The ``learning`` of ``/eccos/status``: calls learned, fits, and how far cores have moved."""
        with self._changed:
            counts = {"learned": self._learned, "refused": self._refused, "refits": self._refits}
        return {**counts, "shifts": {core: round(shift, 4) for core, shift in self.predictor.shifts.items()}}

    def _run(self) -> None:
        while self._next_batch():
            self._teach()
            self._look_after_fit()
        if self._refit is not None:
            self._refit.cancel()
        with self._changed:
            self._in_hand = []
            self._changed.notify_all()

    def _next_batch(self) -> bool:
        """Take what came, or nothing where a fit wants looking after; False when it is time to end."""
        with self._changed:
            look_s = None if self._refit is None else LOOK_S
            self._changed.wait_for(lambda: self._in_hand or self._waiting or self._stopping, look_s)
            if not self._in_hand:  # else it was begun again, and goes on with what it had
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
            if fault is not None:  # perhaps for want of memory; what is learned twice counts once
                drifts, fault = self._attempt(record)
            with self._changed:
                del self._in_hand[0]
                self._learned += self.predictor.calls - before
                first = fault is not None and not self._refused
                self._refused += fault is not None
                self._changed.notify_all()
            if first:
                logger.warning("an outcome cannot be learned: %s (logged once)", type(fault).__name__)
            for drift in drifts:
                self._report(drift)

    def _attempt(self, record: Record) -> tuple[list[Drift], BaseException | None]:
        try:
            return self.predictor.learn([record]), None
        except BaseException as fault:  # noqa: BLE001 - one record that breaks the arithmetic costs no other
            return [], fault

    def _report(self, drift: Drift) -> None:
        logger.warning(
            "core %r got %s: %+.2f of quality, noticed after %d outcomes",
            drift.core,
            "worse" if drift.shift < 0 else "better",
            drift.shift,
            drift.outcomes,
        )

    def _look_after_fit(self) -> None:
        """Begin a fit that is due, and take in one that has ended; what fails is tried again later."""
        if self._store is None:
            return
        try:
            if self._refit is None:
                self._begin_fit(self._store)
            elif self._refit.ended:
                refit, self._refit = self._refit, None
                fault = refit.fault()
                if fault is None:
                    self._take_in(self._store)
                else:
                    self._put_off(fault)
        except BaseException as error:  # noqa: BLE001 - a disk, a process or an archive may fail in any way
            self._put_off(str(error) if isinstance(error, EccosError) else type(error).__name__)

    def _begin_fit(self, path: Path) -> None:
        new = self.predictor.calls
        due = refit_is_due(new, self._fitted, suspecting=self.predictor.suspecting)
        if due and new >= self._least_new:
            self._keep_changes(path)
            self._refit = Refit(path)

    def _put_off(self, fault: str) -> None:
        new = self.predictor.calls
        self._least_new = 2 * new
        logger.warning("no new fit before %d outcomes more: %s", new, fault)

    def _keep_changes(self, path: Path) -> None:
        """What is known by now of cores that changed, so that the fit reads their older outcomes by it."""
        changes = self.predictor.changes
        if changes:
            with HistoryStore(path) as store:
                store.note_changes(changes)

    def _take_in(self, path: Path) -> None:
        """Put the new fit underneath; what came while it was made is learned on top of it."""
        fitted = stored_predictor(path)
        since = _since(path, fitted)
        try:
            drifts = self.predictor.rebase(_hybrid(fitted), since)
        except ValueError:
            drifts = self.predictor.rebase(_hybrid(fitted), ())
            for record in since:  # one of them cannot be learned
                self.learn(record)
        for drift in drifts:
            self._report(drift)
        self._fitted, self._least_new = fitted.records, 0
        with self._changed:
            self._refits += 1


def learner_of(history: Path, fitted: Fitted) -> Learner:
    """The learner of a history: of a store, with what came after the fit.

    Raises
    ------
    HistoryError
        The store cannot be read.
    """
    predictor = OnlinePredictor(_hybrid(fitted))
    if not is_store(history):
        return Learner(predictor)
    learner = Learner(predictor, history, fitted.records)
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
        return list(opened.records_since(fitted.mark))


def _hybrid(fitted: Fitted) -> HybridPredictor:
    if not isinstance(fitted.predictor, HybridPredictor):
        raise TypeError(f"predictor: {type(fitted.predictor).__name__}: must be a HybridPredictor")
    return fitted.predictor
