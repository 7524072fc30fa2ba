"""HybridPredictor: retrieval and training combined, weighted and calibrated. The default."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from eccos_aios.history import Record
from eccos_aios.predict.base import EmbeddingPredictor, QualityGrounds
from eccos_aios.predict.blas import one_blas_thread
from eccos_aios.predict.core_prior import CoreExperience
from eccos_aios.predict.dataset import core_positions, outcomes_of, sample_of
from eccos_aios.predict.embedders.base import Embedder, Vectors
from eccos_aios.predict.estimates import Estimates, FloatArray
from eccos_aios.predict.features import embed_calls, fitted_embedder, guarded
from eccos_aios.predict.retrieval import RetrievalPredictor
from eccos_aios.predict.text import CallText
from eccos_aios.predict.trained import TrainedPredictor
from eccos_aios.predict.winners_curse import fit_calibration

WEIGHT_PRIOR_STRENGTH = 2.0  # squared differences between the two; about 200 records' worth
REPEAT_PRIOR_STRENGTH = 8.0  # past calls that are the same, at which they weigh as much as all else
SHIFT_PRIOR_STRENGTH = 50.0  # records at which half of a core's mean left-out error is corrected


class HybridPredictor(EmbeddingPredictor):
    """The trained estimates, moved towards those of retrieval as far as that proved right.

    For every core j, from left-out predictions t (trained) and r (retrieval) of outcomes y:
    weight ``w_j = Σ (r - t)(y - t) / (Σ (r - t)² + prior strength)``, clipped to 0..1, and shift
    ``s_j = Σ (y - t - w_j (r - t)) / (n_j + prior strength)``; with few records both stay near 0. Then the
    estimates are calibrated for the choice among them, see `winners_curse`.

    Weights and calibration are learned on calls whose query was left out, so they hold for new queries. Where
    the very same call was made before, its outcomes count besides, with ``n / (n + prior strength)``.

    Support comes from retrieval, tokens from the trained heads. Of a long history, heads and weights are
    learned on a sample (`sample_of`), while retrieval searches all of it.

    Parameters
    ----------
    embedder : Embedder, optional
        Shared by both. Default: `TfidfEmbedder`. A history without texts uses `HashedEmbedder` instead.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder = guarded(embedder)
        self.retrieval = RetrievalPredictor()
        self.trained = TrainedPredictor()
        self.retrieval.embedder = self.trained.embedder = self.embedder

    def fit(self, history: Sequence[Record], combined: Collection[str] = ()) -> HybridPredictor:
        """Learn from a history.

        Parameters
        ----------
        history : sequence of Record
        combined : collection of str, optional
            Names in it that are no cores but plans; they are calibrated by themselves.
        """
        sample = sample_of(history)
        outcomes = outcomes_of(sample)
        with one_blas_thread():
            self.embedder_ = fitted_embedder(self.embedder, outcomes.calls)
            self.retrieval.embedder_ = self.trained.embedder_ = self.embedder_
            vectors = embed_calls(outcomes.calls, self.embedder_)
            self.retrieval.fit_outcomes(outcomes, vectors)
            self.trained.fit_outcomes(outcomes, vectors)
            if sample is not history:
                self.retrieval.index_all(history)
        self.cores_ = self.trained.cores_
        trained = self.trained.left_out_
        difference = self.retrieval.left_out_quality(outcomes, vectors) - trained
        self.weight_, self.shift_ = _weigh(trained, difference, outcomes.quality)
        quality = trained + self.weight_[:-1] * difference + self.shift_[:-1]
        means = self.trained.priors_.quality[:-1]
        group = np.array([name in combined for name in self.cores_], dtype=np.int64)
        self.calibration_ = fit_calibration(np.clip(quality, 0.0, 1.0), outcomes.quality, means, group)
        return self

    def experience(self, cores: Sequence[str]) -> CoreExperience:
        return CoreExperience.of(self.trained.priors_, self.cores_, cores)

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        return self.predict_embedded(calls, embed_calls(calls, self.embedder_), cores)

    def predict_embedded(
        self, calls: Sequence[CallText], vectors: Vectors, cores: Sequence[str]
    ) -> Estimates:
        trained, input_tokens, output_tokens = self.trained.estimate(calls, vectors)
        retrieved = self.retrieval.retrieve(calls, vectors)
        columns = core_positions(self.cores_, tuple(cores))
        quality = trained + self.weight_ * (retrieved.quality - trained) + self.shift_
        quality = self._calibrated(np.minimum(np.maximum(quality, 0.0), 1.0))
        if retrieved.repeats is not None and retrieved.repeated_quality is not None:
            share = retrieved.repeats / (retrieved.repeats + REPEAT_PRIOR_STRENGTH)
            quality = quality + share * (retrieved.repeated_quality - quality)
        return Estimates(
            quality=quality.take(columns, axis=1),
            input_tokens=input_tokens.take(columns, axis=1),
            output_tokens=output_tokens.take(columns, axis=1),
            support=retrieved.support.take(columns, axis=1),
        )

    def _calibrated(self, quality: FloatArray) -> FloatArray:
        """Calibrated over all cores of the history; the last column, for unknown cores, stays."""
        calibrated = self.calibration_.apply(quality[:, :-1], self.trained.priors_.quality[:-1])
        return np.concatenate([calibrated, quality[:, -1:]], axis=1)

    def nearest(self, call: CallText, count: int) -> list[tuple[int, float]]:
        """Positions in the history of the most similar calls, and their similarities, best first."""
        return self.retrieval.nearest(call, count)

    def usual_similarity(self) -> float:
        """As in `GroundedPredictor`."""
        return self.retrieval.usual_similarity()

    def grounds(self, call: CallText, cores: Sequence[str]) -> list[QualityGrounds]:
        """The parts of one call's estimated quality on each core."""
        vectors = embed_calls([call], self.embedder_)
        columns = core_positions(self.cores_, tuple(cores))
        parts = (
            self.trained.priors_.quality,
            self.retrieval.retrieve([call], vectors).quality[0],
            self.trained.estimate([call], vectors)[0][0],
        )
        clipped = (np.clip(part.take(columns), 0.0, 1.0).tolist() for part in parts)
        return [QualityGrounds(*each) for each in zip(*clipped, strict=True)]


def _weigh(trained: FloatArray, difference: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of retrieval and shift per core, both of shape (cores + 1,)."""
    known = ~np.isnan(quality)
    error = np.where(known, np.where(known, quality, 0.0) - trained, 0.0)
    difference = np.where(known, difference, 0.0)
    weight = (difference * error).sum(axis=0) / ((difference**2).sum(axis=0) + WEIGHT_PRIOR_STRENGTH)
    weight = np.clip(weight, 0.0, 1.0)
    shift = (error - weight * difference).sum(axis=0) / (known.sum(axis=0) + SHIFT_PRIOR_STRENGTH)
    return np.append(weight, 0.0), np.append(shift, 0.0)
