"""ResidualOnlinePredictor: corrects a fit by each outcome that comes after it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from eccos_aios.history import Change, Record
from eccos_aios.predict.base import EmbeddingPredictor, OnlinePredictor, Predictor
from eccos_aios.predict.core_prior import CoreExperience
from eccos_aios.predict.dataset import core_positions, outcomes_of
from eccos_aios.predict.drift import Drift, DriftDetector
from eccos_aios.predict.estimates import Estimates, FloatArray
from eccos_aios.predict.features import embed_calls
from eccos_aios.predict.recent_outcomes import RecentOutcomes
from eccos_aios.predict.residual_memory import ResidualMemory, ResidualSnapshot, changed
from eccos_aios.predict.text import CallText

REMEMBERED_CALLS = 65_536  # ids since the fit; a correction of an older call counts as another call


@dataclass(frozen=True)
class _Learned:
    """The state that `predict` reads; replaced as a whole.

    Attributes
    ----------
    fitted : EmbeddingPredictor
    residuals : ResidualSnapshot
    column : dict of str to int
        Column of each core in the arrays.
    lost, won : ndarray of shape (cores,)
        Changes of the cores, see `DriftDetector.change`.
    outcomes : dict of str to int
        Outcomes since the fit, by core.
    """

    fitted: EmbeddingPredictor
    residuals: ResidualSnapshot
    column: dict[str, int]
    lost: FloatArray
    won: FloatArray
    outcomes: dict[str, int]


class ResidualOnlinePredictor(OnlinePredictor):
    """A fitted predictor, corrected by the outcomes that came after the fit.

    Two corrections are added to the fit's quality: the residuals of similar calls (`ResidualMemory`), and the
    change of each core since the fit (`DriftDetector`). Token counts change at the next fit only.

    A call counts once, by its record's id: a record with a known id replaces the earlier one, at its place in
    the order. Each record without an id counts as another call.

    Parameters
    ----------
    fitted : EmbeddingPredictor
    """

    def __init__(self, fitted: EmbeddingPredictor) -> None:
        # Guards `_since` and `_reported`, and the replacement of `_learned`, which `predict` reads without
        # it.
        self._lock = threading.Lock()
        self._since = _SinceFit(fitted)
        self._reported: set[str] = set()
        self._learned = self._since.learned()

    @property
    def fitted(self) -> EmbeddingPredictor:
        """The fit that is corrected."""
        return self._learned.fitted

    @property
    def calls(self) -> int:
        with self._lock:
            return self._since.calls

    @property
    def shifts(self) -> dict[str, float]:
        with self._lock:
            return {core: detector.shift for core, detector in self._since.detectors.items()}

    @property
    def changes(self) -> list[Change]:
        with self._lock:
            drifts = [self._since.drift(name) for name in sorted(self._since.noticed)]
        return [Change(d.core, d.since, d.lost, d.won) for d in drifts if d.since is not None]

    @property
    def suspecting(self) -> bool:
        with self._lock:
            return any(each.suspected and not each.noticed for each in self._since.detectors.values())

    def fit(self, history: Sequence[Record]) -> ResidualOnlinePredictor:
        self.rebase(self.fitted.fit(history), ())
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        learned = self._learned
        vectors = embed_calls(calls, learned.fitted.embedder_)
        estimates = learned.fitted.predict_embedded(calls, vectors, cores)
        shared = [position for position, core in enumerate(cores) if core in learned.column]
        if not shared:
            return estimates
        columns = [learned.column[cores[position]] for position in shared]
        residual = learned.residuals.expected(vectors)
        quality = estimates.quality.copy()
        moved = changed(quality[:, shared], learned.lost[columns], learned.won[columns])
        quality[:, shared] = np.clip(moved + residual[:, columns], 0.0, 1.0)
        return replace(estimates, quality=quality)

    def experience(self, cores: Sequence[str]) -> CoreExperience | None:
        learned = self._learned
        fitted = learned.fitted.experience(cores)
        if fitted is None:
            return None
        since = np.array([learned.outcomes.get(core, 0) for core in cores], dtype=np.float64)
        return CoreExperience(fitted.records + since, fitted.quality)

    def learn(self, records: Sequence[Record]) -> list[Drift]:
        if not records:
            return []
        with self._lock:
            self._since.learn(records)
            self._learned = self._since.learned()
            return self._news()

    def rebase(self, fitted: Predictor, since: Sequence[Record]) -> list[Drift]:
        if not isinstance(fitted, EmbeddingPredictor):
            raise TypeError(f"{type(fitted).__name__} is not an EmbeddingPredictor, as the earlier fit is")
        with self._lock:
            fresh = _SinceFit(fitted)
            fresh.learn(since)
            self._learned = fresh.learned()
            self._since = fresh
            self._reported.clear()
            return self._news()

    def _news(self) -> list[Drift]:
        noticed = self._since.noticed
        news = noticed - self._reported
        # a core that is in doubt again for an outcome or two is not reported twice
        doubted = {name for name in self._reported if self._since.detectors[name].suspected}
        self._reported = noticed | doubted
        return [self._since.drift(name) for name in sorted(news)]


class _SinceFit:
    """The outcomes since a fit. Each call has a number, in order of its first record.

    Memory is bounded however long there is no new fit: by `residual_memory.CAPACITY` records, the blocks of
    `RecentOutcomes` of each core, and `REMEMBERED_CALLS` ids.
    """

    def __init__(self, fitted: EmbeddingPredictor) -> None:
        self._fitted = fitted
        self._memory = ResidualMemory.empty(embed_calls([CallText("", 0.0)], fitted.embedder_).shape[1])
        self._outcomes: dict[str, RecentOutcomes] = {}
        self._numbers: dict[str, int] = {}  # by id, the oldest first
        self._column: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self.calls = 0

    @property
    def detectors(self) -> dict[str, DriftDetector]:
        return {core: outcomes.detector for core, outcomes in self._outcomes.items()}

    @property
    def noticed(self) -> set[str]:
        return {core for core, detector in self.detectors.items() if detector.noticed}

    def drift(self, core: str) -> Drift:
        detector = self._outcomes[core].detector
        return Drift(core, detector.shift, detector.outcomes_since, detector.since, *detector.change)

    def learned(self) -> _Learned:
        detectors = self.detectors
        change = np.array([detectors[name].change for name in self._column]).reshape(-1, 2)
        lost, won = change[:, 0], change[:, 1]
        residuals = self._memory.residuals(lost, won)
        return _Learned(self._fitted, residuals, dict(self._column), lost, won, dict(self._counts))

    def learn(self, records: Sequence[Record]) -> None:
        """Learn records; after an exception the same records may be learned again."""
        if not records:
            return
        outcomes = outcomes_of(records)
        names = list(dict.fromkeys([*self._column, *outcomes.cores]))
        quality = np.full((len(records), len(names)), np.nan)
        quality[:, core_positions(tuple(names), outcomes.cores)] = outcomes.quality
        if not ((quality >= 0) & (quality <= 1) | np.isnan(quality)).all():
            raise ValueError("quality: must be from 0 to 1")
        vectors = embed_calls(outcomes.calls, self._fitted.embedder_)
        predicted = self._fitted.predict_embedded(outcomes.calls, vectors, names).quality
        for name in outcomes.cores:
            if name not in self._outcomes:
                self._outcomes[name] = RecentOutcomes(is_new=name not in self._fitted.cores_)
        numbers, new = self._numbered(records)
        memory = self._memory.with_rows(vectors[new], predicted[new], quality[new])
        for row in sorted(set(range(len(records))).difference(new)):
            memory = memory.corrected(numbers[row], vectors[row], predicted[row], quality[row])
        column = {name: position for position, name in enumerate(names)}
        # from here on all records have their numbers, so that a repetition corrects them
        self._memory, self._column, self.calls = memory, column, self.calls + len(new)
        self._remember(records, numbers)
        known = ~np.isnan(quality[new])
        self._counts.update(dict(zip(names, known.sum(axis=0).tolist(), strict=True)))
        for row, place in np.argwhere(~np.isnan(quality)).tolist():
            self._outcomes[names[place]].put(
                numbers[row], float(predicted[row, place]), float(quality[row, place]), records[row].id
            )

    def _numbered(self, records: Sequence[Record]) -> tuple[list[int], list[int]]:
        """Each record's number, and the rows of new calls."""
        numbers: list[int] = []
        new: list[int] = []
        now: dict[str, int] = {}
        for row, record in enumerate(records):
            identity = record.id
            number = None if identity is None else self._numbers.get(identity, now.get(identity))
            if number is None:
                number = self.calls + len(new)
                new.append(row)
                if identity is not None:
                    now[identity] = number
            numbers.append(number)
        return numbers, new

    def _remember(self, records: Sequence[Record], numbers: Sequence[int]) -> None:
        for record, number in zip(records, numbers, strict=True):
            if record.id is not None:
                self._numbers[record.id] = number
        for identity in list(islice(self._numbers, max(0, len(self._numbers) - REMEMBERED_CALLS))):
            del self._numbers[identity]
