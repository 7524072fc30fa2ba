"""Saving a fitted predictor as arrays and JSON, so that loading a file can never run code."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import Record, read_history
from eccos_aios.predict.category import CategoryHead
from eccos_aios.predict.embed import GuardedEmbedder, NoEmbedder, TfidfEmbedder
from eccos_aios.predict.features import ShapeScale
from eccos_aios.predict.forest import Forest
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.minilm import MiniLmEmbedder
from eccos_aios.predict.outcomes import CorePriors
from eccos_aios.predict.predictor import Predictor
from eccos_aios.predict.retrieval import RetrievalPredictor
from eccos_aios.predict.ridge import LandmarkKernel
from eccos_aios.predict.trained import TrainedPredictor

FORMAT = 1  # of the file; one that says otherwise is not read
SUFFIX = ".predictor.npz"

_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        CategoryHead,
        CorePriors,
        Forest,
        GuardedEmbedder,
        HybridPredictor,
        LandmarkKernel,
        MiniLmEmbedder,
        NoEmbedder,
        RetrievalPredictor,
        ShapeScale,
        TfidfEmbedder,
        TrainedPredictor,
    )
}
_PREDICTORS = (HybridPredictor, RetrievalPredictor, TrainedPredictor)

log = logging.getLogger(__name__)


def save_predictor(predictor: Predictor, path: str | Path, key: str = "") -> None:
    """Write a fitted predictor; a reader never sees half of it.

    Parameters
    ----------
    predictor : HybridPredictor, RetrievalPredictor or TrainedPredictor
        With an embedder of this package.
    path : str or Path
    key : str
        What it was fitted on, as `predictor_key` tells it.

    Raises
    ------
    TypeError
        Something in it is none of this package's kinds; names it.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    writer = _Writer()
    tree = writer.written(predictor, "predictor")
    head = json.dumps({"format": FORMAT, "key": key, "predictor": tree}, allow_nan=True).encode()
    arrays = {"head": np.frombuffer(head, dtype=np.uint8), **writer.arrays}
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_predictor(path: str | Path, key: str | None = None) -> Predictor:
    """Read what `save_predictor` wrote.

    Parameters
    ----------
    path : str or Path
    key : str, optional
        What it must have been fitted on. None: anything.

    Raises
    ------
    HistoryError
        The file cannot be read, is of another format, or was fitted on something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(bytes(file["head"]))
            if head["format"] != FORMAT:
                raise HistoryError(str(path), "format", head["format"], f"this version reads format {FORMAT}")
            if key is not None and head["key"] != key:
                raise HistoryError(str(path), "key", head["key"], "was fitted on another history")
            predictor = _Reader(dict(file)).read(head["predictor"])
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HistoryError(str(path), "", ABSENT, f"is not a saved predictor: {reason}") from error
    if not isinstance(predictor, _PREDICTORS):
        raise HistoryError(str(path), "predictor", type(predictor).__name__, "is not a predictor")
    return predictor


def cached_predictor(
    history: str | Path,
    read: Callable[[Path], Sequence[Record]] = read_history,
    make: Callable[[], Predictor] = HybridPredictor,
) -> Predictor:
    """The predictor fitted on a history file: from the cache next to it, else fitted and cached.

    The cache is ``<history>.predictor.npz``. It holds for one content of the history and one version of
    this package's code; a folder that cannot be written costs the next start a fit, and a warning.

    Parameters
    ----------
    history : str or Path
    read : callable
        Reads the records where they must be fitted.
    make : callable
        Makes the predictor that is fitted.

    Raises
    ------
    HistoryError
        The history cannot be read, or a record in it is wrong.
    """
    history = Path(history)
    cache = history.with_name(history.name + SUFFIX)
    unfitted = make()
    key = predictor_key(history, unfitted)
    if cache.is_file():
        try:
            return load_predictor(cache, key)
        except HistoryError as fault:
            log.info("fitting anew: %s", fault)
    predictor = unfitted.fit(read(history))
    try:
        save_predictor(predictor, cache, key)
    except OSError as error:
        log.warning("the fitted predictor cannot be cached: %s: %s", cache, error.strerror)
    return predictor


def predictor_key(history: Path, predictor: Predictor) -> str:
    """Digest of a history's content, of the predictor's kind and parameters, and of the predicting code.

    Raises
    ------
    HistoryError
        The history cannot be read.
    """
    try:
        content = history.read_bytes()
    except OSError as error:
        raise HistoryError(str(history), "", ABSENT, f"cannot be read: {error.strerror}") from error
    parameters = json.dumps(_Writer().written(predictor, ""), sort_keys=True)
    digest = hashlib.sha256()
    for part in (hashlib.sha256(content).hexdigest(), parameters, _code()):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _code() -> str:
    """Digest of this folder's sources: what they compute may change without a new version's number."""
    digest = hashlib.sha256(f"{FORMAT}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


class _Writer:
    """Turns public attributes into JSON and arrays; what was written once is referred to."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self._places: dict[int, str] = {}

    def written(self, value: Any, place: str) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.ndarray):
            self.arrays[place] = value
            return {"array": place}
        if isinstance(value, tuple):
            return {"tuple": [self.written(item, f"{place}.{number}") for number, item in enumerate(value)]}
        if id(value) in self._places:
            return {"same": self._places[id(value)]}
        kind = type(value).__name__
        if _KINDS.get(kind) is not type(value):
            raise TypeError(f"{place}: {kind} cannot be saved")
        self._places[id(value)] = place
        fields = {name: part for name, part in vars(value).items() if not name.startswith("_")}
        return {
            "kind": kind,
            "place": place,
            "fields": {name: self.written(part, f"{place}.{name}") for name, part in fields.items()},
        }


class _Reader:
    """The way back; makes nothing but the kinds that are listed above."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._arrays = arrays
        self._made: dict[str, Any] = {}

    def read(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        if "array" in tree:
            return self._arrays[tree["array"]]
        if "tuple" in tree:
            return tuple(self.read(item) for item in tree["tuple"])
        if "same" in tree:
            return self._made[tree["same"]]
        kind = _KINDS[tree["kind"]]
        fields = {name: part for name, part in tree["fields"].items() if not name.startswith("_")}
        if is_dataclass(kind):
            return kind(**{name: self.read(part) for name, part in fields.items()})
        made: Any = object.__new__(kind)
        self._made[tree["place"]] = made
        for name, part in fields.items():
            setattr(made, name, self.read(part))
        if hasattr(made, "restore"):
            made.restore()
        return made
