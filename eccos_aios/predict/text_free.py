"""Text-free codec: what a history stores of a call in place of its text, as ``kind:base64``.

The bytes are counts of the query's word classes, the call's shape as half-precision numbers, and counts of
the tools' word classes if there are any; two counts (0 to 15) share a byte. That is 227 characters for a
query, 399 with tools. A change of what the counts or the shape mean needs another `KIND`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from math import expm1

import numpy as np
from numpy.typing import NDArray

KIND = "hashed-256"
CLASSES = 256  # of words, counted for the query and for the tools
MOST = 15  # highest count: four bits
SHAPES = 17  # numbers that describe the form of a call
OWN_TOKENS = 1  # index of ``log1p`` of the input tokens among these
LONGEST = 20.0  # highest value of the same, so that a damaged file cannot make it infinite

Counts = NDArray[np.uint8]

_HALF = CLASSES // 2  # bytes
_SHORT = _HALF + 2 * SHAPES


def encode(query: Counts, tools: Counts, shape: NDArray[np.float32]) -> str:
    """Counts of shape (`CLASSES`,) and a shape (`SHAPES`,) -> `Record.embedding`."""
    content = _as_pairs(query) + np.asarray(shape, dtype="<f2").tobytes()
    if tools.any():
        content += _as_pairs(tools)
    return f"{KIND}:{base64.b64encode(content).decode()}"


def decode(embedding: str | None) -> bytes | None:
    """The bytes, always with the tools' counts; None if there are none, or they are of another kind."""
    kind, _, encoded = (embedding or "").partition(":")
    if kind != KIND:
        return None
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    if len(content) == _SHORT:
        content += bytes(_HALF)
    if len(content) != _SHORT + _HALF or not np.isfinite(_shape(content)).all():
        return None
    return content


def decode_counts(contents: Sequence[bytes]) -> tuple[Counts, Counts]:
    """The query's and the tools' counts, both of shape (contents, `CLASSES`)."""
    rows = np.frombuffer(b"".join(contents), dtype=np.uint8).reshape(len(contents), _SHORT + _HALF)
    return _counts(rows[:, :_HALF]), _counts(rows[:, _SHORT:])


def decode_shape(content: bytes) -> list[float]:
    """The `SHAPES` numbers."""
    shape: list[float] = _shape(content).astype(np.float64).tolist()
    return shape


def own_tokens(content: bytes | None) -> float:
    """The call's own count of its input tokens, to half a percent; 0 if none is stored."""
    return 0.0 if content is None else expm1(min(max(decode_shape(content)[OWN_TOKENS], 0.0), LONGEST))


def _shape(content: bytes) -> NDArray[np.float16]:
    return np.frombuffer(content[_HALF:_SHORT], dtype="<f2")


def _as_pairs(counts: Counts) -> bytes:
    return ((counts[0::2] << 4) | counts[1::2]).tobytes()


def _counts(pairs: Counts) -> Counts:
    counts = np.empty((len(pairs), CLASSES), dtype=np.uint8)
    counts[:, 0::2], counts[:, 1::2] = pairs >> 4, pairs & 0x0F
    return counts
