"""Planner: the plans of several cores that a history teaches, fitted beside the predictor."""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from eccos_aios.core import Core
from eccos_aios.history import HistoryStore, Record, StoreMark, indexed_history, read_history
from eccos_aios.history.schema import is_store
from eccos_aios.plans import AnswerPlan, Mode, PlanEstimates, PlanPredictor
from eccos_aios.plans.answers import recorded_answers
from eccos_aios.plans.selection import plans_to_explore
from eccos_aios.predict import CallText, PredictorSpec
from eccos_aios.predict.dataset import SAMPLE, sample_of
from eccos_aios.runtime.plan_cache import PlanCache

logger = logging.getLogger(__name__)

MEANS_OF = 2_000  # records of a history without answers that the default plans are chosen by
CHUNK_BYTES = 2**20
MARKS = (b'"prediction"', b'"answer_passes"')  # of a line that holds an answer


@dataclass(frozen=True)
class _Learned:
    """What a fit has found.

    Attributes
    ----------
    fitted : PlanPredictor or None
        None where only plans of one core are known.
    explored : tuple of AnswerPlan
        Of several cores; too little is known of them.
    """

    fitted: PlanPredictor | None = None
    explored: tuple[AnswerPlan, ...] = ()


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
        self._learned = _Learned()  # replaced as a whole

    def to_dict(self) -> dict[str, Any]:
        """Cores and mode, ready for JSON."""
        return {"cores": [core.model_dump(mode="json") for core in self.cores], "mode": self.mode}

    @classmethod
    def from_dict(cls, written: dict[str, Any], spec: PredictorSpec) -> Planner:
        """The planner of `to_dict`, not fitted."""
        return cls([Core.model_validate(core) for core in written["cores"]], written["mode"], spec)

    def fit(self, history: Path, *, anew: bool = False, until: StoreMark | None = None) -> None:
        """Learn plans from a history, or load those cached beside it.

        A history without answers teaches none; its cores' means tell which plans are worth exploring.

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
        if self.mode == "off" or len(self.cores) < 2 or not history.exists():
            return
        if not _holds_answers(history):
            self._learned = _Learned(explored=_default_plans(history, self.cores, self.mode, until))
            return
        began_s = time.perf_counter()
        fitted = fitted_plans(history, self.cores, self.mode, self.spec, anew=anew, until=until)
        staged = [plan.name for plan in fitted.plans_ if plan.kind != "single"]
        self._learned = _Learned(fitted if staged else None, fitted.explored_)
        seconds = time.perf_counter() - began_s
        logger.info("plans of several cores, after %.1f s: %s", seconds, ", ".join(staged) or "none")

    @property
    def has_plans(self) -> bool:
        """Whether plans of several cores are known."""
        return self._learned.fitted is not None

    @property
    def to_explore(self) -> tuple[AnswerPlan, ...]:
        """Plans of several cores of which too little is known; the same object until the next fit."""
        return self._learned.explored

    def expects_call(self) -> bool:
        """Whether the history says that an answer without a tool call is wrong where tools are offered."""
        fitted = self._learned.fitted
        return fitted is not None and fitted.calls_.expects_call(None)

    def estimate(self, calls: Sequence[CallText]) -> PlanEstimates | None:
        """Estimates under every plan; None where only plans of one core are known."""
        fitted = self._learned.fitted
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
    with records_of(history, until) as (records, mark):
        fitted = unfitted.fit(sample_of(records))
    cache.save(fitted, mark, len(records))
    return fitted


@contextmanager
def records_of(
    history: Path, until: StoreMark | None, read: Callable[[Path], Sequence[Record]] = read_history
) -> Iterator[tuple[Sequence[Record], StoreMark | None]]:
    """The records of a history; of a store, those at a mark, by default as it is now. `read` reads a file."""
    if not is_store(history):
        yield read(history), None
        return
    with HistoryStore(history, read_only=True) as store:
        mark = store.mark() if until is None else until
        yield store.records_until(mark), mark


def _default_plans(
    history: Path, cores: Sequence[Core], mode: Mode, until: StoreMark | None
) -> tuple[AnswerPlan, ...]:
    """The plans to explore where no answers are recorded: by the means of the cores over some records."""
    with records_of(history, until, indexed_history) as (records, _):
        read = min(len(records), SAMPLE)  # a kernel's start must not wait for a long history
        some = list(islice(records, 0, read, max(1, read // MEANS_OF)))
    return plans_to_explore(recorded_answers(some, cores), mode)


def _holds_answers(history: Path) -> bool:
    """Whether a history may hold recorded answers; cheap, as most hold none."""
    if not history.exists():
        return False
    if is_store(history):
        with HistoryStore(history, read_only=True) as store:
            return store.holds_answers()
    open_file = gzip.open if history.suffix == ".gz" else open
    before = b""
    with open_file(history, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if any(mark in before + chunk for mark in MARKS):
                return True
            before = chunk[-len(MARKS[1]) :]
    return False
