"""Embedder: texts -> unit vectors; TF-IDF and truncated SVD by default."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from eccos_aios.predict.terms import BUCKETS, count_terms, few_buckets

Vectors = NDArray[np.float32]
EmbedderT = TypeVar("EmbedderT", bound="Embedder")

log = logging.getLogger(__name__)

_FAILED = "the embedder failed; where it does, estimates go by the means per core"

MAX_TERMS = 60_000  # kept, the most frequent; 60,000 x 128 float32 are 31 MB
FEW_TEXTS = 8  # a call or a few, each with its tools
LEAST_LENGTH = 1e-6  # of a vector; a shorter one counts as 0
SMALL_CORPUS = 400  # texts; up to here an exact dense SVD is quicker than the randomised one


class Embedder(ABC):
    """Turns texts into vectors whose inner product says how alike they are."""

    @abstractmethod
    def fit(self: EmbedderT, texts: Sequence[str]) -> EmbedderT:
        """Learn from `texts` (there may be none)."""

    @abstractmethod
    def transform(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (texts, dimensions), each of length 1, or 0 where nothing in a text is known."""


class TfidfEmbedder(Embedder):
    """Hashed words, pairs and word beginnings, TF-IDF weighted, reduced by truncated SVD (LSA).

    Parameters
    ----------
    dimensions : int
        At most so many; fewer where the corpus has fewer.
    """

    def __init__(self, dimensions: int = 128) -> None:
        self.dimensions = dimensions

    def fit(self, texts: Sequence[str]) -> TfidfEmbedder:
        counts = count_terms(texts)
        frequency = np.bincount(counts.indices, minlength=BUCKETS)
        kept = _kept_terms(frequency, len(texts))
        self.buckets_ = kept.astype(np.int32)
        self.restore()
        # idf as scikit-learn's TfidfTransformer smooths it
        self.idf_ = (np.log((1 + len(texts)) / (1 + frequency[kept])) + 1).astype(np.float32)
        self.projection_ = _projection(self._weighted(counts), self.dimensions)
        return self

    def transform(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.projection_.shape[1]), dtype=np.float32)
        if len(texts) <= FEW_TEXTS:
            return self._transform_few(texts)
        return unit_rows(np.asarray(self._weighted(count_terms(texts)) @ self.projection_))

    def _transform_few(self, texts: Sequence[str]) -> Vectors:
        """The same without a sparse matrix, whose making takes longer than the product with it."""
        vectors = np.zeros((len(texts), self.projection_.shape[1]), dtype=np.float32)
        rows, buckets = few_buckets(texts)
        columns = self._column.take(buckets)
        # a number for each term of each text, ascending by text; the unknown terms' are below 0
        terms = np.where(columns < 0, -1, columns + rows * len(self.buckets_))
        terms.sort()
        terms = terms[terms.searchsorted(0) :]
        if not terms.size:
            return vectors
        firsts = np.concatenate([[True], terms[1:] != terms[:-1]]).nonzero()[0]
        counts = np.concatenate([firsts[1:], [len(terms)]]) - firsts
        terms = terms.take(firsts)
        ends = terms.searchsorted(np.arange(len(texts) + 1) * len(self.buckets_)).tolist()
        own = terms % len(self.buckets_)
        weights = (1 + np.log(counts, dtype=np.float32)) * self.idf_.take(own)
        directions = self.projection_.take(own, axis=0)
        for row, (start, end) in enumerate(pairwise(ends)):
            weight = weights[start:end]
            projected = np.einsum("k,kd->d", weight, directions[start:end])
            # Rows of the sparse matrix have length 1; only so is a length compared with what counts as 0.
            length = math.sqrt(np.einsum("d,d->", projected, projected))
            if length > LEAST_LENGTH * math.sqrt(np.einsum("k,k->", weight, weight)):
                vectors[row] = projected / length
        return vectors

    def restore(self) -> None:
        """Rebuild from the fitted arrays what can be told from them; one that was never fitted has none."""
        if not hasattr(self, "buckets_"):
            return
        self._column = np.full(BUCKETS, -1, dtype=np.int32)
        self._column[self.buckets_] = np.arange(len(self.buckets_), dtype=np.int32)

    def _weighted(self, counts: csr_matrix) -> csr_matrix:
        """Sublinear TF times IDF of the kept terms, rows of length 1, shape (texts, kept terms)."""
        columns = self._column[counts.indices]
        known = columns >= 0
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[known]
        columns = columns[known]
        values = (1 + np.log(counts.data[known])) * self.idf_[columns]
        squares = np.bincount(rows, weights=values**2, minlength=counts.shape[0])
        values = (values / np.sqrt(squares)[rows]).astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=counts.shape[0]))])
        return csr_matrix((values, columns, starts), shape=(counts.shape[0], len(self.buckets_)))


class GuardedEmbedder(Embedder):
    """Keeps an embedder's faults from the kernel: where it raises, nothing is known, and priors speak.

    The first fault is logged with its cause; a text whose embedding failed has a vector of zeros.

    Parameters
    ----------
    inner : Embedder
    """

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner
        self.width = 1
        self.failed = False

    def fit(self, texts: Sequence[str]) -> GuardedEmbedder:
        try:
            self.width = self.inner.fit(texts).transform(["probe"]).shape[1]
        except Exception:
            log.warning(_FAILED, exc_info=True)
            # vectors of another width could not be compared with the history's, so it stays off
            self.inner, self.width = NoEmbedder(), 1
        return self

    def transform(self, texts: Sequence[str]) -> Vectors:
        try:
            return self.inner.transform(texts)
        except Exception:
            if not self.failed:
                self.failed = True
                log.warning(_FAILED, exc_info=True)
            return np.zeros((len(texts), self.width), dtype=np.float32)


class NoEmbedder(Embedder):
    """Knows nothing of any text."""

    def fit(self, texts: Sequence[str]) -> NoEmbedder:
        return self

    def transform(self, texts: Sequence[str]) -> Vectors:
        return np.zeros((len(texts), 1), dtype=np.float32)


def _kept_terms(frequency: NDArray[np.int64], texts: int) -> NDArray[np.int64]:
    """Terms that at least two texts share; in a small corpus, all that occur."""
    kept = np.flatnonzero(frequency >= (2 if texts > SMALL_CORPUS else 1))
    if len(kept) > MAX_TERMS:
        kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[:MAX_TERMS]])
    return kept


def _projection(weighted: csr_matrix, dimensions: int) -> Vectors:
    """Right singular vectors as columns, shape (terms, dimensions)."""
    texts, terms = weighted.shape
    if min(texts, terms) == 0:
        return np.zeros((terms, 1), dtype=np.float32)
    if texts <= SMALL_CORPUS or terms <= dimensions:
        _, strength, right = np.linalg.svd(weighted.toarray(), full_matrices=False)
        kept = max(1, int((strength[:dimensions] > 1e-6 * max(strength[0], 1e-12)).sum()))
        return np.ascontiguousarray(right[:kept].T, dtype=np.float32)
    from sklearn.decomposition import TruncatedSVD

    reduction = TruncatedSVD(dimensions, n_iter=4, random_state=0).fit(weighted)
    return np.ascontiguousarray(reduction.components_.T, dtype=np.float32)


def unit_rows(vectors: NDArray[np.float32]) -> Vectors:
    """Rows of length 1; rows of no length stay 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(
        vectors, lengths, out=np.zeros_like(vectors, dtype=np.float32), where=lengths > LEAST_LENGTH
    )
