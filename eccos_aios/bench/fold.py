"""Folds of a history: the records to learn from, the calls to assign, and the recorded outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core
from eccos_aios.history import Record
from eccos_aios.predict import CallText, record_text

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

UNRECORDED_OUTPUT_TOKENS = 256.0  # assumed for an answer of unrecorded length
QUOTA_SLACK = 1.5  # with quotas, all cores together take this many times the calls of a fold


@dataclass(frozen=True)
class Truth:
    """Recorded outcomes over the cores of the manifest; arrays have shape (records, cores).

    Attributes
    ----------
    quality : ndarray
        NaN where none is recorded; a call cannot be replayed there.
    cost : ndarray
        US dollars of the recorded tokens; where a core's are unknown, of the call's own input tokens and
        `UNRECORDED_OUTPUT_TOKENS`.
    """

    quality: FloatArray
    cost: FloatArray


@dataclass(frozen=True)
class Fold:
    """One replay: learn from `history`, assign `calls`.

    Attributes
    ----------
    records : list of Record
        Of the calls.
    rows : ndarray of shape (calls,)
        Rows of the calls in the whole history.
    share : ndarray of shape (cores,)
        Calls that each core may take where quotas hold: `QUOTA_SLACK` times the calls, in proportion to the
        cores' slots.
    random : numpy.random.SeedSequence
        Seed of policies that draw at random.
    """

    history: list[Record]
    records: list[Record]
    calls: list[CallText]
    cores: tuple[Core, ...]
    rows: IntArray
    truth: Truth
    share: IntArray
    random: np.random.SeedSequence

    @property
    def allowed(self) -> BoolArray:
        """Where the outcome is recorded."""
        return ~np.isnan(self.truth.quality)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(core.name for core in self.cores)


def recorded_truth(history: Sequence[Record], cores: Sequence[Core]) -> Truth:
    """Qualities and costs that a history recorded for the cores of a manifest."""
    position = {core.name: column for column, core in enumerate(cores)}
    quality, input_tokens, output_tokens = (np.full((len(history), len(cores)), np.nan) for _ in range(3))
    for row, record in enumerate(history):
        for outcome in record.outputs:
            column = position.get(outcome.model_name)
            if column is None:
                continue
            quality[row, column] = outcome.graded_quality
            input_tokens[row, column] = _number(outcome.input_token_length)
            output_tokens[row, column] = _number(outcome.output_token_length)
    own = np.array([record_text(record).input_tokens for record in history]).reshape(-1, 1)
    price = np.array([[core.resolved_price.input, core.resolved_price.output] for core in cores])
    cost = np.where(np.isnan(input_tokens), own, input_tokens) * price[:, 0]
    cost += np.where(np.isnan(output_tokens), UNRECORDED_OUTPUT_TOKENS, output_tokens) * price[:, 1]
    return Truth(quality, cost / TOKENS_PER_PRICE_UNIT)


def folds(history: Sequence[Record], cores: Sequence[Core], count: int, seed: int) -> Iterator[Fold]:
    """Grouped folds: records of one query are all in the same, so that none answers another.

    Raises
    ------
    ValueError
        There are fewer different queries than folds.
    """
    truth = recorded_truth(history, cores)
    fold = fold_numbers(history, count, seed)
    slots = np.array([core.slots for core in cores], dtype=np.float64)
    for number in range(count):
        # A record of no core in the manifest cannot be replayed.
        rows = np.flatnonzero((fold == number) & (~np.isnan(truth.quality)).any(axis=1))
        yield Fold(
            history=[history[row] for row in np.flatnonzero(fold != number)],
            records=[history[row] for row in rows],
            calls=[record_text(history[row]) for row in rows],
            cores=tuple(cores),
            rows=rows,
            truth=Truth(truth.quality[rows], truth.cost[rows]),
            share=np.ceil(QUOTA_SLACK * len(rows) * slots / slots.sum()).astype(np.int64),
            random=np.random.SeedSequence([seed, number]),
        )


def fold_numbers(history: Sequence[Record], count: int, seed: int) -> IntArray:
    """Which fold each record is in, shape (records,).

    Raises
    ------
    ValueError
        There are fewer different queries than folds.
    """
    groups: dict[str, int] = {}
    group = [groups.setdefault(record.query.strip(), len(groups)) for record in history]
    if not 2 <= count <= len(groups):
        allowed = f"must be from 2 to the {len(groups)} different queries of the history"
        raise ValueError(f"folds: {count}: {allowed}")
    shuffled = np.random.default_rng(seed).permutation(len(groups)) % count
    return np.asarray(shuffled[np.array(group)], dtype=np.int64)


def _number(tokens: int | None) -> float:
    return np.nan if tokens is None else float(tokens)
