"""KernelHeads: deviations of many cores from what is expected of them, learned together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.estimates import FloatArray
from eccos_aios.predict.features import Features
from eccos_aios.predict.kernel_ridge import LandmarkKernel, Mask, Matrix

COMMON_PENALTY = 4.0  # noise over signal of what all cores have in common: how hard a call is
OWN_PENALTY = 8.0  # likewise of what one core has for itself


class KernelHeads:
    """Kernel ridge regression of every core's deviation, split into a common part and the core's own.

    The common part learns from all cores' outcomes, so a core with five records still knows which calls
    are hard, and its own part stays near zero until its records say otherwise.

    Parameters
    ----------
    kernel : LandmarkKernel
        Fitted; shared by several heads.
    coordinates : ndarray of shape (records, rank)
        As the kernel's `fit` returned them.
    """

    def __init__(self, kernel: LandmarkKernel, coordinates: Matrix) -> None:
        self._kernel = kernel
        self._coordinates = coordinates

    def fit(self, deviation: FloatArray) -> Matrix:
        """Coefficients on the landmarks, shape (landmarks, cores + 1); the last column is the common part.

        Parameters
        ----------
        deviation : ndarray of shape (records, cores)
            NaN where unknown.
        """
        everywhere = np.ones((len(deviation), 1), dtype=np.bool_)
        common, own = self._solve(deviation, everywhere)
        return np.asarray(self._kernel.turn_ @ np.hstack([own + common, common]), dtype=np.float32)

    def predict_left_out(self, deviation: FloatArray, fold: NDArray[np.int64]) -> FloatArray:
        """What each record would have been given without its fold, shape (records, cores)."""
        folds = int(fold.max(initial=-1)) + 1
        taught = fold[:, None] != np.arange(folds)
        common, own = self._solve(deviation, taught)
        cores = deviation.shape[1]
        result = np.zeros(deviation.shape)
        for left_out in range(folds):
            rows = fold == left_out
            weights = own[:, left_out * cores : (left_out + 1) * cores] + common[:, left_out, None]
            result[rows] = self._coordinates[rows] @ weights
        return result

    def _solve(self, deviation: FloatArray, taught: Mask) -> tuple[Matrix, Matrix]:
        """Weights of the common part, (rank, splits), and of the own parts, (rank, splits x cores)."""
        known = ~np.isnan(deviation)
        some = known.any(axis=1, keepdims=True)
        common = np.where(known, deviation, 0.0).sum(axis=1, keepdims=True) / np.maximum(
            known.sum(axis=1, keepdims=True), 1
        )
        splits = taught.shape[1]
        common_weights = self._masked_solve(np.tile(common, splits), some & taught, COMMON_PENALTY)
        expected = self._coordinates @ common_weights
        count = np.maximum(known.sum(axis=1, keepdims=True), 1)
        shared = expected + (common - expected) * (count - 1) / count
        own = np.where(known, deviation, 0.0)[:, None, :] - shared[:, :, None]
        own = np.where(known[:, None, :], own, 0.0).reshape(len(deviation), splits * known.shape[1])
        return (
            common_weights,
            self._masked_solve(
                own,
                np.tile(known, splits) & np.repeat(taught, known.shape[1], axis=1),
                OWN_PENALTY,
            ),
        )

    def _masked_solve(self, targets: FloatArray, known: Mask, penalty: float) -> Matrix:
        masked = np.where(known, targets, 0.0).astype(np.float32)
        return self._kernel.solve(self._coordinates, masked, known, penalty)


def apply_heads(similarity: Features, coefficients: Matrix) -> FloatArray:
    """Deviations of calls, shape (calls, cores + 1)."""
    return np.asarray(similarity @ coefficients, dtype=np.float64)
