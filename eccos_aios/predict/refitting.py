"""Any fitted predictor as an `OnlinePredictor`, and when it is time to fit it again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice

from eccos_aios.history import Record
from eccos_aios.predict.base import EmbeddingPredictor, OnlinePredictor, Predictor, experience_of
from eccos_aios.predict.core_prior import CoreExperience
from eccos_aios.predict.drift import Drift
from eccos_aios.predict.estimates import Estimates
from eccos_aios.predict.online import REMEMBERED_CALLS, ResidualOnlinePredictor
from eccos_aios.predict.text import CallText

MIN_NEW = 20  # records that are worth a fit at all
NEW_SHARE = 0.25  # of what was fitted; all fits together then cost some five times the last one
SUSPECT_PATIENCE = 3.0  # times as many records may come while a core is suspected of having changed


def online_predictor(fitted: Predictor) -> OnlinePredictor:
    """A fitted predictor as one that goes on learning, as well as it can.

    One that is an `OnlinePredictor` itself is taken as it is. An `EmbeddingPredictor` learns by the residuals
    of similar calls and by drift detection. Any other learns at the next fit.
    """
    if isinstance(fitted, OnlinePredictor):
        return fitted
    if isinstance(fitted, EmbeddingPredictor):
        return ResidualOnlinePredictor(fitted)
    return RefittedPredictor(fitted)


class RefittedPredictor(OnlinePredictor):
    """A plain predictor that learns by being fitted again; new outcomes are only counted until then.

    Parameters
    ----------
    fitted : Predictor
    """

    def __init__(self, fitted: Predictor) -> None:
        self.fitted = fitted
        # Guards the counts; `predict` reads `fitted`, which is only ever replaced, without it.
        self._lock = threading.Lock()
        self._calls = 0
        self._ids: dict[str, None] = {}  # of the calls that are counted, the oldest first

    @property
    def calls(self) -> int:
        with self._lock:
            return self._calls

    @property
    def learns_online(self) -> bool:
        return False

    def experience(self, cores: Sequence[str]) -> CoreExperience | None:
        return experience_of(self.fitted, cores)

    def fit(self, history: Sequence[Record]) -> RefittedPredictor:
        self.rebase(self.fitted.fit(history), ())
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        return self.fitted.predict(calls, cores)

    def learn(self, records: Sequence[Record]) -> list[Drift]:
        with self._lock:
            self._count(records)
        return []

    def rebase(self, fitted: Predictor, since: Sequence[Record]) -> list[Drift]:
        with self._lock:
            self.fitted, self._calls = fitted, 0
            self._ids.clear()
            self._count(since)
        return []

    def _count(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.id is None or record.id not in self._ids:
                self._calls += 1
            if record.id is not None:
                self._ids[record.id] = None
        for identity in list(islice(self._ids, max(0, len(self._ids) - REMEMBERED_CALLS))):
            del self._ids[identity]


def refit_is_due(new: int, fitted: int, *, suspecting: bool = False) -> bool:
    """Whether `new` records are worth another fit of a predictor that was fitted on `fitted` records.

    Parameters
    ----------
    new, fitted : int
        Records; a call that was corrected counts once.
    suspecting : bool
        Whether a core may have changed. A fit would average what it delivered before and after, and destroy
        the evidence; so the fit waits, but not for ever.
    """
    due = max(MIN_NEW, NEW_SHARE * fitted)
    return new >= (SUSPECT_PATIENCE * due if suspecting else due)
