"""Fitted objects <-> a JSON tree, arrays and indexes; no kind that is not listed here is written or made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import IO, Any

import numpy as np

from eccos_aios.predict.approximate import ApproximateIndex
from eccos_aios.predict.category import CategoryHead
from eccos_aios.predict.embed import GuardedEmbedder, NoEmbedder, TfidfEmbedder
from eccos_aios.predict.features import ShapeScale
from eccos_aios.predict.forest import Forest
from eccos_aios.predict.hashed import HashedEmbedder
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.minilm import MiniLmEmbedder
from eccos_aios.predict.outcomes import CorePriors
from eccos_aios.predict.retrieval import RetrievalPredictor
from eccos_aios.predict.ridge import LandmarkKernel
from eccos_aios.predict.trained import TrainedPredictor

_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        CategoryHead,
        CorePriors,
        Forest,
        GuardedEmbedder,
        HashedEmbedder,
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


class Writer:
    """Turns public attributes into JSON and arrays; what was written once is referred to."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.indexes: dict[str, ApproximateIndex] = {}
        self._places: dict[int, str] = {}

    def written(self, value: Any, place: str) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.ndarray):
            self.arrays[place] = value
            return {"array": place}
        if isinstance(value, ApproximateIndex):
            self.indexes[place] = value
            return {"index": place}
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


class Reader:
    """The way back; makes nothing but the kinds that are listed above."""

    def __init__(self, arrays: Mapping[str, Any], opened: Callable[[str], IO[bytes]]) -> None:
        self._arrays = arrays
        self._opened = opened
        self._made: dict[str, Any] = {}

    def read(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        if "array" in tree:
            return self._arrays[tree["array"]]
        if "index" in tree:
            with self._opened(tree["index"]) as file:
                return ApproximateIndex.read(file)
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
