"""Planner: the plans of several cores that a history teaches, fitted beside the predictor."""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from eccos_aios.core import Core
from eccos_aios.history import HistoryStore, Record, StoreMark, read_history
from eccos_aios.history.schema import is_store
from eccos_aios.plans import Mode, PlanEstimates, PlanPredictor
from eccos_aios.predict import CallText, PredictorSpec
from eccos_aios.predict.dataset import sample_of
from eccos_aios.runtime.plan_cache import PlanCache
from eccos_aios.verify.recorded import has_answers

logger = logging.getLogger(__name__)

LOOKED_AT = 1000  # records of a store in which answers are looked for
CHUNK_BYTES = 2**20
MARKS = (b'"prediction"', b'"answer_passes"')  # of a line that holds an answer


class Planner:
    """Estimates calls under plans of several cores; knows none where the history holds no answers.

    `fit` may be called again at any time, by one thread at a time; any thread may call `estimate`, and sees
    the old fit or the new one as a whole.

    Parameters
    ----------
    cores : sequence of Core
        That plans may ask.
    mode : str
        ``off``, ``check`` or ``agree``.
    spec : PredictorSpec
        The predictor that the plans' outcomes are learned by.
    """

    def __init__(self, cores: Sequence[Core], mode: Mode, spec: PredictorSpec) -> None:
        self.cores = tuple(cores)
        self.mode = mode
        self.spec = spec
        self._fitted: PlanPredictor | None = None  # replaced as a whole

    def to_dict(self) -> dict[str, Any]:
        """Cores and mode, ready for JSON."""
        return {"cores": [core.model_dump(mode="json") for core in self.cores], "mode": self.mode}

    @classmethod
    def from_dict(cls, written: dict[str, Any], spec: PredictorSpec) -> Planner:
        """The planner of `to_dict`, not fitted."""
        return cls([Core.model_validate(core) for core in written["cores"]], written["mode"], spec)

    def fit(self, history: Path, *, anew: bool = False, until: StoreMark | None = None) -> None:
        """Learn plans from a history, or load those cached beside it; none if it holds no answers.

        Parameters
        ----------
        history : Path
        anew : bool
            Whether to fit whatever the cache holds.
        until : StoreMark, optional
            Of a store, what was in it then. The plans and a predictor of the same records share what they
            make of a call. Default: what is in it now.

        Raises
        ------
        HistoryError
            The history cannot be read.
        """
        if self.mode == "off" or len(self.cores) < 2 or not _holds_answers(history):
            return
        began_s = time.perf_counter()
        fitted = fitted_plans(history, self.cores, self.mode, self.spec, anew=anew, until=until)
        staged = [plan.name for plan in fitted.plans_ if plan.kind != "single"]
        self._fitted = fitted if staged else None
        seconds = time.perf_counter() - began_s
        logger.info("plans of several cores, after %.1f s: %s", seconds, ", ".join(staged) or "none")

    @property
    def has_plans(self) -> bool:
        """Whether plans of several cores are known."""
        return self._fitted is not None

    def expects_call(self) -> bool:
        """Whether the history says that an answer without a tool call is wrong where tools are offered."""
        fitted = self._fitted
        return fitted is not None and fitted.calls_.expects_call(None)

    def estimate(self, calls: Sequence[CallText]) -> PlanEstimates | None:
        """Estimates under every plan; None where only plans of one core are known."""
        fitted = self._fitted
        return None if fitted is None else fitted.estimate_plans(calls)


def fitted_plans(
    history: Path,
    cores: Sequence[Core],
    mode: Mode,
    spec: PredictorSpec,
    *,
    anew: bool = False,
    until: StoreMark | None = None,
) -> PlanPredictor:
    """The plans that a history teaches: cached beside it, else fitted and cached.

    Parameters
    ----------
    history : Path
    cores : sequence of Core
        That plans may ask.
    mode : str
        ``check`` or ``agree``.
    spec : PredictorSpec
        The predictor that the plans' outcomes are learned by.
    anew : bool
        Whether to fit whatever the cache holds.
    until : StoreMark, optional
        As for `Planner.fit`.

    Raises
    ------
    HistoryError
        The history cannot be read.
    """
    unfitted = PlanPredictor(cores, mode, spec.make())
    cache = PlanCache(history, spec, unfitted)
    fitted = None if anew else cache.found()
    return _fit(unfitted, history, cache, until) if fitted is None else fitted


def _fit(unfitted: PlanPredictor, history: Path, cache: PlanCache, until: StoreMark | None) -> PlanPredictor:
    if not is_store(history):
        records: Sequence[Record] = read_history(history)
        fitted = unfitted.fit(sample_of(records))
        cache.save(fitted, None, len(records))
        return fitted
    with HistoryStore(history, read_only=True) as store:
        mark = store.mark() if until is None else until
        records = store.records_until(mark)
        fitted = unfitted.fit(sample_of(records))
    cache.save(fitted, mark, len(records))
    return fitted


def _holds_answers(history: Path) -> bool:
    """Whether a history may hold recorded answers; cheap, as most hold none."""
    if not history.exists():
        return False
    if is_store(history):
        with HistoryStore(history, read_only=True) as store:
            return any(map(has_answers, islice(store.records(), LOOKED_AT)))
    open_file = gzip.open if history.suffix == ".gz" else open
    before = b""
    with open_file(history, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if any(mark in before + chunk for mark in MARKS):
                return True
            before = chunk[-len(MARKS[1]) :]
    return False
