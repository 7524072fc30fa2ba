"""HybridPredictor: retrieval and training together, weighed and calibrated. The default."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record
from eccos_aios.predict.base import Predictor
from eccos_aios.predict.dataset import core_positions, outcomes_of
from eccos_aios.predict.embedders.base import Embedder, GuardedEmbedder, TfidfEmbedder, Vectors
from eccos_aios.predict.embedders.hashed import fitted_embedder
from eccos_aios.predict.estimates import Estimates, FloatArray
from eccos_aios.predict.features import embed_calls
from eccos_aios.predict.retrieval import RetrievalPredictor
from eccos_aios.predict.sample import sample_of
from eccos_aios.predict.text import CallText
from eccos_aios.predict.threads import one_blas_thread
from eccos_aios.predict.trained import TrainedPredictor
from eccos_aios.predict.winners_curse import fit_keep, shrink_advantage

WEIGHT_CAUTION = 2.0  # squared differences between the two; about 200 records' worth of doubt
SHIFT_CAUTION = 50.0  # records at which a core's left-out error corrects it by half


class HybridPredictor(Predictor):
    """What training says, drawn towards what retrieval says as far as that proved right.

    For every core j, from left-out predictions t (trained) and r (retrieval) of outcomes y:
    weight ``w_j = Σ (r - t)(y - t) / (Σ (r - t)² + caution)``, held to 0..1, and shift
    ``s_j = Σ (y - t - w_j (r - t)) / (n_j + caution)``; a core with few records keeps w and s near 0.
    Then what a core promises beyond the core that is best on average is shrunk, see `advantage`.

    Support is retrieval's; input and output tokens are the trained heads'. Of a long history training and
    weights are learned on a sample (`sample_of`), while retrieval searches all of it.

    Parameters
    ----------
    embedder : Embedder, optional
        Shared by both. Default: `TfidfEmbedder`. A history that left texts out takes `HashedEmbedder` in
        its place.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder: Embedder = TfidfEmbedder() if embedder is None else GuardedEmbedder(embedder)
        self.retrieval = RetrievalPredictor()
        self.trained = TrainedPredictor()
        self.retrieval.embedder = self.trained.embedder = self.embedder

    def fit(self, history: Sequence[Record]) -> HybridPredictor:
        sample = sample_of(history)
        outcomes = outcomes_of(sample)
        with one_blas_thread():
            self.embedder_ = fitted_embedder(self.embedder, outcomes.calls)
            self.retrieval.embedder_ = self.trained.embedder_ = self.embedder_
            vectors = embed_calls(outcomes.calls, self.embedder_)
            self.retrieval.fit_outcomes(outcomes, vectors)
            self.trained.fit_outcomes(outcomes, vectors)
            if sample is not history:
                self.retrieval.take_all(history)
        trained = self.trained.left_out_
        difference = self.retrieval.left_out_quality(outcomes, vectors) - trained
        self.weight_, self.shift_ = _weigh(trained, difference, outcomes.quality)
        quality = trained + self.weight_[:-1] * difference + self.shift_[:-1]
        means = self.trained.priors_.quality[:-1]
        self.keep_ = fit_keep(np.clip(quality, 0.0, 1.0), outcomes.quality, means)
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        return self.predict_embedded(calls, embed_calls(calls, self.embedder_), cores)

    def predict_embedded(
        self, calls: Sequence[CallText], vectors: Vectors, cores: Sequence[str]
    ) -> Estimates:
        """Of calls that `embed_calls` has embedded already."""
        trained, input_tokens, output_tokens = self.trained.estimate(calls, vectors)
        retrieved, support = self.retrieval.quality_and_support(vectors)
        columns = _columns(self.trained.cores_, tuple(cores))
        quality = trained + self.weight_ * (retrieved - trained) + self.shift_
        quality = np.minimum(np.maximum(quality.take(columns, axis=1), 0.0), 1.0)
        return Estimates(
            quality=shrink_advantage(quality, self.trained.priors_.quality[columns], self.keep_),
            input_tokens=input_tokens.take(columns, axis=1),
            output_tokens=output_tokens.take(columns, axis=1),
            support=support.take(columns, axis=1),
        )


@lru_cache(maxsize=16)
def _columns(known: tuple[str, ...], asked: tuple[str, ...]) -> NDArray[np.int64]:
    return core_positions(known, asked)


def _weigh(trained: FloatArray, difference: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of retrieval and shift per core, both of shape (cores + 1,)."""
    known = ~np.isnan(quality)
    error = np.where(known, np.where(known, quality, 0.0) - trained, 0.0)
    difference = np.where(known, difference, 0.0)
    weight = (difference * error).sum(axis=0) / ((difference**2).sum(axis=0) + WEIGHT_CAUTION)
    weight = np.clip(weight, 0.0, 1.0)
    shift = (error - weight * difference).sum(axis=0) / (known.sum(axis=0) + SHIFT_CAUTION)
    return np.append(weight, 0.0), np.append(shift, 0.0)
