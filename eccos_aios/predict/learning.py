"""LearningPredictor: goes on learning from each outcome, between one fit and the next."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eccos_aios.history import Record
from eccos_aios.predict.drift import Drift, DriftDetector
from eccos_aios.predict.embed import Embedder
from eccos_aios.predict.estimate import Estimates
from eccos_aios.predict.features import embed_calls
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.outcomes import core_positions, outcomes_of
from eccos_aios.predict.predictor import Predictor
from eccos_aios.predict.recent import Recent
from eccos_aios.predict.text import CallText

LEAST_NEW = 20  # records that are worth a fit at all
NEW_SHARE = 0.25  # of what was fitted; all fits together then cost some five times the last one


@dataclass(frozen=True)
class _Learned:
    """What a call of `predict` reads; replaced as a whole.

    Attributes
    ----------
    fitted : HybridPredictor
    recent : Recent
    shift : dict of str to float
        By core, what it gives beyond what was learned of it; in the order of the columns of `recent`.
    """

    fitted: HybridPredictor
    recent: Recent
    shift: dict[str, float] = field(default_factory=dict)


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
        self._learned = _fresh(fitted)

    @property
    def fitted(self) -> HybridPredictor:
        """The fit that lies underneath."""
        return self._learned.fitted

    @property
    def embedder(self) -> Embedder:
        """Of the fit."""
        return self._learned.fitted.embedder

    @property
    def shifts(self) -> dict[str, float]:
        """By core: points of quality that it gives beyond what the last fit learned of it."""
        return dict(self._learned.shift)

    def fit(self, history: Sequence[Record]) -> LearningPredictor:
        self.rebase(HybridPredictor().fit(history), ())
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        learned = self._learned
        estimates = learned.fitted.predict(calls, cores)
        if not learned.recent.count:
            return estimates
        vectors = embed_calls(calls, learned.fitted.embedder)
        residual = learned.recent.expected(vectors, np.array(list(learned.shift.values())))
        column = {core: position for position, core in enumerate(learned.shift)}
        moved = np.zeros_like(estimates.quality)
        known = [position for position, core in enumerate(cores) if core in column]
        moved[:, known] = residual[:, [column[cores[position]] for position in known]]
        return replace(estimates, quality=np.clip(estimates.quality + moved, 0.0, 1.0))

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
            self._learned = learned = _fresh(fitted)
            return self._learn(learned, since) if since else []

    def _learn(self, learned: _Learned, records: Sequence[Record]) -> list[Drift]:
        outcomes = outcomes_of(records)
        names = list(dict.fromkeys([*learned.shift, *outcomes.cores]))
        quality = np.full((len(records), len(names)), np.nan)
        quality[:, core_positions(names, outcomes.cores)] = outcomes.quality
        predicted = learned.fitted.predict(outcomes.calls, names).quality
        vectors = embed_calls(outcomes.calls, learned.fitted.embedder)
        recent = learned.recent.with_rows(vectors, quality - predicted)
        for row, column in np.argwhere(~np.isnan(quality)).tolist():
            detector = self._detector(names[column], learned.fitted)
            detector.add(float(predicted[row, column]), float(quality[row, column]))
            self._ids[names[column]].append(records[row].id)
        shift = {name: self._detectors[name].shift for name in names}
        self._learned = _Learned(learned.fitted, recent, shift)
        return self._news()

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
        return Drift(core, detector.shift, detector.outcomes_since, ids[-detector.outcomes_since])


def _fresh(fitted: HybridPredictor) -> _Learned:
    width = embed_calls([CallText("", 0.0)], fitted.embedder).shape[1]
    return _Learned(fitted, Recent.none(width))


def refit_is_due(new: int, fitted: int) -> bool:
    """Whether so many new records are worth another fit of what so many taught."""
    return new >= max(LEAST_NEW, NEW_SHARE * fitted)
