"""Recent: the latest outcomes, searched beside a fit that has not seen them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.predict.estimates import FloatArray
from eccos_aios.predict.features import Features

CAPACITY = 2048  # records that are searched; what is older waits for the next fit
SHARPNESS = 6.0  # exponent of the similarity
CAUTION = 4.0  # records of similarity 1 at which their residuals weigh as much as the fit


@dataclass(frozen=True)
class Recent:
    """The latest records and what the fit got wrong on them.

    Vectors below `count` never change, so that whoever asks `LikeCalls` may read them while another of
    these grows. What is predicted and what came are read and written by whoever learns, alone.

    Attributes
    ----------
    vectors : ndarray of shape (room, dimensions)
    predicted, quality : ndarray of shape (room, cores)
        What the fit predicted and what came of it; NaN where unknown.
    count : int
        Rows that are taken.
    first : int
        The number of the record in the first row; records are numbered as they came, from 0 on.
    """

    vectors: Features
    predicted: FloatArray
    quality: FloatArray
    count: int
    first: int = 0

    @staticmethod
    def none(dimensions: int) -> Recent:
        """No records yet."""
        return Recent(np.zeros((0, dimensions), dtype=np.float32), np.zeros((0, 0)), np.zeros((0, 0)), 0)

    def with_rows(self, vectors: Features, predicted: FloatArray, quality: FloatArray) -> Recent:
        """Together with newer rows; they may have further cores in their last columns."""
        rows, cores = quality.shape
        grown = self
        if self.count + rows > len(self.vectors) or cores > self.quality.shape[1]:
            grown = self._with_room(rows, cores)
        after = slice(grown.count, grown.count + rows)
        grown.vectors[after], grown.predicted[after], grown.quality[after] = vectors, predicted, quality
        return replace(grown, count=after.stop)

    def corrected(self, number: int, vector: Features, predicted: FloatArray, quality: FloatArray) -> Recent:
        """With other outcomes of a record, by its number; one that is no longer searched stays as it is.

        Parameters
        ----------
        number : int
        vector : ndarray of shape (dimensions,)
        predicted, quality : ndarray of shape (cores,)
            As in `with_rows`; a quality that is NaN leaves what is known of that core.
        """
        row = number - self.first
        if not max(0, self.count - CAPACITY) <= row < self.count:
            return self
        grown = self if len(quality) <= self.quality.shape[1] else self._with_room(0, len(quality))
        row = number - grown.first
        known = ~np.isnan(quality)
        grown.predicted[row] = predicted
        grown.quality[row, known] = quality[known]
        if np.allclose(grown.vectors[row], vector, atol=1e-4):  # embedded alone or among others
            return grown
        vectors = grown.vectors.copy()
        vectors[row] = vector
        return replace(grown, vectors=vectors)

    def residual(self, lost: FloatArray, won: FloatArray) -> LikeCalls:
        """What the fit got wrong beyond the changes of the cores, to be asked for like calls."""
        taken = slice(max(0, self.count - CAPACITY), self.count)
        expected = changed(self.predicted[taken], lost, won)
        known = ~np.isnan(self.quality[taken])
        residual = np.where(known, self.quality[taken] - expected, 0.0)
        return LikeCalls(self.vectors[taken], residual, known.astype(np.float64))

    def _with_room(self, rows: int, cores: int) -> Recent:
        kept = slice(max(0, self.count - CAPACITY), self.count)
        count = kept.stop - kept.start
        room = 2 * (count + rows) + 64
        vectors = np.zeros((room, self.vectors.shape[1]), dtype=np.float32)
        vectors[:count] = self.vectors[kept]
        predicted, quality = np.full((room, cores), np.nan), np.full((room, cores), np.nan)
        predicted[:count, : self.predicted.shape[1]] = self.predicted[kept]
        quality[:count, : self.quality.shape[1]] = self.quality[kept]
        return Recent(vectors, predicted, quality, count, self.first + kept.start)


@dataclass(frozen=True)
class LikeCalls:
    """The recent records as they are asked; nothing in it changes.

    Attributes
    ----------
    vectors : ndarray of shape (records, dimensions)
    residual, known : ndarray of shape (records, cores)
        `residual` is 0 and `known` is 0 where the outcome is unknown.
    """

    vectors: Features
    residual: FloatArray
    known: FloatArray

    def expected(self, vectors: Features) -> FloatArray:
        """Residual of calls, shape (calls, cores).

        The mean over the records, weighed by ``max(similarity, 0) ** SHARPNESS`` and drawn towards 0 by
        `CAUTION`. Measured on qa9 and tools12, a quarter of new records beside a fit: sharpness 3 cost up to
        0.0036 of Brier score after complete records, this never above 0.0001, and it gained up to 0.0008.
        """
        similarity = np.clip(vectors @ self.vectors.T, 0.0, 1.0).astype(np.float64)
        weight = similarity**SHARPNESS
        return np.asarray(weight @ self.residual / (weight @ self.known + CAUTION), dtype=np.float64)


def changed(quality: FloatArray, lost: FloatArray, won: FloatArray) -> FloatArray:
    """Qualities, shape (calls, cores), of cores that lost and won parts, shape (cores,) each."""
    return np.asarray(quality + lost * quality + won * (1.0 - quality), dtype=np.float64)
