"""CategoryHead: the kind of a call, and each core's mean on that kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.estimates import FloatArray
from eccos_aios.predict.features import Features

MIN_RECORDS = 10  # of a category; smaller ones are merged into one
PRIOR_STRENGTH = 4.0  # records at which a category's own mean weighs as much as the core's
STEEPNESS = 4.0  # scale of the features in the logistic regression, whose penalty is 1
OTHER = "\0other"
MAX_STEPS = 200  # of the optimiser
TOLERANCE = 1e-3  # of the gradient, where the optimiser ends; 1e-4 takes twice the steps and gains nothing


class CategoryHead:
    """Multinomial logistic regression on the categories that records name.

    A new call needs no category: it gets probabilities. A history without categories does without the head.
    """

    def fit(self, features: Features, labels: NDArray[np.int64], count: int) -> CategoryHead:
        """Learn the categories 0..count-1; records labelled -1 have none."""
        from sklearn.linear_model import LogisticRegression

        named = labels >= 0
        self.weights_ = np.zeros((features.shape[1], count), dtype=np.float32)
        self.bias_ = np.full(count, -np.inf, dtype=np.float32)
        seen = np.unique(labels[named])
        if len(seen) < 2:
            self.bias_[seen] = 0.0
            return self
        model = LogisticRegression(C=1.0, max_iter=MAX_STEPS, tol=TOLERANCE)
        model.fit(features[named] * STEEPNESS, labels[named])
        weights, bias = model.coef_, model.intercept_
        if len(seen) == 2:  # scikit-learn then returns only the log-odds of the second
            weights, bias = np.vstack([0 * weights, weights]), np.append(0.0, bias)
        self.weights_[:, seen] = weights.T * STEEPNESS
        self.bias_[seen] = bias
        return self

    def predict(self, features: Features) -> FloatArray:
        """Probability of each category, shape (calls, categories)."""
        logits = (features @ self.weights_).astype(np.float64) + self.bias_
        odds = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
        return np.asarray(odds / np.add.reduce(odds, axis=1, keepdims=True), dtype=np.float64)


def category_labels(names: Sequence[str | None]) -> tuple[NDArray[np.int64], int]:
    """Labels of the categories (-1 for none), and the number of categories."""
    counts: dict[str, int] = {}
    for name in names:
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    merged = [name if name is None or counts[name] >= MIN_RECORDS else OTHER for name in names]
    position = {
        name: label for label, name in enumerate(sorted({name for name in merged if name is not None}))
    }
    labels = np.array([-1 if name is None else position[name] for name in merged], dtype=np.int64)
    return labels, len(position)


def category_means(labels: NDArray[np.int64], count: int, deviation: FloatArray) -> FloatArray:
    """Each core's mean deviation per category, shrunk towards 0, shape (categories, cores)."""
    member = (labels[:, None] == np.arange(count)).astype(np.float64)
    known = ~np.isnan(deviation)
    total = member.T @ np.where(known, deviation, 0.0)
    return np.asarray(total / (member.T @ known.astype(np.float64) + PRIOR_STRENGTH), dtype=np.float64)
