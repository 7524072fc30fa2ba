"""TrainedPredictor (ECCOS-T): a capability head and length heads, trained on the history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.base import Predictor
from eccos_aios.predict.category import CategoryHead, category_labels, category_means
from eccos_aios.predict.dataset import Outcomes, core_positions, core_priors, outcomes_of, query_groups
from eccos_aios.predict.embedders.base import Embedder, GuardedEmbedder, TfidfEmbedder, Vectors
from eccos_aios.predict.embedders.hashed import fitted_embedder
from eccos_aios.predict.estimates import Estimates, FloatArray
from eccos_aios.predict.features import ShapeScale, embed_calls
from eccos_aios.predict.forest import LEAST_IN_LEAF, Forest, grow_forest
from eccos_aios.predict.heads import KernelHeads, apply_heads
from eccos_aios.predict.kernel_ridge import LandmarkKernel, Matrix
from eccos_aios.predict.sample import sample_of
from eccos_aios.predict.text import CallText
from eccos_aios.predict.threads import one_blas_thread, product

KERNEL_WIDTH = 0.8
LANDMARKS = 1000
FOLDS = 10  # of the history, to predict each record without having seen it
FOREST_FOLDS = 5  # for the trees, which are slower to grow; each joins two of the folds
MOST_STRETCH = 8.0  # how far a predicted length may lie from the core's mean, as a factor

Folds = NDArray[np.int64]


class TrainedPredictor(Predictor):
    """Capability and length heads on a call's features.

    Capability is the core's mean, plus what the call's category tells (`CategoryHead`), plus what kernel
    ridge regression (`KernelHeads`) and extremely randomised trees find in the remainder, half and half;
    the remainder is taken of left-out predictions, so that the two do not learn the same twice. Lengths
    are regressed on the log scale and brought back to the means of the tokens.

    `support` is the number of records that know the core: every one of them shaped its head.

    Tried and left (5-fold, three shuffles; Brier score of the quality on qa9, on tools12; this one
    0.1578, 0.1127): neighbours alone 0.1680, 0.1360; ridge on the embedding 0.1691, 0.1283; extra-trees on
    embedding and shape 0.1625, 0.1196; kernel ridge alone 0.1634, 0.1192; a small perceptron 0.1651, 0.1257;
    categories alone 0.1604, 0.1165; remainder by kernel ridge alone 0.1580, 0.1127, by trees alone 0.1582,
    0.1131, and trees that also see the categories 0.1578, 0.1128; stacking by non-negative least squares
    0.1588, 0.1142; penalties per principal direction of the cores 0.1636, 0.1206.

    Parameters
    ----------
    embedder : Embedder, optional
        Default: `TfidfEmbedder`. A history that left texts out takes `HashedEmbedder` in its place.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder: Embedder = TfidfEmbedder() if embedder is None else GuardedEmbedder(embedder)

    def fit(self, history: Sequence[Record]) -> TrainedPredictor:
        outcomes = outcomes_of(sample_of(history))
        with one_blas_thread():
            self.embedder_ = fitted_embedder(self.embedder, outcomes.calls)
            return self.fit_outcomes(outcomes, embed_calls(outcomes.calls, self.embedder_))

    def fit_outcomes(self, outcomes: Outcomes, vectors: Vectors) -> TrainedPredictor:
        """Learn from outcomes whose calls are embedded already.

        Leaves the left-out quality of every record, shape (records, cores), in `left_out_`.
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
        remainder = deviation - by_category

        self.kernel_ = LandmarkKernel(KERNEL_WIDTH, LANDMARKS)
        heads = KernelHeads(self.kernel_, self.kernel_.fit(features))
        self.quality_heads_ = heads.fit(remainder)
        by_kernel = heads.predict_left_out(remainder, fold)
        whole = _filled(remainder, by_kernel)
        self.forest_ = _forest(features, whole)
        if self.forest_ is not None:
            by_kernel = (by_kernel + _forest_left_out(features, whole, fold)) / 2
        self.left_out_ = self.priors_.quality[:-1] + by_category + by_kernel
        self._fit_lengths(outcomes, heads, features)
        self.restore()
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        quality, input_tokens, output_tokens = self.estimate(calls, embed_calls(calls, self.embedder_))
        columns = core_positions(self.cores_, cores)
        return Estimates(
            quality=np.clip(quality[:, columns], 0.0, 1.0),
            input_tokens=input_tokens[:, columns],
            output_tokens=output_tokens[:, columns],
            support=np.tile(self.known_[columns], (len(calls), 1)),
        )

    def estimate(
        self, calls: Sequence[CallText], vectors: Vectors
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Quality (not clipped), input and output tokens of calls that are embedded already.

        Each of shape (calls, known cores + 1); the last column stands for an unknown core.
        """
        features = np.concatenate([vectors, self.shape_.transform(calls)], axis=1)
        told = product(self.kernel_.similarity(features), self._heads).astype(np.float64)
        width = len(self.cores_) + 1
        found = told[:, :width]
        if self.forest_ is not None:
            found = (found + self.forest_.predict(features)) / 2
        if self.category_ is not None:
            found += self.category_.predict(features) @ self.category_means_
        tokens = self._scales * _stretch(told[:, width:])
        tokens[:, :width] *= np.array([[call.input_tokens] for call in calls]).reshape(-1, 1)
        return self.priors_.quality + found, tokens[:, :width], tokens[:, width:]

    def restore(self) -> None:
        """Rebuild from the fitted arrays what can be told from them: all heads side by side."""
        heads = np.hstack([self.quality_heads_, self.input_heads_, self.output_heads_])
        self._heads = np.ascontiguousarray(heads.T)
        self._scales = np.concatenate([self.input_scale_, self.output_scale_])

    def _fit_categories(
        self, features: Matrix, labels: Folds, count: int, deviation: FloatArray, fold: Folds
    ) -> FloatArray:
        """What the categories tell of each record without its fold, shape (records, cores)."""
        told = np.zeros_like(deviation)
        self.category_: CategoryHead | None = None
        self.category_means_ = np.zeros((count, deviation.shape[1] + 1))
        if count < 2 or not deviation.size:
            return told
        for left_out in range(int(fold.max()) + 1):
            rows = fold == left_out
            seen = np.where(rows, -1, labels)
            if (seen < 0).all():
                continue
            head = CategoryHead().fit(features, seen, count)
            told[rows] = head.predict(features[rows]) @ category_means(seen, count, deviation)
        self.category_ = CategoryHead().fit(features, labels, count)
        means = category_means(labels, count, deviation)
        self.category_means_ = np.hstack([means, means.mean(axis=1, keepdims=True)])
        return told

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


def _filled(remainder: FloatArray, expected: FloatArray) -> FloatArray:
    """The remainder with unknown cells as expected, moved by what the record's known cells had in common.

    Rows of which no cell is known stay unknown.
    """
    known = ~np.isnan(remainder)
    count = known.sum(axis=1, keepdims=True)
    surprise = np.where(known, remainder - expected, 0.0).sum(axis=1, keepdims=True) / (count + 1)
    return np.where(known | (count == 0), remainder, expected + surprise)


def _forest(features: Matrix, remainder: FloatArray) -> Forest | None:
    """Trees on the remainder of every core and, in the last column, on what all have in common."""
    some = ~np.isnan(remainder).all(axis=1) if remainder.size else np.zeros(len(remainder), dtype=np.bool_)
    if some.sum() < 2 * LEAST_IN_LEAF:
        return None
    common = remainder[some].mean(axis=1, keepdims=True)
    return grow_forest(features[some], np.hstack([remainder[some], common]))


def _forest_left_out(features: Matrix, remainder: FloatArray, fold: Folds) -> FloatArray:
    result = np.zeros_like(remainder)
    for left_out in range(FOREST_FOLDS):
        rows = fold % FOREST_FOLDS == left_out
        forest = _forest(features[~rows], remainder[~rows])
        if forest is not None and rows.any():
            result[rows] = forest.predict(features[rows])[:, :-1]
    return result


def folds_of(calls: Sequence[CallText]) -> Folds:
    """A fold for each call; calls that ask the same are in the same one, or one would tell of the other."""
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
    """Coefficients of the log deviation, and the factor that brings the mean tokens back, per core + 1."""
    base = np.maximum(expected[:-1], 1e-3) * own
    known = ~np.isnan(tokens)
    deviation = np.where(known, np.log((np.where(known, tokens, 1.0) + 1.0) / (base + 1.0)), np.nan)
    coefficients = heads.fit(deviation)
    fitted = base * _stretch(apply_heads(similarity, coefficients)[:, :-1])
    # the mean of an exponential lies above the exponential of the mean (Duan's smearing, 1983)
    caution = base.mean(axis=0) if len(base) else np.ones(base.shape[1])
    told = np.where(known, tokens, 0.0).sum(axis=0) + caution
    smearing = told / (np.where(known, fitted, 0.0).sum(axis=0) + caution)
    return coefficients, expected * np.append(smearing, 1.0)


def _stretch(log_deviation: FloatArray) -> FloatArray:
    most = np.log(MOST_STRETCH)
    return np.asarray(np.exp(np.minimum(np.maximum(log_deviation, -most), most)), dtype=np.float64)
