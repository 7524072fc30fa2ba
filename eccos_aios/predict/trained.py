"""TrainedPredictor (ECCOS-T): quality and length heads trained on the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.base import EmbeddingPredictor
from eccos_aios.predict.blas import one_blas_thread, product
from eccos_aios.predict.category import CategoryHead, category_labels, category_means
from eccos_aios.predict.core_prior import CoreExperience
from eccos_aios.predict.dataset import (
    Outcomes,
    core_positions,
    core_priors,
    outcomes_of,
    query_groups,
    sample_of,
)
from eccos_aios.predict.embedders.base import Embedder, Vectors
from eccos_aios.predict.encoded import digest_of, encoding_of
from eccos_aios.predict.estimates import Estimates, FloatArray
from eccos_aios.predict.features import ShapeScale, embed_calls, fitted_embedder, guarded
from eccos_aios.predict.forest import MIN_IN_LEAF, Forest, grow_forest
from eccos_aios.predict.kernel_ridge import KernelHeads, LandmarkKernel, Matrix, apply_heads
from eccos_aios.predict.text import CallText

KERNEL_WIDTH = 0.8
LANDMARKS = 1000
FOLDS = 10  # of the history, for left-out predictions
FOREST_FOLDS = 5  # for the trees, which take longer; each joins two of the folds
MAX_STRETCH = 8.0  # how far a predicted length may lie from the core's mean, as a factor

Folds = NDArray[np.int64]


class _Encoded(NamedTuple):
    """What the heads need to know of calls; trained predictors of the same records share it.

    Attributes
    ----------
    features : ndarray of shape (calls, features)
    similarity : ndarray of shape (calls, landmarks)
    categories : ndarray of shape (calls, categories)
        Probabilities; no columns where there is no `CategoryHead`.
    """

    features: Matrix
    similarity: Matrix
    categories: FloatArray


class TrainedPredictor(EmbeddingPredictor):
    """Quality and length heads on a call's features.

    Quality is the core's mean, plus the effect of the call's category (`CategoryHead`), plus the residual:
    the average of kernel ridge regression (`KernelHeads`) and extremely randomised trees (`Forest`). The
    residual is that of left-out category predictions, so that nothing is learned twice. Lengths are
    regressed on the log scale and brought back to the mean of the tokens.

    `support` is the number of records that name the core: all of them shaped its head.

    Parameters
    ----------
    embedder : Embedder, optional
        Default: `TfidfEmbedder`. A history without texts uses `HashedEmbedder` instead.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder = guarded(embedder)

    def fit(self, history: Sequence[Record], fitted: Embedder | None = None) -> TrainedPredictor:
        """As in `Predictor`; with `fitted` an embedder that is fitted already, in place of its own."""
        outcomes = outcomes_of(sample_of(history))
        with one_blas_thread():
            self.embedder_ = fitted or fitted_embedder(self.embedder, outcomes.calls)
            return self.fit_outcomes(outcomes, embed_calls(outcomes.calls, self.embedder_))

    def fit_outcomes(self, outcomes: Outcomes, vectors: Vectors) -> TrainedPredictor:
        """Learn from outcomes whose calls have been embedded.

        Sets `left_out_`, the left-out quality of every record, shape (records, cores).
        """
        self.cores_ = outcomes.cores
        self.priors_ = core_priors(outcomes)
        self.known_ = np.append((~np.isnan(outcomes.quality)).sum(axis=0), 0).astype(np.float64)
        self.shape_ = ShapeScale().fit(outcomes.calls)
        features = np.hstack([vectors, self.shape_.transform(outcomes.calls)])
        fold = folds_of(outcomes.calls)
        labels, count = category_labels(outcomes.categories)
        deviation = outcomes.quality - self.priors_.quality[:-1]
        by_category = self._fit_categories(features, labels, count, deviation, fold)
        residual = deviation - by_category

        self.kernel_ = LandmarkKernel(KERNEL_WIDTH, LANDMARKS)
        heads = KernelHeads(self.kernel_, self.kernel_.fit(features))
        self.quality_heads_ = heads.fit(residual)
        by_kernel = heads.predict_left_out(residual, fold)
        whole = _filled(residual, by_kernel)
        self.forest_ = _forest(features, whole)
        if self.forest_ is not None:
            by_kernel = (by_kernel + _forest_left_out(features, whole, fold)) / 2
        self.left_out_ = self.priors_.quality[:-1] + by_category + by_kernel
        self._fit_lengths(outcomes, heads, features)
        self.restore()
        return self

    def experience(self, cores: Sequence[str]) -> CoreExperience:
        return CoreExperience.of(self.priors_, self.cores_, cores)

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        return self.predict_embedded(calls, embed_calls(calls, self.embedder_), cores)

    def predict_embedded(
        self, calls: Sequence[CallText], vectors: Vectors, cores: Sequence[str]
    ) -> Estimates:
        quality, input_tokens, output_tokens = self.estimate(calls, vectors)
        columns = core_positions(self.cores_, tuple(cores))
        return Estimates(
            quality=np.clip(quality[:, columns], 0.0, 1.0),
            input_tokens=input_tokens[:, columns],
            output_tokens=output_tokens[:, columns],
            support=np.tile(self.known_[columns], (len(calls), 1)),
        )

    def estimate(
        self, calls: Sequence[CallText], vectors: Vectors
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Quality (not clipped), input and output tokens of embedded calls.

        Each of shape (calls, known cores + 1); the last column is for an unknown core.
        """
        encoded = self._encoded(calls, vectors)
        outputs = product(encoded.similarity, self._heads).astype(np.float64)
        width = len(self.cores_) + 1
        tokens = self._scales * _stretch(outputs[:, width:])
        tokens[:, :width] *= np.array([[call.input_tokens] for call in calls]).reshape(-1, 1)
        return self._quality(encoded, outputs[:, :width]), tokens[:, :width], tokens[:, width:]

    def estimate_quality(self, calls: Sequence[CallText]) -> FloatArray:
        """Quality alone, as `estimate` gives it."""
        encoded = self._encoded(calls, embed_calls(calls, self.embedder_))
        outputs = product(encoded.similarity, self._heads)  # all of them: BLAS rounds by the shape
        return self._quality(encoded, outputs[:, : len(self.cores_) + 1].astype(np.float64))

    def _quality(self, encoded: _Encoded, by_kernel: FloatArray) -> FloatArray:
        found = by_kernel
        if self.forest_ is not None:
            found = (found + self.forest_.predict(encoded.features)) / 2
        if self.category_ is not None:
            found += encoded.categories @ self.category_means_
        return self.priors_.quality + found

    def _encoded(self, calls: Sequence[CallText], vectors: Vectors) -> _Encoded:
        def encode() -> _Encoded:
            features = np.concatenate([vectors, self.shape_.transform(calls)], axis=1)
            none = np.zeros((len(calls), 0))
            categories = none if self.category_ is None else self.category_.predict(features)
            return _Encoded(features, self.kernel_.similarity(features), categories)

        return _Encoded(*encoding_of(calls, self._key, encode))

    def restore(self) -> None:
        """Concatenate the heads of the fitted arrays, for one product, and make the sharing key."""
        heads = np.hstack([self.quality_heads_, self.input_heads_, self.output_heads_])
        self._heads = np.ascontiguousarray(heads.T)
        self._scales = np.concatenate([self.input_scale_, self.output_scale_])
        parts = [self.shape_.mean_, self.shape_.spread_, self.kernel_.points_, np.array(self.kernel_.width)]
        if self.category_ is not None:
            parts += [self.category_.weights_, self.category_.bias_]
        self._key = "features", self.embedder_.sharing_key(), digest_of(*parts)

    def _fit_categories(
        self, features: Matrix, labels: Folds, count: int, deviation: FloatArray, fold: Folds
    ) -> FloatArray:
        """Left-out effect of the categories on each record, shape (records, cores)."""
        effect = np.zeros_like(deviation)
        self.category_: CategoryHead | None = None
        self.category_means_ = np.zeros((count, deviation.shape[1] + 1))
        if count < 2 or not deviation.size:
            return effect
        for left_out in range(int(fold.max()) + 1):
            rows = fold == left_out
            seen = np.where(rows, -1, labels)
            if (seen < 0).all():
                continue
            head = CategoryHead().fit(features, seen, count)
            effect[rows] = head.predict(features[rows]) @ category_means(seen, count, deviation)
        self.category_ = CategoryHead().fit(features, labels, count)
        means = category_means(labels, count, deviation)
        self.category_means_ = np.hstack([means, means.mean(axis=1, keepdims=True)])
        return effect

    def _fit_lengths(self, outcomes: Outcomes, heads: KernelHeads, features: Matrix) -> None:
        own = np.array([max(call.input_tokens, 1.0) for call in outcomes.calls]).reshape(-1, 1)
        similarity = self.kernel_.similarity(features)
        ratio, output = self.priors_.input_ratio, self.priors_.output_tokens
        self.input_heads_, self.input_scale_ = _length_head(
            outcomes.input_tokens, own, ratio, heads, similarity
        )
        self.output_heads_, self.output_scale_ = _length_head(
            outcomes.output_tokens, np.ones_like(own), output, heads, similarity
        )


def _filled(residual: FloatArray, expected: FloatArray) -> FloatArray:
    """Fill unknown cells with the expected value, plus the mean surprise of the record's known cells.

    Rows without a known cell stay unknown.
    """
    known = ~np.isnan(residual)
    count = known.sum(axis=1, keepdims=True)
    surprise = np.where(known, residual - expected, 0.0).sum(axis=1, keepdims=True) / (count + 1)
    return np.where(known | (count == 0), residual, expected + surprise)


def _forest(features: Matrix, residual: FloatArray) -> Forest | None:
    """Trees on the residual of every core and, as the last target, on the mean over the cores."""
    some = ~np.isnan(residual).all(axis=1) if residual.size else np.zeros(len(residual), dtype=np.bool_)
    if some.sum() < 2 * MIN_IN_LEAF:
        return None
    common = residual[some].mean(axis=1, keepdims=True)
    return grow_forest(features[some], np.hstack([residual[some], common]))


def _forest_left_out(features: Matrix, residual: FloatArray, fold: Folds) -> FloatArray:
    result = np.zeros_like(residual)
    for left_out in range(FOREST_FOLDS):
        rows = fold % FOREST_FOLDS == left_out
        forest = _forest(features[~rows], residual[~rows])
        if forest is not None and rows.any():
            result[rows] = forest.predict(features[rows])[:, :-1]
    return result


def folds_of(calls: Sequence[CallText]) -> Folds:
    """A fold per call; calls of the same query share one, or they would give each other away."""
    group = query_groups(calls)
    shuffled = np.random.default_rng(0).permutation(int(group.max(initial=-1)) + 1) % FOLDS
    return np.asarray(shuffled[group], dtype=np.int64)


def _length_head(
    tokens: FloatArray,
    own: FloatArray,
    expected: FloatArray,
    heads: KernelHeads,
    similarity: Matrix,
) -> tuple[Matrix, FloatArray]:
    """Coefficients of the log deviation, and the smearing factor times the mean tokens, per core + 1."""
    base = np.maximum(expected[:-1], 1e-3) * own
    known = ~np.isnan(tokens)
    deviation = np.where(known, np.log((np.where(known, tokens, 1.0) + 1.0) / (base + 1.0)), np.nan)
    coefficients = heads.fit(deviation)
    fitted = base * _stretch(apply_heads(similarity, coefficients)[:, :-1])
    # the mean of an exponential exceeds the exponential of the mean: smearing estimate, Duan 1983
    strength = base.mean(axis=0) if len(base) else np.ones(base.shape[1])
    total = np.where(known, tokens, 0.0).sum(axis=0) + strength
    smearing = total / (np.where(known, fitted, 0.0).sum(axis=0) + strength)
    return coefficients, expected * np.append(smearing, 1.0)


def _stretch(log_deviation: FloatArray) -> FloatArray:
    most = np.log(MAX_STRETCH)
    return np.asarray(np.exp(np.minimum(np.maximum(log_deviation, -most), most)), dtype=np.float64)
