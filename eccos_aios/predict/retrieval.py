"""RetrievalPredictor (ECCOS-R): what similar past calls gave, by FAISS."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.embed import Embedder, GuardedEmbedder, TfidfEmbedder, Vectors
from eccos_aios.predict.estimate import Estimates, FloatArray
from eccos_aios.predict.features import embed_calls
from eccos_aios.predict.outcomes import Outcomes, core_positions, core_priors, outcomes_of, query_groups
from eccos_aios.predict.predictor import Predictor
from eccos_aios.predict.text import CallText
from eccos_aios.predict.threads import one_blas_thread

EXACT_UP_TO = 50_000  # records; above, an approximate graph index answers in the same time
GRAPH_LINKS = 32  # a node of the HNSW graph; FAISS' own advice for recall above 0.95


class RetrievalPredictor(Predictor):
    """Similarity-weighted neighbours, shrunk towards what is known without them.

    A neighbour of cosine similarity s weighs ``w = max(s, 0) ** sharpness``. Outcomes are taken as
    deviations from their core's mean. With W the neighbours' total weight, a call's common deviation d
    (how hard it is for all cores) is their weighted mean over all known cells, shrunk by
    ``W / (W + caution)``, and a core's own deviation is their weighted mean over its known cells, shrunk
    the same way towards d. Support is the total weight over the core's known cells.

    A core that the history does not know gets the mean over the known cores, plus d; output tokens
    likewise, and 256 where no core's are known. Input tokens are the call's own count times the core's
    learned ratio, 1 where it has none.

    Parameters
    ----------
    neighbours : int
        Records that are asked.
    sharpness : float
        Exponent of the similarity.
    caution : float
        Neighbours of similarity 1 at which their outcomes weigh as much as the prior.
    embedder : Embedder, optional
        Default: `TfidfEmbedder`.
    """

    def __init__(
        self,
        neighbours: int = 48,
        sharpness: float = 3.0,
        caution: float = 4.0,
        embedder: Embedder | None = None,
    ) -> None:
        self.neighbours = neighbours
        self.sharpness = sharpness
        self.caution = caution
        self.embedder: Embedder = TfidfEmbedder() if embedder is None else GuardedEmbedder(embedder)

    def fit(self, history: Sequence[Record]) -> RetrievalPredictor:
        outcomes = outcomes_of(history)
        with one_blas_thread():
            self.embedder.fit([call.text for call in outcomes.calls])
            return self.fit_outcomes(outcomes, embed_calls(outcomes.calls, self.embedder))

    def fit_outcomes(self, outcomes: Outcomes, vectors: Vectors) -> RetrievalPredictor:
        """Learn from outcomes whose calls are embedded already."""
        self.cores_ = outcomes.cores
        self.priors_ = core_priors(outcomes)
        self.deviation_ = _masked(outcomes.quality - self.priors_.quality[:-1])
        self.lengthening_ = _masked(outcomes.output_tokens / np.maximum(self.priors_.output_tokens[:-1], 1.0))
        # a history without tools leaves half of the embedding empty; why search it
        self.used_ = np.flatnonzero(vectors.any(axis=0)) if vectors.any() else np.zeros(1, dtype=np.int64)
        self.vectors_ = np.ascontiguousarray(vectors[:, self.used_])
        self.restore()
        return self

    def restore(self) -> None:
        """Rebuild from the fitted arrays what is not an array."""
        self._index = _index(self.vectors_)

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        columns = core_positions(self.cores_, cores)
        vectors = embed_calls(calls, self.embedder)
        weights, found = self._neighbours(vectors)
        deviation, support = _local_means(*self.deviation_, weights, found, self.caution, 0.0)
        longer, _ = _local_means(*self.lengthening_, weights, found, self.caution, 1.0)
        own = np.array([call.input_tokens for call in calls], dtype=np.float64).reshape(-1, 1)
        return Estimates(
            quality=np.clip((self.priors_.quality + deviation)[:, columns], 0.0, 1.0),
            input_tokens=own * self.priors_.input_ratio[columns],
            output_tokens=np.maximum((self.priors_.output_tokens * longer)[:, columns], 0.0),
            support=support[:, columns],
        )

    def quality_and_support(self, vectors: Vectors) -> tuple[FloatArray, FloatArray]:
        """Of calls that are embedded already, both of shape (calls, known cores + 1)."""
        weights, found = self._neighbours(vectors)
        deviation, support = _local_means(*self.deviation_, weights, found, self.caution, 0.0)
        return self.priors_.quality + deviation, support

    def left_out_quality(self, outcomes: Outcomes, vectors: Vectors) -> FloatArray:
        """What each record of the history would have been given without itself and its like.

        Records that ask the same are told apart by nothing, so none of them may speak for another;
        shape (records, cores).
        """
        group = query_groups(outcomes.calls)
        weights, found = self._neighbours(vectors)
        weights[group[found] == group[:, None]] = 0.0
        deviation, _ = _local_means(*self.deviation_, weights, found, self.caution, 0.0)
        return np.asarray(self.priors_.quality[:-1] + deviation[:, :-1], dtype=np.float64)

    def nearest(self, call: CallText, count: int) -> list[tuple[int, float]]:
        """Positions in the history of the nearest past calls, and their similarities, best first."""
        if not self._index.ntotal:
            return []
        similarity, found = self._search(embed_calls([call], self.embedder), count)
        return [
            (int(row), float(alike)) for row, alike in zip(found[0], similarity[0], strict=True) if row >= 0
        ]

    def _neighbours(self, vectors: Vectors) -> tuple[FloatArray, NDArray[np.int64]]:
        """Weights and records of every call's neighbours, both of shape (calls, neighbours)."""
        count = min(self.neighbours, self._index.ntotal)
        if not count or not len(vectors):
            return np.zeros((len(vectors), 0)), np.zeros((len(vectors), 0), dtype=np.int64)
        similarity, found = self._search(vectors, count)
        weights = np.where(found >= 0, np.minimum(np.maximum(similarity, 0.0), 1.0), 0.0) ** self.sharpness
        return weights.astype(np.float64), np.maximum(found, 0)

    def _search(self, vectors: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        used = np.ascontiguousarray(vectors[:, self.used_])
        similarity, found = self._index.search(used, min(count, self._index.ntotal))
        return similarity, found


def _index(vectors: Vectors) -> faiss.Index:
    if len(vectors) <= EXACT_UP_TO:
        index = faiss.IndexFlatIP(vectors.shape[1])
    else:
        index = faiss.IndexHNSWFlat(vectors.shape[1], GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    return index


def _masked(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values with 0 where unknown, and 1 where known, 0 where not."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0), known.astype(np.float64)


def _weighted_sums(values: FloatArray, weights: FloatArray, found: NDArray[np.int64]) -> FloatArray:
    """Sum over the neighbours of each call, shape (calls, cores)."""
    sums: FloatArray = np.matmul(weights[:, None, :], values.take(found, axis=0))[:, 0]
    return sums


def _local_means(
    values: FloatArray,
    known: FloatArray,
    weights: FloatArray,
    found: NDArray[np.int64],
    caution: float,
    neutral: float,
) -> tuple[FloatArray, FloatArray]:
    """Neighbours' shrunk mean on every core and its support, both (calls, cores + 1).

    The last column stands for an unknown core.
    """
    total = _weighted_sums(values, weights, found)
    support = _weighted_sums(known, weights, found)
    seen = support.sum(axis=1, keepdims=True)
    evidence = weights.sum(axis=1, keepdims=True)
    mean = np.divide(total.sum(axis=1, keepdims=True), seen, out=np.full_like(seen, neutral), where=seen > 0)
    common = neutral + (mean - neutral) * evidence / (evidence + caution)
    local = (total + caution * common) / (support + caution)
    return (
        np.concatenate([local, common], axis=1),
        np.concatenate([support, np.zeros_like(common)], axis=1),
    )
