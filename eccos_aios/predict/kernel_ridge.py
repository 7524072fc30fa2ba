"""Kernel ridge regression on landmarks, for many cores with unknown cells at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.blas import product
from eccos_aios.predict.estimates import FloatArray
from eccos_aios.predict.features import Features

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]

JITTER = 1e-5  # added to the kernel matrix of the landmarks, which equal landmarks would make singular
STEPS = 60  # maximum, of conjugate gradients; complete histories need 1, those with unknown cells about 10
PRECISION = 1e-4  # relative residual at which the steps end

COMMON_PENALTY = 4.0  # noise variance over signal variance of the part that all cores share
OWN_PENALTY = 8.0  # likewise of a core's own part


class LandmarkKernel:
    """A Gaussian kernel on landmarks (Nyström), rotated so that its Gram matrix is diagonal.

    Landmarks make fitting linear in the number of records.

    Parameters
    ----------
    width : float
        ``exp(-width * squared distance)``.
    landmarks : int
        Maximum number of records drawn as landmarks.
    """

    def __init__(self, width: float, landmarks: int) -> None:
        self.width = width
        self.landmarks = landmarks

    def fit(self, features: Matrix) -> Matrix:
        """Choose landmarks; returns the records' coordinates, shape (records, rank)."""
        chosen = np.random.default_rng(0).permutation(len(features))[: self.landmarks]
        self.points_ = features[np.sort(chosen)]
        self.restore()
        between = self.similarity(self.points_).astype(np.float64)
        strength, directions = np.linalg.eigh(between + JITTER * np.eye(len(between)))
        whitening = directions / np.sqrt(np.maximum(strength, JITTER))
        coordinates = self.similarity(features) @ whitening.astype(np.float32)
        self.gram_, turn = np.linalg.eigh((coordinates.T @ coordinates).astype(np.float64))
        self.gram_ = np.maximum(self.gram_, 0.0)
        self.turn_ = (whitening @ turn).astype(np.float32)
        return np.asarray(coordinates @ turn.astype(np.float32), dtype=np.float32)

    def restore(self) -> None:
        """Recompute the landmarks' lengths from the fitted arrays."""
        self._lengths = np.einsum("nd,nd->n", self.points_, self.points_) * np.float32(self.width)

    def similarity(self, features: Matrix) -> Matrix:
        """Kernel values to the landmarks, shape (calls, landmarks)."""
        lengths = np.einsum("nd,nd->n", features, features) * np.float32(self.width)
        exponent = product(features, self.points_)
        exponent *= np.float32(2 * self.width)
        exponent -= lengths[:, None]
        exponent -= self._lengths
        np.minimum(exponent, 0, out=exponent)
        return np.asarray(np.exp(exponent, out=exponent), dtype=np.float32)

    def solve(self, coordinates: Matrix, targets: Matrix, known: Mask, penalty: float) -> Matrix:
        """Ridge weights per target, shape (rank, targets), by preconditioned conjugate gradients.

        Parameters
        ----------
        coordinates : ndarray of shape (records, rank)
            As `fit` returned them.
        targets : ndarray of shape (records, targets)
            0 if unknown.
        known : ndarray of bool, same shape
            The cells that count; a fold is left out by this mask.
        penalty : float
            On the squared weights: noise variance over signal variance.
        """
        coverage = known.sum(axis=0) / max(len(known), 1)
        inverse = (1.0 / (self.gram_[:, None] * coverage + penalty)).astype(np.float32)
        goal = coordinates.T @ targets
        weights = inverse * goal
        residual = goal - self._applied(coordinates, weights, known, penalty)
        scale = np.maximum(np.sqrt((goal**2).sum(axis=0)), 1e-12)
        direction = inverse * residual
        power = (residual * direction).sum(axis=0)
        for _ in range(STEPS):
            if (np.sqrt((residual**2).sum(axis=0)) <= PRECISION * scale).all():
                break
            applied = self._applied(coordinates, direction, known, penalty)
            step = power / np.maximum((direction * applied).sum(axis=0), 1e-30)
            weights += step * direction
            residual -= step * applied
            turned = inverse * residual
            grown = (residual * turned).sum(axis=0)
            direction = turned + direction * (grown / np.maximum(power, 1e-30))
            power = grown
        return np.asarray(weights, dtype=np.float32)

    @staticmethod
    def _applied(coordinates: Matrix, weights: Matrix, known: Mask, penalty: float) -> Matrix:
        fitted = coordinates @ weights
        fitted *= known
        return np.asarray(coordinates.T @ fitted + np.float32(penalty) * weights, dtype=np.float32)


class KernelHeads:
    """Kernel ridge regression of every core's deviation, as a common part plus the core's own part.

    The common part (how hard a call is) learns from the outcomes of all cores, so it serves a core with five
    records too; that core's own part stays near zero until it has more.

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
            NaN if unknown.
        """
        everywhere = np.ones((len(deviation), 1), dtype=np.bool_)
        common, own = self._solve(deviation, everywhere)
        return np.asarray(self._kernel.turn_ @ np.hstack([own + common, common]), dtype=np.float32)

    def predict_left_out(self, deviation: FloatArray, fold: NDArray[np.int64]) -> FloatArray:
        """Left-out prediction of each record, shape (records, cores)."""
        folds = int(fold.max(initial=-1)) + 1
        included = fold[:, None] != np.arange(folds)
        common, own = self._solve(deviation, included)
        cores = deviation.shape[1]
        result = np.zeros(deviation.shape)
        for left_out in range(folds):
            rows = fold == left_out
            weights = own[:, left_out * cores : (left_out + 1) * cores] + common[:, left_out, None]
            result[rows] = self._coordinates[rows] @ weights
        return result

    def _solve(self, deviation: FloatArray, included: Mask) -> tuple[Matrix, Matrix]:
        """Weights of the common part, (rank, splits), and of the own parts, (rank, splits x cores)."""
        known = ~np.isnan(deviation)
        some = known.any(axis=1, keepdims=True)
        common = np.where(known, deviation, 0.0).sum(axis=1, keepdims=True) / np.maximum(
            known.sum(axis=1, keepdims=True), 1
        )
        splits = included.shape[1]
        common_weights = self._masked_solve(np.tile(common, splits), some & included, COMMON_PENALTY)
        expected = self._coordinates @ common_weights
        count = np.maximum(known.sum(axis=1, keepdims=True), 1)
        shared = expected + (common - expected) * (count - 1) / count
        own = np.where(known, deviation, 0.0)[:, None, :] - shared[:, :, None]
        own = np.where(known[:, None, :], own, 0.0).reshape(len(deviation), splits * known.shape[1])
        return (
            common_weights,
            self._masked_solve(
                own,
                np.tile(known, splits) & np.repeat(included, known.shape[1], axis=1),
                OWN_PENALTY,
            ),
        )

    def _masked_solve(self, targets: FloatArray, known: Mask, penalty: float) -> Matrix:
        masked = np.where(known, targets, 0.0).astype(np.float32)
        return self._kernel.solve(self._coordinates, masked, known, penalty)


def apply_heads(similarity: Features, coefficients: Matrix) -> FloatArray:
    """Deviations of calls, shape (calls, cores + 1)."""
    return np.asarray(similarity @ coefficients, dtype=np.float64)
