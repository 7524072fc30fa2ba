"""TfidfEmbedder: TF-IDF and truncated SVD. The default."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from eccos_aios.predict.embedders.base import MIN_LENGTH, Embedder, Vectors, unit_rows
from eccos_aios.predict.encoded import digest_of
from eccos_aios.predict.terms import BUCKETS, count_terms, few_buckets

MAX_TERMS = 60_000  # of the vocabulary, the most frequent; 60,000 x 128 float32 are 31 MB
UNKNOWN = -(2**30)  # in place of a column: stays negative whatever a few texts add to it
FEW_TEXTS = 8  # a call or a few, each with its tools
SMALL_CORPUS = 400  # texts; up to here an exact SVD is faster than the randomised one


class TfidfEmbedder(Embedder):
    """Hashed words, pairs and word beginnings, TF-IDF weighted, reduced by truncated SVD (LSA).

    Parameters
    ----------
    dimensions : int
        Maximum; a small corpus has fewer.
    """

    def __init__(self, dimensions: int = 128) -> None:
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, not {dimensions}")
        self.dimensions = dimensions

    def fit(self, texts: Sequence[str]) -> TfidfEmbedder:
        counts = count_terms(texts)
        frequency = np.bincount(counts.indices, minlength=BUCKETS)
        vocabulary = _vocabulary(frequency, len(texts))
        self.buckets_ = vocabulary.astype(np.int32)
        self._column = _columns(self.buckets_)
        # idf as scikit-learn's TfidfTransformer smooths it
        self.idf_ = (np.log((1 + len(texts)) / (1 + frequency[vocabulary])) + 1).astype(np.float32)
        self.projection_ = _projection(self._weighted(counts), self.dimensions)
        self.restore()
        return self

    def transform(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.projection_.shape[1]), dtype=np.float32)
        if len(texts) <= FEW_TEXTS:
            return self._transform_few(texts)
        return unit_rows(np.asarray(self._weighted(count_terms(texts)) @ self.projection_))

    def _transform_few(self, texts: Sequence[str]) -> Vectors:
        """The same without a sparse matrix: building one takes longer than multiplying by it."""
        vectors = np.zeros((len(texts), self.projection_.shape[1]), dtype=np.float32)
        rows, buckets = few_buckets(texts)
        columns = self._column.take(buckets)
        # a number for each term of each text, ascending by text; negative for unknown terms
        terms = columns + rows * len(self.buckets_)
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
            # the rows of the sparse matrix have length 1, and the threshold is meant for those
            length = math.sqrt(np.einsum("d,d->", projected, projected))
            if length > MIN_LENGTH * math.sqrt(np.einsum("k,k->", weight, weight)):
                vectors[row] = projected / length
        return vectors

    def restore(self) -> None:
        """Rebuild the lookup table and the digest from the fitted arrays, if there are any."""
        if not hasattr(self, "buckets_"):
            return
        self._column = _columns(self.buckets_)
        self._digest = digest_of(self.buckets_, self.idf_, self.projection_)

    def sharing_key(self) -> Hashable:
        return type(self), self._digest

    def _weighted(self, counts: csr_matrix) -> csr_matrix:
        """Sublinear TF times IDF of the vocabulary, rows of length 1, shape (texts, vocabulary)."""
        columns = self._column[counts.indices]
        known = columns >= 0
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[known]
        columns = columns[known]
        values = (1 + np.log(counts.data[known])) * self.idf_[columns]
        squares = np.bincount(rows, weights=values**2, minlength=counts.shape[0])
        values = (values / np.sqrt(squares)[rows]).astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=counts.shape[0]))])
        return csr_matrix((values, columns, starts), shape=(counts.shape[0], len(self.buckets_)))


def _columns(buckets: NDArray[np.int32]) -> NDArray[np.int32]:
    """The column of each bucket; `UNKNOWN` for one that is not in the vocabulary."""
    columns = np.full(BUCKETS, UNKNOWN, dtype=np.int32)
    columns[buckets] = np.arange(len(buckets), dtype=np.int32)
    return columns


def _vocabulary(frequency: NDArray[np.int64], texts: int) -> NDArray[np.int64]:
    """Buckets of the terms that at least two texts share; in a small corpus, of all terms."""
    chosen = np.flatnonzero(frequency >= (2 if texts > SMALL_CORPUS else 1))
    if len(chosen) > MAX_TERMS:
        chosen = np.sort(chosen[np.argsort(-frequency[chosen], kind="stable")[:MAX_TERMS]])
    return chosen


def _projection(weighted: csr_matrix, dimensions: int) -> Vectors:
    """Right singular vectors as columns, shape (terms, dimensions)."""
    texts, terms = weighted.shape
    if min(texts, terms) == 0:
        return np.zeros((terms, 1), dtype=np.float32)
    if texts <= SMALL_CORPUS or terms <= dimensions:
        return _exact_projection(weighted.astype(np.float64), dimensions)
    from sklearn.decomposition import TruncatedSVD

    reduction = TruncatedSVD(dimensions, n_iter=4, random_state=0).fit(weighted)
    return np.ascontiguousarray(reduction.components_.T, dtype=np.float32)


def _exact_projection(weighted: csr_matrix, dimensions: int) -> Vectors:
    """The same from the eigenvectors of the smaller Gram matrix; an SVD takes many times as long."""
    texts, terms = weighted.shape
    gram = weighted @ weighted.T if texts <= terms else weighted.T @ weighted
    squares, vectors = np.linalg.eigh(gram.toarray())
    strength = np.sqrt(np.maximum(squares[::-1][:dimensions], 0.0))
    rank = max(1, int((strength > 1e-6 * max(strength[0], 1e-12)).sum()))
    vectors = vectors[:, ::-1][:, :rank]
    if texts <= terms:
        vectors = weighted.T @ vectors / np.maximum(strength[:rank], 1e-12)
    return np.ascontiguousarray(vectors, dtype=np.float32)
