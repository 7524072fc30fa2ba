"""LearningPredictor: goes on learning from each outcome, between one fit and the next."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.history import Change, Record
from eccos_aios.predict.drift import Drift, DriftDetector
from eccos_aios.predict.embed import Embedder
from eccos_aios.predict.estimate import Estimates, FloatArray
from eccos_aios.predict.features import embed_calls
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.outcomes import core_positions, outcomes_of
from eccos_aios.predict.predictor import Predictor
from eccos_aios.predict.recent import LikeCalls, Recent, changed
from eccos_aios.predict.text import CallText

LEAST_NEW = 20  # records that are worth a fit at all
NEW_SHARE = 0.25  # of what was fitted; all fits together then cost some five times the last one

SUSPECT_PATIENCE = 3.0  # times as many records may come while a core is suspected of having changed


@dataclass(frozen=True)
class _Learned:
    """What a call of `predict` reads; replaced as a whole.

    Attributes
    ----------
    fitted : HybridPredictor
    recent : Recent
    like : LikeCalls
        `recent` as it is asked.
    column : dict of str to int
        By core, its column in the arrays.
    lost, won : ndarray of shape (cores,)
        How the cores changed, see `DriftDetector.change`.
    """

    fitted: HybridPredictor
    recent: Recent
    like: LikeCalls
    column: dict[str, int]
    lost: FloatArray
    won: FloatArray


class LearningPredictor(Predictor):
    """A fitted predictor and the outcomes that came after: each counts as soon as it is known.

    On top of the fit come the residuals of like calls (`Recent`) and, for every core, how far it has moved
    from what was learned of it (`DriftDetector`). `rebase` puts a newer fit underneath, at once for every
    reader. Token counts follow at the next fit. Any thread may call any method.

    Parameters
    ----------
    fitted : HybridPredictor
    """

    def __init__(self, fitted: HybridPredictor) -> None:
        # Guards the detectors and the replacing of what is learned; `predict` reads without it.
        self._lock = threading.Lock()
        self._detectors: dict[str, DriftDetector] = {}
        self._told: set[str] = set()
        self._ids: dict[str, list[str | None]] = {}  # of the records, by core
        self._learned = self._with(fitted, _nothing(fitted), ())

    @property
    def fitted(self) -> HybridPredictor:
        """The fit that lies underneath."""
        return self._learned.fitted

    @property
    def embedder(self) -> Embedder:
        """Of the fit."""
        return self._learned.fitted.embedder_

    @property
    def shifts(self) -> dict[str, float]:
        """By core: points of quality that it gives beyond what the last fit learned of it."""
        with self._lock:
            return {core: detector.shift for core, detector in self._detectors.items()}

    @property
    def changes(self) -> list[Change]:
        """The cores that have changed since the fit, as far as is known by now, for the next fit."""
        with self._lock:
            drifts = [self._drift(name) for name in sorted(self._told)]
        return [Change(d.core, d.since, d.lost, d.won) for d in drifts if d.since is not None]

    @property
    def suspecting(self) -> bool:
        """Whether a core may have changed, without certainty yet."""
        with self._lock:
            return any(each.suspected and not each.noticed for each in self._detectors.values())

    def fit(self, history: Sequence[Record]) -> LearningPredictor:
        self.rebase(HybridPredictor().fit(history), ())
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        learned = self._learned
        vectors = embed_calls(calls, learned.fitted.embedder_)
        estimates = learned.fitted.predict_embedded(calls, vectors, cores)
        asked = [position for position, core in enumerate(cores) if core in learned.column]
        if not asked:
            return estimates
        columns = [learned.column[cores[position]] for position in asked]
        residual = learned.like.expected(vectors)
        quality = estimates.quality.copy()
        moved = changed(quality[:, asked], learned.lost[columns], learned.won[columns])
        quality[:, asked] = np.clip(moved + residual[:, columns], 0.0, 1.0)
        return replace(estimates, quality=quality)

    def learn(self, records: Sequence[Record]) -> list[Drift]:
        """Take new outcomes into account; returns the cores that are found to have changed just now.

        Parameters
        ----------
        records : sequence of Record
            In the order in which they happened.
        """
        if not records:
            return []
        with self._lock:
            return self._learn(self._learned, records)

    def rebase(self, fitted: HybridPredictor, since: Sequence[Record]) -> list[Drift]:
        """Put another fit underneath.

        Parameters
        ----------
        fitted : HybridPredictor
        since : sequence of Record
            What it has not seen.
        """
        with self._lock:
            self._detectors.clear()
            self._told.clear()
            self._ids.clear()
            self._learned = learned = self._with(fitted, _nothing(fitted), ())
            return self._learn(learned, since) if since else []

    def _learn(self, learned: _Learned, records: Sequence[Record]) -> list[Drift]:
        outcomes = outcomes_of(records)
        names = list(dict.fromkeys([*learned.column, *outcomes.cores]))
        quality = np.full((len(records), len(names)), np.nan)
        quality[:, core_positions(names, outcomes.cores)] = outcomes.quality
        vectors = embed_calls(outcomes.calls, learned.fitted.embedder_)
        predicted = learned.fitted.predict_embedded(outcomes.calls, vectors, names).quality
        for row, column in np.argwhere(~np.isnan(quality)).tolist():
            detector = self._detector(names[column], learned.fitted)
            detector.add(float(predicted[row, column]), float(quality[row, column]))
            self._ids[names[column]].append(records[row].id)
        recent = learned.recent.with_rows(vectors, predicted, quality)
        self._learned = self._with(learned.fitted, recent, names)
        return self._news()

    def _with(self, fitted: HybridPredictor, recent: Recent, names: Sequence[str]) -> _Learned:
        change = np.array([self._detectors[name].change for name in names]).reshape(-1, 2)
        column = {name: position for position, name in enumerate(names)}
        lost, won = change[:, 0], change[:, 1]
        return _Learned(fitted, recent, recent.residual(lost, won), column, lost, won)

    def _detector(self, core: str, fitted: HybridPredictor) -> DriftDetector:
        if core not in self._detectors:
            self._detectors[core] = DriftDetector(is_new=core not in fitted.trained.cores_)
            self._ids[core] = []
        return self._detectors[core]

    def _news(self) -> list[Drift]:
        noticed = {name for name, detector in self._detectors.items() if detector.noticed}
        news = noticed - self._told
        self._told = noticed
        return [self._drift(name) for name in sorted(news)]

    def _drift(self, core: str) -> Drift:
        detector, ids = self._detectors[core], self._ids[core]
        since = detector.outcomes_since
        return Drift(core, detector.shift, since, ids[-since], *detector.change)


def _nothing(fitted: HybridPredictor) -> Recent:
    return Recent.none(embed_calls([CallText("", 0.0)], fitted.embedder_).shape[1])


def refit_is_due(new: int, fitted: int, *, suspecting: bool = False) -> bool:
    """Whether so many new records are worth another fit of what so many taught.

    Parameters
    ----------
    new, fitted : int
        Records.
    suspecting : bool
        Whether a core may have changed. A fit would mix what it gave before and after, and the evidence
        would be lost; so it waits, but not for ever.
    """
    due = max(LEAST_NEW, NEW_SHARE * fitted)
    return new >= (SUSPECT_PATIENCE * due if suspecting else due)
