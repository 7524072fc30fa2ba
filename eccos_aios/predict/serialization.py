"""The format of saved predictors: for every class its fields, with types, shapes and ranges.

A new fitted attribute needs an entry here; what has none is neither saved nor loaded. Classes of other
packages register how they are saved (`register_persistence`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.approximate import ApproximateIndex
from eccos_aios.predict.base import Predictor
from eccos_aios.predict.category import CategoryHead
from eccos_aios.predict.dataset import CorePriors
from eccos_aios.predict.embedders.base import Embedder, GuardedEmbedder, NoEmbedder
from eccos_aios.predict.embedders.hashed import HashedEmbedder
from eccos_aios.predict.embedders.minilm import MiniLmEmbedder
from eccos_aios.predict.embedders.tfidf import TfidfEmbedder
from eccos_aios.predict.features import ShapeScale
from eccos_aios.predict.forest import Forest
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.kernel_ridge import LandmarkKernel
from eccos_aios.predict.retrieval import RetrievalPredictor
from eccos_aios.predict.terms import BUCKETS
from eccos_aios.predict.text_free import CLASSES, SHAPES
from eccos_aios.predict.trained import TrainedPredictor
from eccos_aios.predict.winners_curse import Calibration

LARGEST = 1e9  # absolute value of any number; sums of their products are no overflow in single precision
PIECE = 65_536  # rows that are checked together
PREDICTORS = (HybridPredictor, RetrievalPredictor, TrainedPredictor)

State = tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]]
"""A fitted object as a JSON object and arrays of unsigned bytes, i4, i8, f2, f4 or f8."""

T = TypeVar("T")

_LINEAR = re.compile(r"(?:(\d+)\*)?([a-z]+)(?:\+(\d+))?")


@dataclass(frozen=True)
class Persistence:
    """How objects of a class outside this package are saved and restored."""

    save: Callable[[Any], State]
    restore: Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]]], Any]


# By class and, for a file that names one, by ``module:Class``. A file never causes an import: its class must
# have been registered by code that the user runs.
_PERSISTENCE: dict[type, Persistence] = {}
_REGISTERED: dict[str, type] = {}


def register_persistence(
    kind: type[T],
    save: Callable[[T], State],
    restore: Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]]], T],
) -> None:
    """Let a predictor or an embedder of your own be saved beside the history.

    Otherwise it is fitted at every start, and in the kernel's process.

    Parameters
    ----------
    kind : type
        The class; not its subclasses.
    save : callable
        Takes a fitted object, returns a JSON object and arrays by name.
    restore : callable
        Takes the same two, returns the object ready to use. The file may be damaged or forged: check what you
        read; whatever is raised has the predictor fitted again.
    """
    _PERSISTENCE[kind] = Persistence(save, restore)
    _REGISTERED[class_name(kind)] = kind


def persistence_of(kind: type) -> Persistence | None:
    """How objects of a class are saved; None if it has not been registered."""
    return _PERSISTENCE.get(kind)


def registered_class(name: Any) -> type:
    """The class that was registered under a `class_name`; KeyError: none was."""
    return _REGISTERED[name]


def class_name(kind: type) -> str:
    """``module:Class``."""
    return f"{kind.__module__}:{kind.__qualname__}"


def can_be_saved(value: Any) -> bool:
    """Whether a predictor, which need not be fitted, can be saved with all that it consists of."""
    if value is None or isinstance(value, (bool, int, float, str)) or type(value) in _PERSISTENCE:
        return True
    if type(value) not in FORMS:
        return False
    return all(can_be_saved(part) for name, part in vars(value).items() if not name.startswith("_"))


class Sizes:
    """The lengths that arrays share, by name, as they are found; and the names of the cores."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.names: tuple[str, ...] | None = None

    def __getitem__(self, expression: str) -> int:
        times, name, more = self._parts(expression)
        return times * self._known[name] + more

    def agree(self, expression: str | int, length: int, place: str) -> None:
        """Check a length against an expression such as ``2*name+1``; a new name takes its value from it.

        Raises
        ------
        ValueError
            They differ.
        """
        if isinstance(expression, int):
            wanted = expression
        else:
            times, name, more = self._parts(expression)
            wanted = times * self._known.setdefault(name, max(length - more, 0) // times) + more
        if length != wanted:
            raise ValueError(f"{place}: has {length} where {expression} is {wanted}")

    @staticmethod
    def _parts(expression: str) -> tuple[int, str, int]:
        found = _LINEAR.fullmatch(expression)
        if found is None:
            raise KeyError(expression)
        return int(found[1] or 1), found[2], int(found[3] or 0)


Check = Callable[[Any, str, Sizes], None]
Form = Mapping[str, Check]


def require(predictor: Any) -> None:
    """Check a predictor that was read from a file.

    Raises
    ------
    ValueError
        A field is absent, unknown, of the wrong type or shape, or out of range; names its place.
    """
    if type(predictor) in _PERSISTENCE and isinstance(predictor, Predictor):
        return  # `restore` has checked it
    if not isinstance(predictor, PREDICTORS):
        raise ValueError(f"is not a predictor but {type(predictor).__name__}")
    _made(*PREDICTORS)(predictor, "predictor", Sizes())


def _array(
    *shape: str | int,
    of: str,
    least: float = -LARGEST,
    most: float | str = LARGEST,
    unknown: bool = False,
    never: bool = False,
    some: bool = False,
) -> Check:
    """An array.

    Parameters
    ----------
    shape : str or int
        Lengths, as `Sizes.agree` takes them.
    of : str
        Allowed types, as numpy names them: ``f4 f8``.
    least, most : float or str
        Inclusive bounds of the numbers; a string is a length that they must be below.
    unknown, never : bool
        Whether NaN (unknown) and minus infinity (a log probability of 0) are allowed.
    some : bool
        Whether it must not be empty.
    """
    types = {np.dtype(each) for each in of.split()}

    def check(value: Any, place: str, sizes: Sizes) -> None:
        if not isinstance(value, np.ndarray) or value.dtype not in types or value.ndim != len(shape):
            raise ValueError(f"{place}: must be an array of {of} with {len(shape)} dimensions")
        for expression, length in zip(shape, value.shape, strict=True):
            sizes.agree(expression, length, place)
        if some and not value.size:
            raise ValueError(f"{place}: is empty")
        highest = sizes[most] - 1 if isinstance(most, str) else most
        if value.dtype.kind == "f":
            highest = min(highest, float(np.finfo(value.dtype).max))
        # in pieces, so that the masks for a million records need no memory
        for start in range(0, len(value), PIECE):
            part = value[start : start + PIECE]
            good = (part >= max(least, -highest)) & (part <= highest)
            if unknown:
                good |= np.isnan(part)
            if never:
                good |= np.isneginf(part)
            if not good.all():
                raise ValueError(f"{place}: holds a number that is not from {least:g} to {highest:g}")
        if never and not np.isfinite(value).any():
            raise ValueError(f"{place}: has no finite number")

    return check


def _number(least: float, most: float, *, whole: bool = False) -> Check:
    def check(value: Any, place: str, sizes: Sizes) -> None:
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            raise ValueError(f"{place}: must be a number from {least:g} to {most:g}")

    return check


def _only(kind: type) -> Check:
    def check(value: Any, place: str, sizes: Sizes) -> None:
        if type(value) is not kind:
            raise ValueError(f"{place}: must be {kind.__name__}")

    return check


def _names(value: Any, place: str, sizes: Sizes) -> None:
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{place}: must be a tuple of names")
    if len(set(value)) != len(value) or sizes.names not in (None, value):
        raise ValueError(f"{place}: a name is there twice, or another part has other names")
    sizes.names = value
    sizes.agree("cores", len(value), place)


def _made(*kinds: type, or_none: bool = False) -> Check:
    """An object of one of some classes, checked by the form of its class; sizes hold for the whole file."""

    def check(value: Any, place: str, sizes: Sizes) -> None:
        if value is None and or_none:
            return
        if Embedder in kinds and isinstance(value, Embedder) and type(value) in _PERSISTENCE:
            return  # `restore` has checked it
        if type(value) not in kinds:
            raise ValueError(f"{place}: must not be {type(value).__name__}")
        form = FORMS[type(value)]
        fields = {name: part for name, part in vars(value).items() if not name.startswith("_")}
        if fields.keys() != form.keys():
            raise ValueError(f"{place}: must have {', '.join(form) or 'nothing'}")
        for name, part in form.items():
            part(fields[name], f"{place}.{name}", sizes)
        if type(value) in WIDTHS:
            sizes.agree("width", WIDTHS[type(value)], place)

    return check


def _width(value: Any, place: str, sizes: Sizes) -> None:
    _number(1, 1_000_000, whole=True)(value, place, sizes)
    sizes.agree("width", value, place)


def _index(value: Any, place: str, sizes: Sizes) -> None:
    """The vectors of all records are either in an array or in an index."""
    if value is None:
        sizes.agree("searched", sizes["records"], place)
        return
    if not isinstance(value, ApproximateIndex):
        raise ValueError(f"{place}: must be an index")
    sizes.agree("searched", 0, place)
    sizes.agree("used", value.width, place)
    if value.reach > sizes["records"]:
        raise ValueError(f"{place}: refers to records that are not there")


def _given_embedder(value: Any, place: str, sizes: Sizes) -> None:
    """The embedder as it was given. It may not be fitted: a history without texts uses another."""
    if type(value) not in EMBEDDERS:
        raise ValueError(f"{place}: must be an embedder")


EMBEDDERS = (TfidfEmbedder, HashedEmbedder, NoEmbedder, GuardedEmbedder, MiniLmEmbedder)
WIDTHS: dict[type, int] = {HashedEmbedder: CLASSES, NoEmbedder: 1}
_embedder = _made(*EMBEDDERS)
_heads = _array("landmarks", "cores+1", of="f4")
FEATURES = f"2*width+{SHAPES}"

FORMS: dict[type, Form] = {
    CorePriors: {
        "records": _array("cores+1", of="f8", least=0),
        "quality": _array("cores+1", of="f8", least=0, most=1),
        "output_tokens": _array("cores+1", of="f8", least=0),
        "input_ratio": _array("cores+1", of="f8", least=0),
    },
    ShapeScale: {
        "mean_": _array(SHAPES, of="f4"),
        "spread_": _array(SHAPES, of="f4", least=1e-9),
    },
    CategoryHead: {
        "weights_": _array(FEATURES, "categories", of="f4"),
        "bias_": _array("categories", of="f4", never=True, some=True),
    },
    LandmarkKernel: {
        "width": _number(0, 1e6),
        "landmarks": _number(1, LARGEST, whole=True),
        "points_": _array("landmarks", FEATURES, of="f4"),
        "gram_": _array("landmarks", of="f8", least=0),
        "turn_": _array("landmarks", "landmarks", of="f4"),
    },
    Forest: {
        "feature": _array("nodes", of="i4", least=0, most=FEATURES, some=True),
        "threshold": _array("nodes", of="f4"),
        "children": _array("2*nodes", of="i4", least=0, most="nodes"),
        "value": _array("nodes", "cores+1", of="f4"),
        "roots": _array("trees", of="i4", least=0, most="nodes", some=True),
        "depth": _number(0, 100_000, whole=True),
    },
    TfidfEmbedder: {
        "dimensions": _number(1, 1_000_000, whole=True),
        "buckets_": _array("terms", of="i4", least=0, most=BUCKETS - 1),
        "idf_": _array("terms", of="f4", least=0),
        "projection_": _array("terms", "width", of="f4"),
    },
    HashedEmbedder: {},
    NoEmbedder: {},
    MiniLmEmbedder: {"model": _only(str), "download": _only(bool)},
    GuardedEmbedder: {
        "inner": _made(TfidfEmbedder, HashedEmbedder, NoEmbedder, MiniLmEmbedder, Embedder),
        "width": _width,
        "failed": _only(bool),
    },
    RetrievalPredictor: {
        "neighbours": _number(1, 10_000, whole=True),
        "sharpness": _number(0, 1_000),
        "prior_strength": _number(1e-9, LARGEST),
        "embedder": _given_embedder,
        "embedder_": _embedder,
        "cores_": _names,
        "priors_": _made(CorePriors),
        "deviation_": _array("records", "cores", of="f2 f8", least=-1.001, most=1.001, unknown=True),
        "lengthening_": _array("records", "cores", of="f2 f8", least=0, unknown=True),
        "used_": _array("used", of="i8", least=0, most="2*width", some=True),
        "vectors_": _array("searched", "used", of="f4"),
        "approximate_": _index,
    },
    TrainedPredictor: {
        "embedder": _given_embedder,
        "embedder_": _embedder,
        "cores_": _names,
        "priors_": _made(CorePriors),
        "known_": _array("cores+1", of="f8", least=0),
        "shape_": _made(ShapeScale),
        "category_": _made(CategoryHead, or_none=True),
        "category_means_": _array("categories", "cores+1", of="f8"),
        "kernel_": _made(LandmarkKernel),
        "quality_heads_": _heads,
        "forest_": _made(Forest, or_none=True),
        "left_out_": _array("sampled", "cores", of="f8"),
        "input_heads_": _heads,
        "input_scale_": _array("cores+1", of="f8", least=0),
        "output_heads_": _heads,
        "output_scale_": _array("cores+1", of="f8", least=0),
    },
    HybridPredictor: {
        "embedder": _given_embedder,
        "retrieval": _made(RetrievalPredictor),
        "trained": _made(TrainedPredictor),
        "embedder_": _embedder,
        "weight_": _array("cores+1", of="f8", least=0, most=1),
        "shift_": _array("cores+1", of="f8"),
        "calibration_": _made(Calibration),
        "cores_": _names,
    },
    Calibration: {
        "difficulty": _number(0, 2),
        "contrast": _number(0, 2),
        "specific": _array("cores", of="f8", least=0, most=2),
        "level": _array("cores", of="f8", least=0, most=1),
        "group": _array("cores", of="i8", least=0, most=1),
        "advantage": _number(0, 1),
    },
}
