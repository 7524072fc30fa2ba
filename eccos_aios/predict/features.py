"""Calls -> dense features: what a call is about (embedding) and its form (shape)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from math import log1p

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.embedders.base import MIN_LENGTH, Embedder, GuardedEmbedder, unit_rows
from eccos_aios.predict.embedders.hashed import HashedEmbedder, class_counts, class_vectors
from eccos_aios.predict.embedders.tfidf import TfidfEmbedder
from eccos_aios.predict.encoded import Encoding, encoding_of
from eccos_aios.predict.text import TOOL_MARK, CallText, record_text, split_tools
from eccos_aios.predict.text_free import OWN_TOKENS, SHAPES, decode_counts, decode_shape, encode

Features = NDArray[np.float32]

QUERY_SHARE = 2 / 3  # of the squared length of the embedding; the tools' share is the rest
QUERY_ROOT, TOOLS_ROOT = np.sqrt(np.array([QUERY_SHARE, 1 - QUERY_SHARE], dtype=np.float32))
SHAPE_CLIP = 3.0  # standard deviations; one odd call must not dwarf the others
ROOT_OF_SHAPES = np.float32(np.sqrt(SHAPES))
_NUMBER = re.compile(r"\d+")
_UPPER = re.compile(r"[A-Z]")
_SIGN = re.compile(r"[^\w\s]")


def shape_of(calls: Sequence[CallText]) -> Features:
    """The form of calls: lengths, punctuation, digits, tools; shape (calls, `SHAPES`)."""
    shapes = [_shape(call) if call.embedding is None else _stored_shape(call) for call in calls]
    return np.array(shapes, dtype=np.float32).reshape(len(calls), SHAPES)


def embedding_of(record: Record) -> str:
    """The `Record.embedding` of a record that still has its text; a store without texts stores it."""
    call = record_text(record)
    query, tools = class_counts(split_tools(call.text))
    return encode(query, tools, shape_of([call])[0])


def guarded(embedder: Embedder | None) -> Embedder:
    """The embedder of a predictor: the default, or one that was given, whose faults are caught."""
    return TfidfEmbedder() if embedder is None else GuardedEmbedder(embedder)


def fitted_embedder(embedder: Embedder, calls: Sequence[CallText]) -> Embedder:
    """The embedder, fitted on calls; `HashedEmbedder` if a store holds its vectors in place of texts.

    Only so are calls with and without a text comparable. The README of `predict` has what it costs.
    """
    if any(call.embedding is not None for call in calls):
        return HashedEmbedder()
    return embedder.fit([call.text for call in calls])


def embed_calls(calls: Sequence[CallText], embedder: Embedder) -> Features:
    """Query and tools, embedded separately and concatenated; shape (calls, 2 x dimensions), length 1 or 0.

    In one embedding of both, many tools would drown a short query. A call whose text was not stored has the
    vectors that were stored in its place if they are those of `embedder`, else zeros.
    """

    def encode() -> Encoding:
        if len(calls) == 1 and calls[0].embedding is None:
            return (_embed_one(calls[0], embedder),)
        return (_embed(calls, embedder),)

    vectors: Features = encoding_of(calls, embedder.sharing_key(), encode)[0]
    return vectors


def _embed(calls: Sequence[CallText], embedder: Embedder) -> Features:
    parts = [split_tools(call.text) for call in calls]
    with_tools = [row for row, part in enumerate(parts) if part[1]]
    vectors = embedder.transform([part[0] for part in parts] + [parts[row][1] for row in with_tools])
    query, tools = vectors[: len(calls)], np.zeros_like(vectors[: len(calls)])
    tools[with_tools] = vectors[len(calls) :]
    stored = {row: call.embedding for row, call in enumerate(calls) if call.embedding is not None}
    if stored and isinstance(embedder, HashedEmbedder):
        rows = list(stored)
        query[rows], tools[rows] = map(class_vectors, decode_counts(list(stored.values())))
    return unit_rows(np.hstack([query * QUERY_ROOT, tools * TOOLS_ROOT]))


def _embed_one(call: CallText, embedder: Embedder) -> Features:
    """The same for one call, in fewer steps."""
    query, tools = split_tools(call.text)
    parts = embedder.transform([query, tools] if tools else [query])
    width = parts.shape[1]
    both = np.zeros((1, 2 * width), dtype=np.float32)
    both[0, :width] = parts[0] * QUERY_ROOT
    if tools:
        both[0, width:] = parts[1] * TOOLS_ROOT
    length = math.sqrt(np.einsum("d,d->", both[0], both[0]))
    if length > MIN_LENGTH:
        both /= length
    return both


class ShapeScale:
    """Scales the shape of calls to standard deviations of the history."""

    def fit(self, calls: Sequence[CallText]) -> ShapeScale:
        """Measure means and standard deviations over the calls."""
        shape = shape_of(calls)
        self.mean_ = shape.mean(axis=0) if len(calls) else np.zeros(SHAPES, dtype=np.float32)
        spread = shape.std(axis=0) if len(calls) else np.ones(SHAPES, dtype=np.float32)
        self.spread_ = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
        return self

    def transform(self, calls: Sequence[CallText]) -> Features:
        """Shape (calls, `SHAPES`); in a distance it weighs about as much as the embedding."""
        deviation = shape_of(calls)
        deviation -= self.mean_
        deviation /= self.spread_
        np.maximum(deviation, -SHAPE_CLIP, out=deviation)
        np.minimum(deviation, SHAPE_CLIP, out=deviation)
        deviation /= ROOT_OF_SHAPES
        return deviation


def _stored_shape(call: CallText) -> list[float]:
    shape = decode_shape(call.embedding or b"")
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
