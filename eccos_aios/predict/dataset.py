"""A history as arrays of shape (records, cores), NaN if unknown; priors per core; samples of long ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.estimates import FloatArray
from eccos_aios.predict.text import CallText, record_text, split_tools

UNKNOWN_OUTPUT_TOKENS = 256.0  # where nothing is known of any core
UNKNOWN_QUALITY = 0.5  # likewise
PRIOR_STRENGTH = 8.0  # records at which a core's own mean quality weighs as much as the mean over the cores
TOKEN_PRIOR_STRENGTH = 2.0  # likewise for tokens: cores differ in them by factors, so one record says a lot
SAMPLE = 20_000  # records; a history that is no longer is used whole
MIN_OF_CORE = 64  # records of each core in a sample, if the history has as many


@dataclass(frozen=True)
class Outcomes:
    """A history as arrays.

    Attributes
    ----------
    cores : tuple of str
        Every core that the history names, in order of appearance.
    calls : list of CallText
        One per record.
    categories : list of str or None
        One per record.
    quality, input_tokens, output_tokens : ndarray of shape (records, cores)
        NaN if unknown.
    """

    cores: tuple[str, ...]
    calls: list[CallText]
    categories: list[str | None]
    quality: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray


def outcomes_of(history: Sequence[Record], cores: Sequence[str] = ()) -> Outcomes:
    """A history as arrays. Where a record names a core twice, the later outcome counts.

    The columns are `cores`, then any other cores in order of appearance. `selected` outcomes are left out.
    """
    position = {name: column for column, name in enumerate(cores)}
    for record in history:
        for outcome in record.outputs:
            if not outcome.selected:
                position.setdefault(outcome.model_name, len(position))
    arrays = [np.full((len(history), len(position)), np.nan) for _ in range(3)]
    quality, input_tokens, output_tokens = arrays
    calls = [record_text(record) for record in history]
    for row, record in enumerate(history):
        for outcome in record.outputs:
            if outcome.selected:
                continue
            cell = row, position[outcome.model_name]
            quality[cell] = outcome.graded_quality
            # without its text a call may have no token count to compare the core's with
            if outcome.input_token_length is not None and calls[row].input_tokens > 0:
                input_tokens[cell] = outcome.input_token_length
            if outcome.output_token_length is not None:
                output_tokens[cell] = outcome.output_token_length
    categories = [record.category for record in history]
    return Outcomes(tuple(position), calls, categories, quality, input_tokens, output_tokens)


def query_groups(calls: Sequence[CallText]) -> NDArray[np.int64]:
    """A number per call, equal for calls with the same query, whatever their tools.

    A call without its text is identified by its hash; one without either is its own group.
    """
    numbers: dict[str | int, int] = {}
    keys = (query_key(call) or row for row, call in enumerate(calls))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def query_key(call: CallText) -> str:
    """Equal for calls with the same query: the query, or its hash where the text was not stored."""
    return split_tools(call.text)[0].strip() or call.query_hash or ""


@dataclass(frozen=True)
class CorePriors:
    """The expectations for each core before the call is known; the last entry is for an unknown core.

    Attributes
    ----------
    records, quality, output_tokens, input_ratio : ndarray of shape (cores + 1,)
        `records` is the number of outcomes; `input_ratio` is tokens as the core counts them over tokens as
        the call counts them.
    """

    records: FloatArray
    quality: FloatArray
    output_tokens: FloatArray
    input_ratio: FloatArray


def core_priors(outcomes: Outcomes) -> CorePriors:
    """Means per core, each shrunk towards the mean over the cores by a prior strength in records."""
    own = np.array([call.input_tokens for call in outcomes.calls])[:, None]
    counted = np.where(np.isnan(outcomes.input_tokens), 0.0, own)
    input_total = np.nansum(outcomes.input_tokens, axis=0)
    strength = TOKEN_PRIOR_STRENGTH * max(float(own.mean()), 1.0) if len(own) else 1.0
    ratio = (input_total + strength) / (counted.sum(axis=0) + strength)
    records = np.append((~np.isnan(outcomes.quality)).sum(axis=0), 0).astype(np.float64)
    return CorePriors(
        records=records,
        quality=_shrunk_means(outcomes.quality, UNKNOWN_QUALITY, PRIOR_STRENGTH),
        output_tokens=_shrunk_means(outcomes.output_tokens, UNKNOWN_OUTPUT_TOKENS, TOKEN_PRIOR_STRENGTH),
        input_ratio=np.append(ratio, 1.0),
    )


@lru_cache(maxsize=64)
def core_positions(known: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[np.int64]:
    """Column of each core of `wanted`; ``len(known)`` for one that is unknown.

    Cached, as every call asks the same again; the array cannot be written.
    """
    position = {name: column for column, name in enumerate(known)}
    found = np.array([position.get(name, len(known)) for name in wanted], dtype=np.int64)
    found.setflags(write=False)
    return found


def _shrunk_means(values: FloatArray, fallback: float, strength: float) -> FloatArray:
    count = (~np.isnan(values)).sum(axis=0)
    total = np.nansum(values, axis=0)
    seen = count > 0
    common = float((total[seen] / count[seen]).mean()) if seen.any() else fallback
    return np.append((total + strength * common) / (count + strength), common)


def sample_of(history: Sequence[Record]) -> Sequence[Record]:
    """The history itself if it is short, else records drawn from it, in their order.

    Drawn with a fixed seed in one pass. Of a core that few records name, a new one for instance, the first
    `MIN_OF_CORE` records are in the sample too, so that no core is missing from it.
    """
    if len(history) <= SAMPLE:
        return history
    drawn = drawn_rows(len(history), SAMPLE)
    seen: Counter[str] = Counter()
    sample = []
    for is_drawn, record in zip(drawn.tolist(), history, strict=True):
        cores = [outcome.model_name for outcome in record.outputs]
        if is_drawn or any(seen[core] < MIN_OF_CORE for core in cores):
            sample.append(record)
            seen.update(cores)
    return sample


def drawn_rows(length: int, count: int) -> NDArray[np.bool_]:
    """A mask of `length` rows of which `count`, or all, are drawn with a fixed seed."""
    drawn = np.zeros(length, dtype=np.bool_)
    drawn[np.random.default_rng(0).choice(length, min(count, length), replace=False)] = True
    return drawn
