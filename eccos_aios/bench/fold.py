"""Folds, splits and held-out files: records to learn from, calls to assign, and the recorded outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core
from eccos_aios.history import Record
from eccos_aios.plans.answers import UNRECORDED_OUTPUT_TOKENS
from eccos_aios.predict import CallText, record_text

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

QUOTA_SLACK = 1.5  # with quotas, all cores together take this many times the calls of a fold
TRAIN_SHARE = 0.5  # of the queries of a split, where the number of records to learn from is not given
MOST_TESTED = 1000  # records of a split that are measured


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
    seconds : ndarray
        Recorded latency; NaN where there is none.
    """

    quality: FloatArray
    cost: FloatArray
    seconds: FloatArray

    def take(self, rows: IntArray) -> Truth:
        """The outcomes of some of the records."""
        return Truth(self.quality[rows], self.cost[rows], self.seconds[rows])


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
    arrays = [np.full((len(history), len(cores)), np.nan) for _ in range(4)]
    quality, input_tokens, output_tokens, seconds = arrays
    for row, record in enumerate(history):
        for outcome in record.outputs:
            column = position.get(outcome.model_name)
            if column is None:
                continue
            quality[row, column] = outcome.graded_quality
            input_tokens[row, column] = _number(outcome.input_token_length)
            output_tokens[row, column] = _number(outcome.output_token_length)
            seconds[row, column] = _number(outcome.latency_s)
    own = np.array([record_text(record).input_tokens for record in history]).reshape(-1, 1)
    price = np.array([[core.resolved_price.input, core.resolved_price.output] for core in cores])
    cost = np.where(np.isnan(input_tokens), own, input_tokens) * price[:, 0]
    cost += np.where(np.isnan(output_tokens), UNRECORDED_OUTPUT_TOKENS, output_tokens) * price[:, 1]
    return Truth(quality, cost / TOKENS_PER_PRICE_UNIT, seconds)


def folds(history: Sequence[Record], cores: Sequence[Core], count: int, seed: int) -> Iterator[Fold]:
    """Grouped folds: records of one query are all in the same, so that none answers another.

    Raises
    ------
    ValueError
        There are fewer different queries than folds.
    """
    truth = recorded_truth(history, cores)
    fold = fold_numbers(history, count, seed)
    for number in range(count):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        yield _fold(history, cores, truth, train, test, [seed, number])


def splits(
    history: Sequence[Record], cores: Sequence[Core], count: int, seed: int, train_records: int | None = None
) -> list[Fold]:
    """Repeated random splits by query: each learns from some of the records, and measures on the others.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
    count : int
    seed : int
    train_records : int, optional
        Records that each split learns from. Default: half of the queries.

    Raises
    ------
    ValueError
        There are fewer than two splits or queries, or a split would have nothing to measure.
    """
    if count < 2:
        raise ValueError(f"splits: {count}: must be at least 2, or no spread can be measured")
    truth = recorded_truth(history, cores)
    group = _query_groups(history)
    queries = int(group.max(initial=-1)) + 1
    if queries < 2:
        raise ValueError(f"splits: {queries} different queries in the history: must be at least 2")
    if train_records is not None and not 1 <= train_records < len(history):
        raise ValueError(f"train_records: {train_records}: must be from 1 to {len(history) - 1}")
    made = []
    for number in range(count):
        rank = np.random.default_rng([seed, number]).permutation(queries)[group]
        order = np.argsort(rank, kind="stable")
        if train_records is None:
            learned = int((rank < TRAIN_SHARE * queries).sum())
            train, rest = order[:learned], order[learned:]
        else:
            train, rest = order[:train_records], order[train_records:]
            rest = rest[~np.isin(group[rest], group[train])]
        made.append(_fold(history, cores, truth, np.sort(train), np.sort(rest[:MOST_TESTED]), [seed, number]))
        if not made[-1].calls:
            raise ValueError(f"train_records: {train_records}: leave no record to measure")
    return made


def held_out(history: Sequence[Record], test: Sequence[Record], cores: Sequence[Core], seed: int) -> Fold:
    """One fold that learns from a history and measures on other records."""
    every = [*history, *test]
    rows = np.arange(len(every))
    truth = recorded_truth(every, cores)
    return _fold(every, cores, truth, rows[: len(history)], rows[len(history) :], [seed, 0])


def _fold(
    history: Sequence[Record],
    cores: Sequence[Core],
    truth: Truth,
    train: IntArray,
    test: IntArray,
    seed: Sequence[int],
) -> Fold:
    # a record of no core in the manifest cannot be replayed
    rows = test[(~np.isnan(truth.quality[test])).any(axis=1)]
    slots = np.array([core.slots for core in cores], dtype=np.float64)
    return Fold(
        history=[history[row] for row in train],
        records=[history[row] for row in rows],
        calls=[record_text(history[row]) for row in rows],
        cores=tuple(cores),
        rows=rows,
        truth=truth.take(rows),
        share=np.ceil(QUOTA_SLACK * len(rows) * slots / slots.sum()).astype(np.int64),
        random=np.random.SeedSequence(list(seed)),
    )


def fold_numbers(history: Sequence[Record], count: int, seed: int) -> IntArray:
    """Which fold each record is in, shape (records,).

    Raises
    ------
    ValueError
        There are fewer different queries than folds.
    """
    group = _query_groups(history)
    queries = int(group.max(initial=-1)) + 1
    if not 2 <= count <= queries:
        allowed = f"must be from 2 to the {queries} different queries of the history"
        raise ValueError(f"folds: {count}: {allowed}")
    shuffled = np.random.default_rng(seed).permutation(queries) % count
    return np.asarray(shuffled[group], dtype=np.int64)


def _query_groups(history: Sequence[Record]) -> IntArray:
    """A number per record, equal for records of one query."""
    groups: dict[str, int] = {}
    numbers = [groups.setdefault(record.query.strip(), len(groups)) for record in history]
    return np.array(numbers, dtype=np.int64)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
