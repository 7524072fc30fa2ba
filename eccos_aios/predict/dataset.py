"""Outcomes of a history as arrays of shape (records, cores); a cell that nobody recorded is NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.estimates import FloatArray
from eccos_aios.predict.text import CallText, record_text, split_tools

UNKNOWN_OUTPUT_TOKENS = 256.0  # where nothing at all is known of any core
UNKNOWN_QUALITY = 0.5  # likewise
CAUTION = 8.0  # records; a core's own quality outweighs the common one from so many on
TOKEN_CAUTION = 2.0  # likewise of tokens: cores differ in them by factors, and one record tells much


@dataclass(frozen=True)
class Outcomes:
    """What a history holds.

    Attributes
    ----------
    cores : tuple of str
        Every core that the history names, in order of appearance.
    calls : list of CallText
        One a record.
    categories : list of str or None
        One a record.
    quality, input_tokens, output_tokens : ndarray of shape (records, cores)
        NaN where unknown.
    """

    cores: tuple[str, ...]
    calls: list[CallText]
    categories: list[str | None]
    quality: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray


def outcomes_of(history: Sequence[Record], cores: Sequence[str] = ()) -> Outcomes:
    """Arrays of a history; where a record names a core twice, the later outcome counts.

    The columns are those of `cores`, then of further cores as they appear.
    """
    position = {name: column for column, name in enumerate(cores)}
    for record in history:
        for outcome in record.outputs:
            position.setdefault(outcome.model_name, len(position))
    arrays = [np.full((len(history), len(position)), np.nan) for _ in range(3)]
    quality, input_tokens, output_tokens = arrays
    calls = [record_text(record) for record in history]
    for row, record in enumerate(history):
        for outcome in record.outputs:
            cell = row, position[outcome.model_name]
            quality[cell] = outcome.graded_quality
            # a text that was left out may have left no count of its own to compare a core's with
            if outcome.input_token_length is not None and calls[row].input_tokens > 0:
                input_tokens[cell] = outcome.input_token_length
            if outcome.output_token_length is not None:
                output_tokens[cell] = outcome.output_token_length
    categories = [record.category for record in history]
    return Outcomes(tuple(position), calls, categories, quality, input_tokens, output_tokens)


def query_groups(calls: Sequence[CallText]) -> NDArray[np.int64]:
    """A number for each call; calls that ask the same, with whatever tools, have the same.

    A text that was left out is told by its hash; queries of neither are told apart.
    """
    numbers: dict[str | int, int] = {}
    asked = (asked_of(call) or row for row, call in enumerate(calls))
    return np.array([numbers.setdefault(query, len(numbers)) for query in asked], dtype=np.int64)


def asked_of(call: CallText) -> str:
    """What tells calls that ask the same: the query, or its hash where the text was left out."""
    return split_tools(call.text)[0].strip() or call.query_hash or ""


@dataclass(frozen=True)
class CorePriors:
    """What is expected of a core before a call is seen; the last column stands for an unknown core.

    Attributes
    ----------
    quality, output_tokens, input_ratio : ndarray of shape (cores + 1,)
        `input_ratio` is tokens as the core counts them over tokens as the call counts them.
    """

    quality: FloatArray
    output_tokens: FloatArray
    input_ratio: FloatArray


def core_priors(outcomes: Outcomes) -> CorePriors:
    """Means per core, each drawn towards the mean over the cores by some records' worth of caution."""
    own = np.array([call.input_tokens for call in outcomes.calls])[:, None]
    counted = np.where(np.isnan(outcomes.input_tokens), 0.0, own)
    input_total = np.nansum(outcomes.input_tokens, axis=0)
    caution = TOKEN_CAUTION * max(float(own.mean()), 1.0) if len(own) else 1.0
    ratio = (input_total + caution) / (counted.sum(axis=0) + caution)
    return CorePriors(
        quality=_shrunk_means(outcomes.quality, UNKNOWN_QUALITY, CAUTION),
        output_tokens=_shrunk_means(outcomes.output_tokens, UNKNOWN_OUTPUT_TOKENS, TOKEN_CAUTION),
        input_ratio=np.append(ratio, 1.0),
    )


def core_positions(known: Sequence[str], asked: Sequence[str]) -> NDArray[np.int64]:
    """Column of each core that is asked for; ``len(known)`` for one that is unknown."""
    position = {name: column for column, name in enumerate(known)}
    return np.array([position.get(name, len(known)) for name in asked], dtype=np.int64)


def _shrunk_means(values: FloatArray, fallback: float, caution: float) -> FloatArray:
    count = (~np.isnan(values)).sum(axis=0)
    total = np.nansum(values, axis=0)
    seen = count > 0
    common = float((total[seen] / count[seen]).mean()) if seen.any() else fallback
    return np.append((total + caution * common) / (count + caution), common)
