"""Calls -> dense features: what a call is about, and what it looks like."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from math import log1p

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.embedders.base import LEAST_LENGTH, Embedder, unit_rows
from eccos_aios.predict.embedders.hashed import HashedEmbedder, class_vectors
from eccos_aios.predict.text import TOOL_MARK, CallText, split_tools
from eccos_aios.predict.text_free import OWN_TOKENS, SHAPES, unpacked_counts, unpacked_shape

Features = NDArray[np.float32]

QUERY_SHARE = 2 / 3  # of the squared length of the embedding; the rest is the tools'
QUERY_ROOT, TOOLS_ROOT = np.sqrt(np.array([QUERY_SHARE, 1 - QUERY_SHARE], dtype=np.float32))
SHAPE_CLIP = 3.0  # standard deviations; one odd call must not dwarf the others
ROOT_OF_SHAPES = np.float32(np.sqrt(SHAPES))
_NUMBER = re.compile(r"\d+")
_UPPER = re.compile(r"[A-Z]")
_SIGN = re.compile(r"[^\w\s]")


def shape_of(calls: Sequence[CallText]) -> Features:
    """What calls look like: lengths, signs, digits, tools; shape (calls, `SHAPES`)."""
    shapes = [_shape(call) if call.embedding is None else _kept_shape(call) for call in calls]
    return np.array(shapes, dtype=np.float32).reshape(len(calls), SHAPES)


def embed_calls(calls: Sequence[CallText], embedder: Embedder) -> Features:
    """Query and tools, embedded apart and put side by side; shape (calls, 2 x dimensions), length 1 or 0.

    With one embedding of both, many tools drown a short query (tools12, 5-fold: Brier score 0.1134
    together, 0.1127 apart). A call whose text was left out has the vectors that were kept of it where the
    embedder is the one that made them, else 0.
    """
    if len(calls) == 1 and calls[0].embedding is None:
        return _embed_one(calls[0], embedder)
    parts = [split_tools(call.text) for call in calls]
    with_tools = [row for row, part in enumerate(parts) if part[1]]
    vectors = embedder.transform([part[0] for part in parts] + [parts[row][1] for row in with_tools])
    query, tools = vectors[: len(calls)], np.zeros_like(vectors[: len(calls)])
    tools[with_tools] = vectors[len(calls) :]
    kept = {row: call.embedding for row, call in enumerate(calls) if call.embedding is not None}
    if kept and isinstance(embedder, HashedEmbedder):
        query[list(kept)], tools[list(kept)] = map(class_vectors, unpacked_counts(list(kept.values())))
    return unit_rows(np.hstack([query * QUERY_ROOT, tools * TOOLS_ROOT]))


def _embed_one(call: CallText, embedder: Embedder) -> Features:
    """The same for one call, with fewer steps."""
    query, tools = split_tools(call.text)
    parts = embedder.transform([query, tools] if tools else [query])
    width = parts.shape[1]
    both = np.zeros((1, 2 * width), dtype=np.float32)
    both[0, :width] = parts[0] * QUERY_ROOT
    if tools:
        both[0, width:] = parts[1] * TOOLS_ROOT
    length = math.sqrt(np.einsum("d,d->", both[0], both[0]))
    if length > LEAST_LENGTH:
        both /= length
    return both


class ShapeScale:
    """Brings the shape of calls to standard deviations of the history."""

    def fit(self, calls: Sequence[CallText]) -> ShapeScale:
        shape = shape_of(calls)
        self.mean_ = shape.mean(axis=0) if len(calls) else np.zeros(SHAPES, dtype=np.float32)
        spread = shape.std(axis=0) if len(calls) else np.ones(SHAPES, dtype=np.float32)
        self.spread_ = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
        return self

    def transform(self, calls: Sequence[CallText]) -> Features:
        """Shape (calls, `SHAPES`); of about the weight of the embedding in a distance."""
        deviation = shape_of(calls)
        deviation -= self.mean_
        deviation /= self.spread_
        np.maximum(deviation, -SHAPE_CLIP, out=deviation)
        np.minimum(deviation, SHAPE_CLIP, out=deviation)
        deviation /= ROOT_OF_SHAPES
        return deviation


def _kept_shape(call: CallText) -> list[float]:
    shape = unpacked_shape(call.embedding or b"")
    shape[OWN_TOKENS] = log1p(call.input_tokens)
    return shape


def _shape(call: CallText) -> list[float]:
    query, tools = split_tools(call.text)
    length = max(len(query), 1)
    numbers = _NUMBER.findall(query)
    counted = [
        query.count(","),
        query.count('"') + query.count("'"),
        query.count(" and "),
        len(numbers),
        query.count("$") + query.count("\\"),
        query.count("."),
    ]
    return [
        log1p(len(query)),
        log1p(call.input_tokens),
        tools.count(TOOL_MARK) + bool(tools),
        log1p(len(tools)),
        100 * query.count("\n") / length,
        sum(map(len, numbers)) / length,
        query.count("?"),
        len(_SIGN.findall(query)) / length,
        len(_UPPER.findall(query)) / length,
        *map(log1p, counted),
        length / (1 + query.count(" ")),
        float(query.isascii()),
    ]
