"""Fitted objects <-> a JSON tree, arrays and indexes; only classes of `serialization` are written or made."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

import numpy as np

from eccos_aios.predict.approximate import ApproximateIndex
from eccos_aios.predict.npz import DTYPES, NpzFile
from eccos_aios.predict.serialization import (
    FORMS,
    class_name,
    persistence_of,
    registered_class,
    require,
)

_KINDS: dict[str, type] = {kind.__name__: kind for kind in FORMS}


class Writer:
    """Turns public attributes into JSON and arrays; an object that was written before is referred to."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.indexes: dict[str, ApproximateIndex] = {}
        self._places: dict[int, str] = {}

    def to_json(self, value: Any, place: str) -> Any:
        """The JSON form of a value; arrays and indexes in it are stored apart, and referred to by name."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.ndarray):
            return {"array": self._array(value, place)}
        if isinstance(value, ApproximateIndex):
            self.indexes[place] = value
            parts = {"centroids": value.centroids, "sizes": value.sizes, "probed": value.probed}
            return {
                "index": place,
                **{name: self.to_json(part, f"{place}.{name}") for name, part in parts.items()},
            }
        if isinstance(value, tuple):
            return {"tuple": [self.to_json(item, f"{place}.{number}") for number, item in enumerate(value)]}
        if id(value) in self._places:
            return {"same": self._places[id(value)]}
        persistence = persistence_of(type(value))
        if persistence is not None:
            self._places[id(value)] = place
            content, arrays = persistence.save(value)
            return {
                "registered": class_name(type(value)),
                "place": place,
                "content": dict(content),
                "arrays": {name: self._array(array, f"{place}.{name}") for name, array in arrays.items()},
            }
        kind = type(value).__name__
        if _KINDS.get(kind) is not type(value):
            raise TypeError(f"{place}: {kind} cannot be saved")
        self._places[id(value)] = place
        fields = {name: part for name, part in vars(value).items() if not name.startswith("_")}
        return {
            "kind": kind,
            "place": place,
            "fields": {name: self.to_json(part, f"{place}.{name}") for name, part in fields.items()},
        }

    def _array(self, value: Any, place: str) -> str:
        array = np.asarray(value)
        if array.dtype not in DTYPES:
            raise TypeError(f"{place}: an array of {array.dtype} cannot be saved")
        self.arrays[place] = array
        return place


class Reader:
    """The way back; makes only objects of known classes whose fields have the format of `serialization`."""

    def __init__(self, file: NpzFile) -> None:
        self._file = file
        self._arrays: dict[str, Any] = {}  # and indexes; each is read once, however often the tree names it
        self._made: dict[str, Any] = {}

    def predictor(self, tree: Any) -> Any:
        """The predictor that a tree describes, ready to use.

        Raises
        ------
        Exception
            Of any class, if the tree or an array is not what `Writer` makes.
        """
        predictor = self._read(tree)
        require(predictor)
        for made in self._made.values():
            if type(made) in FORMS and hasattr(made, "restore"):
                made.restore()
        return predictor

    def _read(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        if "array" in tree:
            return self._array(tree["array"])
        if "index" in tree:
            place = tree["index"]
            if place not in self._arrays:
                built_of = [self._read(tree[name]) for name in ("centroids", "sizes", "probed")]
                with self._file.opened(place) as (member, size):
                    self._arrays[place] = ApproximateIndex.read(member, size, *built_of)
            return self._arrays[place]
        if "tuple" in tree:
            return tuple(self._read(item) for item in tree["tuple"])
        if "same" in tree:
            return self._made[tree["same"]]
        if "registered" in tree:
            persistence = persistence_of(registered_class(tree["registered"]))
            assert persistence is not None
            arrays = {name: self._array(place) for name, place in tree["arrays"].items()}
            self._made[tree["place"]] = restored = persistence.restore(tree["content"], arrays)
            return restored
        kind = _KINDS[tree["kind"]]
        fields = {name: part for name, part in tree["fields"].items() if not name.startswith("_")}
        if is_dataclass(kind):
            given = {name: self._read(part) for name, part in fields.items()}
            with np.errstate(all="ignore"):  # a forest converts its arrays before they are checked
                return kind(**given)
        made: Any = object.__new__(kind)
        for name, part in fields.items():
            setattr(made, name, self._read(part))
        self._made[tree["place"]] = made
        return made

    def _array(self, place: str) -> Any:
        if place not in self._arrays:
            self._arrays[place] = self._file.array(place)
        return self._arrays[place]
