"""Learner: teaches the running kernel's predictor what feedback tells."""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path

from eccos_aios.history import HistoryStore, Record
from eccos_aios.history.schema import is_store
from eccos_aios.hooks.refit import Refit
from eccos_aios.predict import (
    Drift,
    Fitted,
    HybridPredictor,
    LearningPredictor,
    fitted_predictor,
    refit_is_due,
)

logger = logging.getLogger(__name__)

LOOK_S = 0.5  # seconds between two looks at a fit that is under way


class Learner:
    """Teaches a predictor each graded outcome at once, and has it fitted anew when enough have come.

    It owns the thread ``eccos-learner``, which ends with `stop`; nobody else changes the predictor. A fit
    runs in a process of its own, so that no round waits for it; its result is swapped in as a whole, with
    the outcomes that came meanwhile. Without a store outcomes count until the kernel ends, and nothing is
    fitted anew.

    Parameters
    ----------
    predictor : LearningPredictor
    store : Path, optional
        Where the outcomes are kept.
    fitted, new : int
        Records that the predictor's fit has seen, and that it has learned since.
    """

    def __init__(
        self, predictor: LearningPredictor, store: Path | None = None, fitted: int = 0, new: int = 0
    ) -> None:
        self.predictor = predictor
        self._store = store
        self._fitted = fitted
        # Guards what follows. Never held while anything is learned, read or written.
        self._changed = threading.Condition()
        self._waiting: deque[Record] = deque()
        self._teaching = False
        self._stopping = False
        self._learned = 0
        self._refits = 0
        self._refit: Refit | None = None  # the thread's own
        self._new = new  # records since the fit; the thread's own
        self._least_new = 0  # records to wait for after a fit that failed; likewise
        self._thread = threading.Thread(target=self._run, name="eccos-learner", daemon=True)

    def start(self) -> None:
        """Start learning, unless it has been started before."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread, and a fit that is under way; twice does no harm."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def learn(self, record: Record) -> None:
        """Take a graded outcome; never waits."""
        with self._changed:
            self._waiting.append(record)
            self._changed.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all that was taken is learned; False where the time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._teaching, timeout_s)

    def status(self) -> dict[str, object]:
        """The ``learning`` of ``/eccos/status``: outcomes learned, fits, and how far cores have moved."""
        with self._changed:
            counts: dict[str, object] = {"learned": self._learned, "refits": self._refits}
        return {**counts, "shifts": {core: round(shift, 4) for core, shift in self.predictor.shifts.items()}}

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._teach(batch)
                self._look_after_fit()
        except Exception:
            # estimates stay as good as the last fit, and calls go on
            logger.exception("feedback cannot be learned; no more is learned until a restart")
        if self._refit is not None:
            self._refit.cancel()
        with self._changed:
            self._teaching = False
            self._changed.notify_all()

    def _next_batch(self) -> list[Record] | None:
        """What came, or nothing where a fit wants looking after; None when it is time to end."""
        with self._changed:
            self._teaching = False
            self._changed.notify_all()
            look_s = None if self._refit is None else LOOK_S
            self._changed.wait_for(lambda: self._waiting or self._stopping, look_s)
            if self._stopping:
                return None
            batch = list(self._waiting)
            self._waiting.clear()
            self._teaching = True
            return batch

    def _teach(self, batch: list[Record]) -> None:
        for record in batch:
            for drift in self.predictor.learn([record]):
                self._tell(drift)
        self._new += len(batch)
        with self._changed:
            self._learned += len(batch)

    def _tell(self, drift: Drift) -> None:
        logger.warning(
            "core %r got %s: %+.2f of quality, noticed after %d outcomes",
            drift.core,
            "worse" if drift.shift < 0 else "better",
            drift.shift,
            drift.outcomes,
        )

    def _look_after_fit(self) -> None:
        if self._store is None:
            return
        if self._refit is None:
            due = refit_is_due(self._new, self._fitted, suspecting=self.predictor.suspecting)
            if due and self._new >= self._least_new:
                self._keep_changes(self._store)
                self._refit = Refit(self._store)
        elif self._refit.ended:
            refit, self._refit = self._refit, None
            fault = refit.fault()
            if fault is None:
                self._take_in(self._store)
            else:
                self._least_new = 2 * self._new
                logger.warning("no new fit before %d outcomes more: %s", self._new, fault)

    def _keep_changes(self, path: Path) -> None:
        """What is known by now of cores that changed, so that the fit reads their older outcomes by it."""
        changes = self.predictor.changes
        if changes:
            with HistoryStore(path) as store:
                store.note_changes(changes)

    def _take_in(self, path: Path) -> None:
        """Put the new fit underneath; what came while it was made is learned on top of it."""
        fitted = fitted_predictor(path)
        since = _since(path, fitted)
        for drift in self.predictor.rebase(_hybrid(fitted), since):
            self._tell(drift)
        held = {record.id for record in since}
        with self._changed:
            # what waits was stored before it came here, so it may have been read just now
            self._waiting = deque(record for record in self._waiting if record.id not in held)
            self._refits += 1
        self._fitted, self._new = fitted.records, len(since)


def learner_of(history: Path, fitted: Fitted) -> Learner:
    """The learner of a history: of a store, with what came after the fit.

    Raises
    ------
    HistoryError
        The store cannot be read.
    """
    predictor = LearningPredictor(_hybrid(fitted))
    if not is_store(history):
        return Learner(predictor)
    since = _since(history, fitted)
    predictor.learn(since)
    return Learner(predictor, history, fitted.records, len(since))


def _since(store: Path, fitted: Fitted) -> list[Record]:
    if fitted.mark is None:
        return []
    with HistoryStore(store, read_only=True) as opened:
        return list(opened.records_since(fitted.mark))


def _hybrid(fitted: Fitted) -> HybridPredictor:
    if not isinstance(fitted.predictor, HybridPredictor):
        raise TypeError(f"predictor: {type(fitted.predictor).__name__}: must be a HybridPredictor")
    return fitted.predictor
