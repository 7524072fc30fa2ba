"""RetrievalPredictor (ECCOS-R): estimates from similar past calls, found by FAISS."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.approximate import EXACT_UP_TO, ApproximateIndex
from eccos_aios.predict.base import EmbeddingPredictor, QualityGrounds
from eccos_aios.predict.blas import FEW_ROWS, one_blas_thread
from eccos_aios.predict.core_prior import CoreExperience
from eccos_aios.predict.dataset import (
    Outcomes,
    core_positions,
    core_priors,
    drawn_rows,
    outcomes_of,
    query_groups,
    query_key,
    sample_of,
)
from eccos_aios.predict.embedders.base import Embedder, NoEmbedder, Vectors
from eccos_aios.predict.embedders.hashed import HashedEmbedder
from eccos_aios.predict.encoded import Encoding, Itself, digest_of, encoding_of
from eccos_aios.predict.estimates import Estimates, FloatArray
from eccos_aios.predict.faiss_library import faiss
from eccos_aios.predict.features import embed_calls, fitted_embedder, guarded
from eccos_aios.predict.text import CallText, record_text

# embeddings that are alike for calls that are not
COARSE = (HashedEmbedder, NoEmbedder)
SAME_CALL = 0.999  # cosine similarity from which two calls are the same
CHUNK = 8_192  # records embedded, or searched during a fit, at once
MIN_SEEN = 1e-300  # of a weight; avoids the warning of a division by zero
PROBED, MIN_PROBED = 200, 30  # calls of the history whose own neighbours say how similar calls usually are
PROBED_NEIGHBOURS = 8  # searched for one that is not the same call
USUAL_QUANTILE = 0.01
LONGEST = 60_000.0  # times a core's mean output; half precision ends there
Cells = NDArray[Any]  # (records, cores), NaN if unknown


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What retrieval says of N calls; arrays of shape (N, known cores + 1), the last for an unknown core.

    Attributes
    ----------
    quality, support : ndarray
        As in `Estimates`, but the quality is not clipped.
    repeats, repeated_quality : ndarray or None
        Number of past calls that are the same, and the mean quality there. None where no call has any.
    """

    quality: FloatArray
    support: FloatArray
    repeats: FloatArray | None = None
    repeated_quality: FloatArray | None = None


class RetrievalPredictor(EmbeddingPredictor):
    """Means over similar past calls, weighted by similarity and shrunk towards the priors.

    A neighbour of cosine similarity s has weight ``w = max(s, 0) ** sharpness``. Outcomes are deviations
    from their core's mean. With W the neighbours' total weight, a call's common deviation d
    (how hard it is for all cores) is the weighted mean over all known cells, times
    ``W / (W + prior_strength)``; a core's own deviation is the weighted mean over its known cells, shrunk
    likewise towards d. Support is the total weight over the core's known cells.

    A core that is not in the history gets the mean over the known cores, plus d; output tokens likewise,
    and 256 where no core's are known. Input tokens are the call's own count times the core's learned
    ratio, 1 if it has none.

    A history that is too long for memory is read in chunks: embedder and priors are learned from a sample
    (`sample_of`), the index contains all, and outcomes are stored in half precision.

    Parameters
    ----------
    neighbours : int
        Number of neighbours, at least 1.
    sharpness : float
        Exponent of the similarity, at least 0.
    prior_strength : float
        Above 0: neighbours of similarity 1 at which their outcomes weigh as much as the prior.
    embedder : Embedder, optional
        Default: `TfidfEmbedder`. A history without texts uses `HashedEmbedder` instead.
    """

    def __init__(
        self,
        neighbours: int = 48,
        sharpness: float = 3.0,
        prior_strength: float = 4.0,
        embedder: Embedder | None = None,
    ) -> None:
        for name, value, ok in (
            ("neighbours", neighbours, 1 <= neighbours <= 10_000),
            ("sharpness", sharpness, 0 <= sharpness <= 1_000),
            ("prior_strength", prior_strength, 0 < prior_strength <= 1e9),
        ):
            if not ok:
                raise ValueError(f"{name}: {value} is out of range")
        self.neighbours = neighbours
        self.sharpness = sharpness
        self.prior_strength = prior_strength
        self.embedder = guarded(embedder)

    def fit(self, history: Sequence[Record]) -> RetrievalPredictor:
        sample = sample_of(history)
        outcomes = outcomes_of(sample)
        with one_blas_thread():
            self.embedder_ = fitted_embedder(self.embedder, outcomes.calls)
            self.fit_outcomes(outcomes, embed_calls(outcomes.calls, self.embedder_))
            if sample is not history:
                self.index_all(history)
        return self

    def fit_outcomes(self, outcomes: Outcomes, vectors: Vectors) -> RetrievalPredictor:
        """Learn from outcomes whose calls have been embedded."""
        self.cores_ = outcomes.cores
        self.priors_ = core_priors(outcomes)
        self.deviation_, self.lengthening_ = self._cells(outcomes)
        # without tools half of the embedding is empty and need not be searched
        self.used_ = np.flatnonzero(vectors.any(axis=0)) if vectors.any() else np.zeros(1, dtype=np.int64)
        self.vectors_ = np.ascontiguousarray(vectors[:, self.used_])
        self.approximate_: ApproximateIndex | None = None
        self._query = query_groups(outcomes.calls)
        self.restore()
        return self

    def index_all(self, history: Sequence[Record]) -> None:
        """Index the whole history after a fit on a sample of it; the embedder and the columns stay."""
        shape = len(history), len(self.cores_)
        self.deviation_ = np.full(shape, np.nan, dtype=np.float16)
        self.lengthening_ = np.full(shape, np.nan, dtype=np.float16)
        self._query = np.zeros(len(history), dtype=np.int64)
        exact = len(history) <= EXACT_UP_TO
        index = None if exact else ApproximateIndex(len(self.used_), len(history))
        if index is not None:
            index.train(self._drawn_vectors(history, index.wanted))
        vectors_of_all = [self.vectors_[:0]]
        for start, outcomes in self._chunks(history):
            rows = slice(start, start + len(outcomes.calls))
            self.deviation_[rows], longer = self._cells(outcomes)
            self.lengthening_[rows] = np.minimum(longer, LONGEST)
            self._query[rows] = _query_hashes(outcomes.calls)
            vectors = embed_calls(outcomes.calls, self.embedder_)[:, self.used_]
            if index is None:
                vectors_of_all.append(vectors)
            else:
                index.add(vectors, np.arange(rows.start, rows.stop))
        self.approximate_, self.vectors_ = index, np.vstack(vectors_of_all)
        self.restore()

    def restore(self) -> None:
        """Rebuild the search index and the sharing key from the fitted arrays."""
        self._index: faiss.Index | ApproximateIndex
        if self.approximate_ is None:
            self._index = faiss.IndexFlatIP(self.vectors_.shape[1])
            self._index.add(self.vectors_)
            searched: Hashable = digest_of(self.vectors_, self.used_)
        else:
            self._index = self.approximate_
            searched = Itself(self._index)
        self._key = "neighbours", self.embedder_.sharing_key(), searched, self.neighbours, self.sharpness
        self._searched = self._index.ntotal

    def experience(self, cores: Sequence[str]) -> CoreExperience:
        return CoreExperience.of(self.priors_, self.cores_, cores)

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        return self.predict_embedded(calls, embed_calls(calls, self.embedder_), cores)

    def predict_embedded(
        self, calls: Sequence[CallText], vectors: Vectors, cores: Sequence[str]
    ) -> Estimates:
        columns = core_positions(self.cores_, tuple(cores))
        weights, found = self._neighbours_of(calls, vectors)
        deviation, support = _local_means(self.deviation_, weights, found, self.prior_strength, 0.0)
        longer, _ = _local_means(self.lengthening_, weights, found, self.prior_strength, 1.0)
        own = np.array([call.input_tokens for call in calls], dtype=np.float64).reshape(-1, 1)
        return Estimates(
            quality=np.clip((self.priors_.quality + deviation)[:, columns], 0.0, 1.0),
            input_tokens=own * self.priors_.input_ratio[columns],
            output_tokens=np.maximum((self.priors_.output_tokens * longer)[:, columns], 0.0),
            support=support[:, columns],
        )

    def retrieve(self, calls: Sequence[CallText], vectors: Vectors) -> Retrieved:
        """What similar past calls say of embedded calls."""
        weights, found = self._neighbours_of(calls, vectors)
        deviation, support = _local_means(self.deviation_, weights, found, self.prior_strength, 0.0)
        return Retrieved(self.priors_.quality + deviation, support, *self._repeated(weights, found))

    def _repeated(
        self, weights: FloatArray, found: NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray] | tuple[None, None]:
        """Past calls that are the same, and their mean quality; None where no call has any."""
        if isinstance(self.embedder_, COARSE) or not self.sharpness or not weights.size:
            return None, None
        same = weights >= SAME_CALL**self.sharpness
        if not same.any():
            return None, None
        values = self.deviation_.take(found, axis=0)
        known = ~np.isnan(values) & same[:, :, None]
        count = known.sum(axis=1)
        total = np.where(known, values, 0.0).sum(axis=1, dtype=np.float64)
        quality = self.priors_.quality[:-1] + total / np.maximum(count, 1)
        unknown = np.zeros((len(weights), 1))
        return np.hstack([count, unknown]), np.hstack([quality, unknown])

    def left_out_quality(self, outcomes: Outcomes, vectors: Vectors) -> FloatArray:
        """The estimate for each record of the history from the others, shape (records, cores).

        Records of the same query are left out together: any of them would give the outcome away.
        """
        own = self._query if len(self._query) == len(vectors) else _query_hashes(outcomes.calls)
        quality = np.zeros(outcomes.quality.shape)
        for start in range(0, len(vectors), CHUNK):
            rows = slice(start, start + CHUNK)
            weights, found = self._neighbours(vectors[rows])
            weights[self._query[found] == own[rows, None]] = 0.0
            deviation, _ = _local_means(self.deviation_, weights, found, self.prior_strength, 0.0)
            quality[rows] = self.priors_.quality[:-1] + deviation[:, :-1]
        return quality

    def nearest(self, call: CallText, count: int) -> list[tuple[int, float]]:
        """Positions in the history of the most similar calls, and their similarities, best first."""
        if not self._searched:
            return []
        similarity, found = self._search(embed_calls([call], self.embedder_), count)
        return [
            (int(row), float(alike)) for row, alike in zip(found[0], similarity[0], strict=True) if row >= 0
        ]

    def grounds(self, call: CallText, cores: Sequence[str]) -> list[QualityGrounds]:
        """The parts of one call's estimated quality on each core."""
        columns = core_positions(self.cores_, tuple(cores))
        similar = self.retrieve([call], embed_calls([call], self.embedder_)).quality[0]
        parts = (np.clip(part[columns], 0.0, 1.0).tolist() for part in (self.priors_.quality, similar))
        return [QualityGrounds(mean, near, None) for mean, near in zip(*parts, strict=True)]

    def usual_similarity(self) -> float:
        """As in `GroundedPredictor`, measured on up to `PROBED` of the history's calls."""
        rows = np.flatnonzero(drawn_rows(len(self.vectors_), PROBED))
        if len(rows) < MIN_PROBED:
            return 0.0
        similarity, found = self._index.search(self.vectors_[rows], min(PROBED_NEIGHBOURS, self._searched))
        others = np.where((found >= 0) & (similarity < SAME_CALL), similarity, -1.0).max(axis=1)
        return (
            max(0.0, float(np.quantile(others[others >= 0], USUAL_QUANTILE))) if (others >= 0).any() else 0.0
        )

    def _cells(self, outcomes: Outcomes) -> tuple[FloatArray, FloatArray]:
        """Deviation of the quality and relative output length of every outcome, both (records, cores)."""
        expected = np.maximum(self.priors_.output_tokens[:-1], 1.0)
        return outcomes.quality - self.priors_.quality[:-1], outcomes.output_tokens / expected

    def _drawn_vectors(self, history: Sequence[Record], count: int) -> Vectors:
        """Vectors of `count` records drawn from the whole history, which may be ordered by topic."""
        drawn = compress(history, drawn_rows(len(history), count).tolist())
        parts = [self.vectors_[:0]]
        while chunk := [record_text(record) for record in islice(drawn, CHUNK)]:
            parts.append(embed_calls(chunk, self.embedder_)[:, self.used_])
        return np.vstack(parts)

    def _chunks(self, history: Sequence[Record]) -> Iterator[tuple[int, Outcomes]]:
        records = iter(history)
        for start in range(0, len(history), CHUNK):
            yield start, outcomes_of(list(islice(records, CHUNK)), self.cores_)

    def _neighbours_of(
        self, calls: Sequence[CallText], vectors: Vectors
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """As `_neighbours`, shared by predictors that search the same past calls."""

        def encode() -> Encoding:
            return self._neighbours(vectors)

        weights, found = encoding_of(calls, self._key, encode)
        return weights, found

    def _neighbours(self, vectors: Vectors) -> tuple[FloatArray, NDArray[np.int64]]:
        """Weights and positions of every call's neighbours, both of shape (calls, neighbours)."""
        count = min(self.neighbours, self._searched)
        if not count or not len(vectors):
            return np.zeros((len(vectors), 0)), np.zeros((len(vectors), 0), dtype=np.int64)
        similarity, found = self._search(vectors, count)
        # if there are fewer, FAISS returns position -1 and the lowest similarity
        weights = np.minimum(np.maximum(similarity, 0.0), 1.0, dtype=np.float64)
        return weights**self.sharpness, np.maximum(found, 0)

    def _search(self, vectors: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        used = vectors.take(self.used_, axis=1)
        count = min(count, self._searched)
        if len(used) == 1 or len(used) > FEW_ROWS:
            similarity, found = self._index.search(used, count)
            return similarity, found
        # FAISS gives each of a few rows a thread and waits for sleeping ones, see `blas.product`
        each = [self._index.search(used[row : row + 1], count) for row in range(len(used))]
        similarity, found = (np.concatenate(parts) for parts in zip(*each, strict=True))
        return similarity, found


def _query_hashes(calls: Sequence[CallText]) -> NDArray[np.int64]:
    """As `query_groups`, by a number that a query has in every chunk; calls without a key share one."""
    return np.array([hash(query_key(call)) for call in calls], dtype=np.int64)


def _local_means(
    cells: Cells,
    weights: FloatArray,
    found: NDArray[np.int64],
    prior_strength: float,
    neutral: float,
) -> tuple[FloatArray, FloatArray]:
    """The neighbours' shrunk mean per core and its support, both (calls, cores + 1).

    The last column is for an unknown core.
    """
    values = cells.take(found, axis=0)
    known = ~np.isnan(values)
    both = np.concatenate([np.where(known, values, 0.0), known], axis=2, dtype=np.float64)
    sums = np.matmul(weights[:, None, :], both)[:, 0]  # einsum is slow on few calls
    total, support = sums[:, : cells.shape[1]], sums[:, cells.shape[1] :]
    seen = support.sum(axis=1, keepdims=True)
    evidence = weights.sum(axis=1, keepdims=True)
    mean = np.where(seen > 0, total.sum(axis=1, keepdims=True) / np.maximum(seen, MIN_SEEN), neutral)
    common = neutral + (mean - neutral) * evidence / (evidence + prior_strength)
    local = (total + prior_strength * common) / (support + prior_strength)
    return (
        np.concatenate([local, common], axis=1),
        np.concatenate([support, np.zeros_like(common)], axis=1),
    )
