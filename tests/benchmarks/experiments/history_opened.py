"""The fresh process of `history_bench`: open, answer, compare with an exact search, print JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import HistoryStore
from eccos_aios.predict.text import CallText, record_text
from experiments.history_records import CORES, GeneratedHistory
from experiments.memory import resident_kb

if TYPE_CHECKING:
    from eccos_aios.predict import HybridPredictor, PredictorSpec

BATCH = 256
BATCHES = 100
ONES_PER_BATCH = 10  # single calls for each batch
NEAREST = 16
COMPARED = 400  # calls whose neighbours are compared with an exact search
SHIFTS = 1_000  # places at which a call or a batch begins
WARM_UP = 3  # calls and batches that are not timed
CHUNK = 8_192  # records of the exact search at once

Percentiles = tuple[float, float]  # median and 99th, in milliseconds


@dataclass(frozen=True)
class Opened:
    """Figures of a process that opened a fitted predictor.

    Attributes
    ----------
    open_s : float
        Seconds from the first import of stage 1 to a predictor that answers.
    resident_mb : float
        After the answers.
    search_one_ms_p50, search_one_ms_p99 : float
        One embedded call: its neighbours and their outcomes.
    search_batch_ms_p50, search_batch_ms_p99 : float
        `BATCH` of them at once.
    predict_one_ms_p50, predict_one_ms_p99, predict_batch_ms_p50, predict_batch_ms_p99 : float
        All of stage 1, from texts to estimates on every core.
    recall_at_16 : float
        Share of the exact 16 nearest that are among the 16 found.
    """

    open_s: float
    resident_mb: float
    search_one_ms_p50: float
    search_one_ms_p99: float
    search_batch_ms_p50: float
    search_batch_ms_p99: float
    predict_one_ms_p50: float
    predict_one_ms_p99: float
    predict_batch_ms_p50: float
    predict_batch_ms_p99: float
    recall_at_16: float


def predictor_spec(dimensions: int) -> PredictorSpec:
    """The hybrid predictor with `dimensions` of query and tools together."""
    from eccos_aios.predict import PredictorSpec

    return PredictorSpec(embedder="tfidf", embedder_options={"dimensions": dimensions // 2})


def open_and_measure(path: Path, dimensions: int, records: int, seed: int, batches: int) -> Opened:
    """Open the predictor beside a store of `GeneratedHistory` and measure it on calls that are not there."""
    started = time.perf_counter()
    from eccos_aios.predict import HybridPredictor, fitted_predictor

    predictor = fitted_predictor(path, predictor_spec(dimensions)).predictor
    open_s = time.perf_counter() - started
    assert isinstance(predictor, HybridPredictor)
    calls = [record_text(record) for record in GeneratedHistory(records, seed).unseen(SHIFTS + BATCH)]
    vectors = _vectors(predictor, calls)
    search = predictor.retrieval.retrieve
    search_one, search_batch = _timed(lambda rows: search(calls[rows], vectors[rows]), batches)
    predict_one, predict_batch = _timed(lambda rows: predictor.predict(calls[rows], CORES), batches)
    resident_mb = resident_kb() / 1024
    return Opened(
        open_s=open_s,
        resident_mb=resident_mb,
        search_one_ms_p50=search_one[0],
        search_one_ms_p99=search_one[1],
        search_batch_ms_p50=search_batch[0],
        search_batch_ms_p99=search_batch[1],
        predict_one_ms_p50=predict_one[0],
        predict_one_ms_p99=predict_one[1],
        predict_batch_ms_p50=predict_batch[0],
        predict_batch_ms_p99=predict_batch[1],
        recall_at_16=_recall(path, predictor, calls[:COMPARED]),
    )


def _timed(answer: Callable[[slice], object], batches: int) -> tuple[Percentiles, Percentiles]:
    """Of single calls and of batches."""
    ones = ONES_PER_BATCH * batches
    return _percentiles(answer, 1, ones), _percentiles(answer, BATCH, batches)


def _percentiles(answer: Callable[[slice], object], size: int, times: int) -> Percentiles:
    spent = []
    for number in range(WARM_UP + times):
        first = number * 7 % SHIFTS
        started = time.perf_counter()
        answer(slice(first, first + size))
        spent.append(1e3 * (time.perf_counter() - started))
    p50, p99 = np.percentile(spent[WARM_UP:], [50, 99])
    return float(p50), float(p99)


def _recall(path: Path, predictor: HybridPredictor, calls: Sequence[CallText]) -> float:
    """Share of the exactly nearest that the predictor finds; walks through the whole store."""
    asked = _vectors(predictor, calls)
    similarity = np.full((len(calls), 0), -np.inf, dtype=np.float32)
    rows = np.zeros((len(calls), 0), dtype=np.int64)
    with HistoryStore(path, read_only=True) as store:
        history = store.records_until(store.mark())
        records = iter(history)
        for start in range(0, len(history), CHUNK):
            chunk = _vectors(predictor, [record_text(record) for record in islice(records, CHUNK)])
            similarity = np.hstack([similarity, asked @ chunk.T])
            own = np.broadcast_to(np.arange(start, start + len(chunk)), (len(calls), len(chunk)))
            rows = np.hstack([rows, own])
            best = np.argpartition(-similarity, min(NEAREST, similarity.shape[1]) - 1, axis=1)[:, :NEAREST]
            similarity = np.take_along_axis(similarity, best, axis=1)
            rows = np.take_along_axis(rows, best, axis=1)
    found = [{row for row, _ in predictor.retrieval.nearest(call, NEAREST)} for call in calls]
    hits = sum(len(near & set(exact)) for near, exact in zip(found, rows.tolist(), strict=True))
    return hits / rows.size


def _vectors(predictor: HybridPredictor, calls: Sequence[CallText]) -> NDArray[np.float32]:
    from eccos_aios.predict.features import embed_calls

    return embed_calls(calls, predictor.embedder_)


if __name__ == "__main__":
    store, *numbers = sys.argv[1:]
    print(json.dumps(asdict(open_and_measure(Path(store), *map(int, numbers)))))
