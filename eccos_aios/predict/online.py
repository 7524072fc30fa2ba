"""OnlinePredictor: goes on learning from each outcome, between one fit and the next."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from eccos_aios.history import Change, Record
from eccos_aios.predict.base import Predictor
from eccos_aios.predict.dataset import core_positions, outcomes_of
from eccos_aios.predict.drift import Drift, DriftDetector
from eccos_aios.predict.embedders.base import Embedder
from eccos_aios.predict.estimates import Estimates, FloatArray
from eccos_aios.predict.features import embed_calls
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.recent_outcomes import OutcomeLog
from eccos_aios.predict.residual_memory import LikeCalls, Recent, changed
from eccos_aios.predict.text import CallText

LEAST_NEW = 20  # records that are worth a fit at all
NEW_SHARE = 0.25  # of what was fitted; all fits together then cost some five times the last one

REMEMBERED_CALLS = 65_536  # since a fit, by their ids; a correction of an older one counts as another call

SUSPECT_PATIENCE = 3.0  # times as many records may come while a core is suspected of having changed


@dataclass(frozen=True)
class _Learned:
    """What a call of `predict` reads; replaced as a whole.

    Attributes
    ----------
    fitted : HybridPredictor
    like : LikeCalls
        The latest outcomes as they are asked.
    column : dict of str to int
        By core, its column in the arrays.
    lost, won : ndarray of shape (cores,)
        How the cores changed, see `DriftDetector.change`.
    """

    fitted: HybridPredictor
    like: LikeCalls
    column: dict[str, int]
    lost: FloatArray
    won: FloatArray


class OnlinePredictor(Predictor):
    """A fitted predictor and the outcomes that came after: each counts as soon as it is known.

    On top of the fit come the residuals of like calls (`Recent`) and, for every core, how far it has moved
    from what was learned of it (`DriftDetector`). `rebase` puts a newer fit underneath, at once for every
    reader. Token counts follow at the next fit. Any thread may call any method.

    A call counts once, told by its record's id: what is learned of it again takes the place of what was
    learned before, in the order in which it first came. A record without an id is a call of its own.

    Parameters
    ----------
    fitted : HybridPredictor
    """

    def __init__(self, fitted: HybridPredictor) -> None:
        # Guards what came since the fit, and the replacing of what is learned; `predict` reads without it.
        self._lock = threading.Lock()
        self._since = _SinceFit(fitted)
        self._reported: set[str] = set()
        self._learned = self._since.learned()

    @property
    def fitted(self) -> HybridPredictor:
        """The fit that lies underneath."""
        return self._learned.fitted

    @property
    def embedder(self) -> Embedder:
        """Of the fit."""
        return self._learned.fitted.embedder_

    @property
    def calls(self) -> int:
        """Different calls that were learned since the fit."""
        with self._lock:
            return self._since.calls

    @property
    def shifts(self) -> dict[str, float]:
        """By core: points of quality that it gives beyond what the last fit learned of it."""
        with self._lock:
            return {core: detector.shift for core, detector in self._since.detectors.items()}

    @property
    def changes(self) -> list[Change]:
        """The cores that have changed since the fit, as far as is known by now, for the next fit."""
        with self._lock:
            drifts = [self._since.drift(name) for name in sorted(self._since.noticed)]
        return [Change(d.core, d.since, d.lost, d.won) for d in drifts if d.since is not None]

    @property
    def suspecting(self) -> bool:
        """Whether a core may have changed, without certainty yet."""
        with self._lock:
            return any(each.suspected and not each.noticed for each in self._since.detectors.values())

    def fit(self, history: Sequence[Record]) -> OnlinePredictor:
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
        """Take outcomes into account; returns the cores that are found to have changed just now.

        Parameters
        ----------
        records : sequence of Record
            In the order in which they happened. One whose id was learned before is a correction.

        Raises
        ------
        ValueError
            A quality is not between 0 and 1; nothing of these records is learned.
        """
        if not records:
            return []
        with self._lock:
            self._since.learn(records)
            self._learned = self._since.learned()
            return self._news()

    def rebase(self, fitted: HybridPredictor, since: Sequence[Record]) -> list[Drift]:
        """Put another fit underneath.

        Parameters
        ----------
        fitted : HybridPredictor
        since : sequence of Record
            What it has not seen.

        Raises
        ------
        ValueError
            As `learn`; the fit before then stays.
        """
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
        # one that is in doubt again for an outcome or two is no news afterwards
        doubted = {name for name in self._reported if self._since.detectors[name].suspected}
        self._reported = noticed | doubted
        return [self._since.drift(name) for name in sorted(news)]


class _SinceFit:
    """What came since a fit: the outcomes of every call, by a number that the call has from the first on.

    Memory is bounded, however long there is no new fit: by `recent.CAPACITY` records, the outcomes that an
    `OutcomeLog` keeps of each core, and `REMEMBERED_CALLS` ids.
    """

    def __init__(self, fitted: HybridPredictor) -> None:
        self._fitted = fitted
        self._recent = Recent.none(embed_calls([CallText("", 0.0)], fitted.embedder_).shape[1])
        self._logs: dict[str, OutcomeLog] = {}
        self._numbers: dict[str, int] = {}  # by id, the oldest first
        self._column: dict[str, int] = {}
        self.calls = 0

    @property
    def detectors(self) -> dict[str, DriftDetector]:
        return {core: log.detector for core, log in self._logs.items()}

    @property
    def noticed(self) -> set[str]:
        return {core for core, detector in self.detectors.items() if detector.noticed}

    def drift(self, core: str) -> Drift:
        detector = self._logs[core].detector
        return Drift(core, detector.shift, detector.outcomes_since, detector.since, *detector.change)

    def learned(self) -> _Learned:
        detectors = self.detectors
        change = np.array([detectors[name].change for name in self._column]).reshape(-1, 2)
        lost, won = change[:, 0], change[:, 1]
        like = self._recent.residual(lost, won)
        return _Learned(self._fitted, like, dict(self._column), lost, won)

    def learn(self, records: Sequence[Record]) -> None:
        """Take records in; what raises leaves a state from which the same may be taken in once more."""
        if not records:
            return
        outcomes = outcomes_of(records)
        names = list(dict.fromkeys([*self._column, *outcomes.cores]))
        quality = np.full((len(records), len(names)), np.nan)
        quality[:, core_positions(names, outcomes.cores)] = outcomes.quality
        if not ((quality >= 0) & (quality <= 1) | np.isnan(quality)).all():
            raise ValueError("quality: must be from 0 to 1")
        vectors = embed_calls(outcomes.calls, self._fitted.embedder_)
        predicted = self._fitted.predict_embedded(outcomes.calls, vectors, names).quality
        for name in outcomes.cores:
            if name not in self._logs:
                self._logs[name] = OutcomeLog(is_new=name not in self._fitted.trained.cores_)
        numbers, new = self._numbered(records)
        recent = self._recent.with_rows(vectors[new], predicted[new], quality[new])
        for row in sorted(set(range(len(records))).difference(new)):
            recent = recent.corrected(numbers[row], vectors[row], predicted[row], quality[row])
        column = {name: position for position, name in enumerate(names)}
        # from here on all of the records have their numbers, so that a repetition corrects what is there
        self._recent, self._column, self.calls = recent, column, self.calls + len(new)
        self._remember(records, numbers)
        for row, place in np.argwhere(~np.isnan(quality)).tolist():
            self._logs[names[place]].put(
                numbers[row], float(predicted[row, place]), float(quality[row, place]), records[row].id
            )

    def _numbered(self, records: Sequence[Record]) -> tuple[list[int], list[int]]:
        """Each record's number, and the rows of those whose call is new."""
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


def refit_is_due(new: int, fitted: int, *, suspecting: bool = False) -> bool:
    """Whether so many new records are worth another fit of what so many taught.

    Parameters
    ----------
    new, fitted : int
        Records; a call that was corrected is one.
    suspecting : bool
        Whether a core may have changed. A fit would mix what it gave before and after, and the evidence
        would be lost; so it waits, but not for ever.
    """
    due = max(LEAST_NEW, NEW_SHARE * fitted)
    return new >= (SUSPECT_PATIENCE * due if suspecting else due)
