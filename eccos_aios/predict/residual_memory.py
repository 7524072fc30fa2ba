"""ResidualMemory: the errors of the fit on the latest outcomes, which correct similar calls."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.predict.blas import product
from eccos_aios.predict.estimates import FloatArray
from eccos_aios.predict.features import Features

CAPACITY = 2048  # records that are searched; older ones wait for the next fit
SHARPNESS = 6.0  # exponent of the similarity
PRIOR_STRENGTH = 4.0  # records of similarity 1 at which their residuals are corrected by half


@dataclass(frozen=True)
class ResidualMemory:
    """The latest records, with predicted and actual quality.

    Vectors below `count` never change, so that readers of a `ResidualSnapshot` share them while newer rows
    are added. Only the learning thread reads and writes `predicted` and `quality`.

    Attributes
    ----------
    vectors : ndarray of shape (capacity, dimensions)
    predicted, quality : ndarray of shape (capacity, cores)
        By the fit, and as graded; NaN if unknown.
    count : int
        Rows in use.
    first : int
        Number of the record in the first row; records are numbered in order of arrival, from 0.
    """

    vectors: Features
    predicted: FloatArray
    quality: FloatArray
    count: int
    first: int = 0

    @staticmethod
    def empty(dimensions: int) -> ResidualMemory:
        """Without records."""
        return ResidualMemory(
            np.zeros((0, dimensions), dtype=np.float32), np.zeros((0, 0)), np.zeros((0, 0)), 0
        )

    def with_rows(self, vectors: Features, predicted: FloatArray, quality: FloatArray) -> ResidualMemory:
        """With newer rows appended; their last columns may be those of further cores."""
        rows, cores = quality.shape
        grown = self
        if self.count + rows > len(self.vectors) or cores > self.quality.shape[1]:
            grown = self._with_capacity(rows, cores)
        after = slice(grown.count, grown.count + rows)
        grown.vectors[after], grown.predicted[after], grown.quality[after] = vectors, predicted, quality
        return replace(grown, count=after.stop)

    def corrected(
        self, number: int, vector: Features, predicted: FloatArray, quality: FloatArray
    ) -> ResidualMemory:
        """With a record's outcomes replaced; no change if the record is no longer searched.

        Parameters
        ----------
        number : int
        vector : ndarray of shape (dimensions,)
        predicted, quality : ndarray of shape (cores,)
            As in `with_rows`; where the quality is NaN, that core's stored value stays.
        """
        row = number - self.first
        if not max(0, self.count - CAPACITY) <= row < self.count:
            return self
        grown = self if len(quality) <= self.quality.shape[1] else self._with_capacity(0, len(quality))
        row = number - grown.first
        known = ~np.isnan(quality)
        grown.predicted[row] = predicted
        grown.quality[row, known] = quality[known]
        if np.allclose(grown.vectors[row], vector, atol=1e-4):  # equal but for batching
            return grown
        vectors = grown.vectors.copy()
        vectors[row] = vector
        return replace(grown, vectors=vectors)

    def residuals(self, lost: FloatArray, won: FloatArray) -> ResidualSnapshot:
        """The errors of the fit beyond the changes of the cores."""
        rows = slice(max(0, self.count - CAPACITY), self.count)
        expected = changed(self.predicted[rows], lost, won)
        known = ~np.isnan(self.quality[rows])
        residual = np.where(known, self.quality[rows] - expected, 0.0)
        return ResidualSnapshot(self.vectors[rows], residual, known.astype(np.float64))

    def _with_capacity(self, rows: int, cores: int) -> ResidualMemory:
        rows_used = slice(max(0, self.count - CAPACITY), self.count)
        count = rows_used.stop - rows_used.start
        capacity = 2 * (count + rows) + 64
        vectors = np.zeros((capacity, self.vectors.shape[1]), dtype=np.float32)
        vectors[:count] = self.vectors[rows_used]
        predicted, quality = np.full((capacity, cores), np.nan), np.full((capacity, cores), np.nan)
        predicted[:count, : self.predicted.shape[1]] = self.predicted[rows_used]
        quality[:count, : self.quality.shape[1]] = self.quality[rows_used]
        return ResidualMemory(vectors, predicted, quality, count, self.first + rows_used.start)


@dataclass(frozen=True)
class ResidualSnapshot:
    """The residuals as `predict` reads them; immutable.

    Attributes
    ----------
    vectors : ndarray of shape (records, dimensions)
    residual, known : ndarray of shape (records, cores)
        Both are 0 if the outcome is unknown.
    """

    vectors: Features
    residual: FloatArray
    known: FloatArray

    def expected(self, vectors: Features) -> FloatArray:
        """Expected residual of calls, shape (calls, cores).

        The mean over the records with weights ``max(similarity, 0) ** SHARPNESS``, shrunk towards 0 by
        `PRIOR_STRENGTH`.
        """
        similarity = np.clip(product(vectors, self.vectors), 0.0, 1.0).astype(np.float64)
        weight = similarity**SHARPNESS
        return np.asarray(weight @ self.residual / (weight @ self.known + PRIOR_STRENGTH), dtype=np.float64)


def changed(quality: FloatArray, lost: FloatArray, won: FloatArray) -> FloatArray:
    """Quality after changes: `quality` (calls, cores), the parts `lost` and `won` (cores,) as in `Drift`."""
    return np.asarray(quality + lost * quality + won * (1.0 - quality), dtype=np.float64)
