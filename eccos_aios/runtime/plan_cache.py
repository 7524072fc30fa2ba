"""PlanCache: fitted plans as arrays and JSON, where a predictor is cached, so that a start need not fit them.

Three files: ``<history>.plans.json`` holds the plans and the numbers, and names the fit that the other two,
``<history>.plans.npz`` and ``<history>.reached.npz``, must be of. Damaged or mixed files are fitted again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from eccos_aios import plans, verify
from eccos_aios.atomic_file import replaced_file
from eccos_aios.errors import HistoryError
from eccos_aios.history import HistoryStore, StoreMark
from eccos_aios.history.schema import is_store
from eccos_aios.plans import AnswerPlan, PlanPredictor
from eccos_aios.predict import PredictorSpec, TrainedPredictor
from eccos_aios.predict.persistence import (
    MIN_COVERED,
    cache_file,
    is_persistent,
    load_predictor,
    predictor_key,
    save_predictor,
)
from eccos_aios.verify import CallHistory

logger = logging.getLogger(__name__)

MAX_BYTES = 2**20  # of the JSON file


class PlanCache:
    """The fitted plans of one history, one specification and one version of the code.

    Parameters
    ----------
    history : Path
    spec : PredictorSpec
    unfitted : PlanPredictor
        What is wanted.
    """

    def __init__(self, history: Path, spec: PredictorSpec, unfitted: PlanPredictor) -> None:
        self._history = history
        self._unfitted = unfitted
        suffixes = (".plans.json", ".plans.npz", ".reached.npz")
        self._file, self._plans, self._reached = (cache_file(history, suffix) for suffix in suffixes)
        self._savable = is_persistent(spec)
        cores = [(core.name, core.price and (core.price.input, core.price.output)) for core in unfitted.cores]
        parts = (predictor_key(history, spec, unfitted.predictor), unfitted.mode, repr(cores), _code())
        self._key = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def found(self) -> PlanPredictor | None:
        """The fitted plans; None if there are none, or of something else, or the store has outgrown them."""
        if not self._savable or not self._file.is_file() or self._file.stat().st_size > MAX_BYTES:
            return None
        try:
            content = json.loads(self._file.read_bytes())
            if content["key"] != self._key or not self._covers(content["mark"], content["records"]):
                return None
            return self._restored(content)
        except (HistoryError, ArithmeticError, LookupError, TypeError, ValueError, OSError) as fault:
            logger.info("fitting plans again: %s", fault)
            return None

    def save(self, fitted: PlanPredictor, mark: StoreMark | None, records: int) -> None:
        """Save fitted plans; where they cannot be, they are fitted at the next start."""
        if not self._savable:
            return
        fit = uuid4().hex
        content = {
            "key": self._key,
            "fit": fit,
            "mark": mark and asdict(mark),
            "records": records,
            "plans": [plan.to_dict() for plan in fitted.plans_],
            "explored": [plan.to_dict() for plan in fitted.explored_],
            "calls": {
                "right": list(fitted.calls_.right.items()),
                "overall": fitted.calls_.overall,
            },
            "numbers": {name: value for name, value in vars(fitted).items() if _is_number(name, value)},
            "has_reached": fitted.reached_ is not None,
        }
        try:
            save_predictor(fitted.predictor_, self._plans, fit)
            if fitted.reached_ is not None:
                save_predictor(fitted.reached_, self._reached, fit)
            with replaced_file(self._file) as file:
                file.write(json.dumps(content).encode())
        except (OSError, TypeError, ValueError) as error:
            logger.warning("the fitted plans cannot be cached: %s: %s", self._file, error)

    def _covers(self, mark: dict[str, Any] | None, records: int) -> bool:
        if not is_store(self._history):
            return True
        if mark is None:
            return False
        with HistoryStore(self._history, read_only=True) as store:
            at = StoreMark(**mark)
            return store.holds(at) and records >= MIN_COVERED * (records + store.count_since(at))

    def _restored(self, content: dict[str, Any]) -> PlanPredictor:
        fitted, calls = self._unfitted, content["calls"]
        for name, value in content["numbers"].items():
            if not _is_number(name, value):
                raise ValueError(f"{name}: {value!r}: is no fitted number")
            setattr(fitted, name, value)
        fitted.plans_, fitted.explored_ = (
            tuple(AnswerPlan(plan["kind"], tuple(plan["cores"]), plan.get("else")) for plan in content[name])
            for name in ("plans", "explored")
        )
        fitted.calls_ = CallHistory({name: float(share) for name, share in calls["right"]}, calls["overall"])
        fitted.predictor_ = load_predictor(self._plans, content["fit"])
        reached = load_predictor(self._reached, content["fit"]) if content["has_reached"] else None
        if reached is not None and not isinstance(reached, TrainedPredictor):
            raise TypeError(f"{self._reached}: holds a {type(reached).__name__}, not a TrainedPredictor")
        fitted.reached_ = reached
        fitted.restore()
        return fitted


def _is_number(name: str, value: object) -> bool:
    return name.endswith("_") and isinstance(value, float)


def _code() -> str:
    """Digest of the sources that decide what is fitted."""
    digest = hashlib.sha256()
    for package in (plans, verify):
        for source in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
