"""What a saved predictor has to look like: of every kind its fields, their types, shapes and ranges.

Whoever adds a fitted attribute says here what it may hold; what is not listed is neither saved nor loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from eccos_aios.predict.approximate import ApproximateIndex
from eccos_aios.predict.category import CategoryHead
from eccos_aios.predict.dataset import CorePriors
from eccos_aios.predict.embedders.base import GuardedEmbedder, NoEmbedder, TfidfEmbedder
from eccos_aios.predict.embedders.hashed import HashedEmbedder
from eccos_aios.predict.embedders.minilm import MiniLmEmbedder
from eccos_aios.predict.features import ShapeScale
from eccos_aios.predict.forest import Forest
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.kernel_ridge import LandmarkKernel
from eccos_aios.predict.retrieval import RetrievalPredictor
from eccos_aios.predict.terms import BUCKETS
from eccos_aios.predict.text_free import CLASSES, SHAPES
from eccos_aios.predict.trained import TrainedPredictor

LARGEST = 1e9  # of any number; sums of products of these stay far below what single precision holds
PIECE = 65_536  # rows that are looked at together
PREDICTORS = (HybridPredictor, RetrievalPredictor, TrainedPredictor)

_LINEAR = re.compile(r"(?:(\d+)\*)?([a-z]+)(?:\+(\d+))?")


class Sizes:
    """The lengths that arrays have in common, by name, as they are met; and the cores' names."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.names: tuple[str, ...] | None = None

    def __getitem__(self, expression: str) -> int:
        times, name, more = self._parts(expression)
        return times * self._known[name] + more

    def agree(self, expression: str | int, length: int, place: str) -> None:
        """Hold a length against ``2*name+1``, which is learned where the name is not known yet.

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
    """Hold a predictor that was read from a file against its form.

    Raises
    ------
    ValueError
        A field is absent, unknown, of another type or shape, or out of its range; names its place.
    """
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
        Its types, as numpy names them: ``f4 f8``.
    least, most : float or str
        Of its numbers, both included; a text is a length that they stay below.
    unknown, never : bool
        Whether NaN may stand for what is unknown, and minus infinity for what never happens.
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
        # in pieces: the masks of a million records take no room of their own
        for start in range(0, len(value), PIECE):
            part = value[start : start + PIECE]
            good = (part >= max(least, -highest)) & (part <= highest)
            if unknown:
                good |= np.isnan(part)
            if never:
                good |= np.isneginf(part)
            if not good.all():
                raise ValueError(f"{place}: holds what is not from {least:g} to {highest:g}")
        if never and not np.isfinite(value).any():
            raise ValueError(f"{place}: leaves nothing that can happen")

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
        raise ValueError(f"{place}: must be names")
    if len(set(value)) != len(value) or sizes.names not in (None, value):
        raise ValueError(f"{place}: a name stands twice, or they are not those of the other part")
    sizes.names = value
    sizes.agree("cores", len(value), place)


def _made(*kinds: type, or_none: bool = False) -> Check:
    """An object of one of some kinds, by the form of its kind; it shares the sizes of what it is part of."""

    def check(value: Any, place: str, sizes: Sizes) -> None:
        if value is None and or_none:
            return
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
    """Either every record's vector stands in an array, or all of them in an index."""
    if value is None:
        sizes.agree("searched", sizes["records"], place)
        return
    if not isinstance(value, ApproximateIndex):
        raise ValueError(f"{place}: must be an index")
    sizes.agree("searched", 0, place)
    sizes.agree("used", value.width, place)
    if value.reach > sizes["records"]:
        raise ValueError(f"{place}: names records that are not there")


def _taught(value: Any, place: str, sizes: Sizes) -> None:
    """The embedder as it was given, which texts that were left out may have kept from being fitted."""
    if type(value) not in EMBEDDERS:
        raise ValueError(f"{place}: must be an embedder")


EMBEDDERS = (TfidfEmbedder, HashedEmbedder, NoEmbedder, GuardedEmbedder, MiniLmEmbedder)
WIDTHS: dict[type, int] = {HashedEmbedder: CLASSES, NoEmbedder: 1}
_embedder = _made(*EMBEDDERS)
_heads = _array("landmarks", "cores+1", of="f4")
FEATURES = f"2*width+{SHAPES}"

FORMS: dict[type, Form] = {
    CorePriors: {
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
        "inner": _made(TfidfEmbedder, HashedEmbedder, NoEmbedder, MiniLmEmbedder),
        "width": _width,
        "failed": _only(bool),
    },
    RetrievalPredictor: {
        "neighbours": _number(1, 10_000, whole=True),
        "sharpness": _number(0, 1_000),
        "caution": _number(1e-9, LARGEST),
        "embedder": _taught,
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
        "embedder": _taught,
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
        "embedder": _taught,
        "retrieval": _made(RetrievalPredictor),
        "trained": _made(TrainedPredictor),
        "embedder_": _embedder,
        "weight_": _array("cores+1", of="f8", least=0, most=1),
        "shift_": _array("cores+1", of="f8"),
        "keep_": _number(0, 1),
    },
}
