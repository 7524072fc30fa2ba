"""FoldEstimates: predictors fitted on the history of one fold, shared by all policies."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np

from eccos_aios.bench.fold import FloatArray, Fold, Truth, recorded_truth
from eccos_aios.core import TOKENS_PER_PRICE_UNIT
from eccos_aios.plans.answers import UNRECORDED_OUTPUT_TOKENS
from eccos_aios.predict import (
    Estimates,
    HybridPredictor,
    Predictor,
    PredictorSpec,
    TfidfEmbedder,
    query_text,
)

Kind = Literal["chosen", "retrieval", "trained"]

NEIGHBOURS = 16  # AIOS's n_similar


class FoldEstimates:
    """Predictors fitted on a fold's history, and their estimates of its calls.

    Parameters
    ----------
    fold : Fold
    spec : PredictorSpec, optional
        The ``chosen`` predictor; the other two use its embedder. Default: the hybrid predictor.
    """

    def __init__(self, fold: Fold, spec: PredictorSpec | None = None) -> None:
        self.fold = fold
        self.spec = spec or PredictorSpec()
        self._estimates: dict[Kind, Estimates] = {}

    def estimates(self, kind: Kind) -> Estimates:
        """Of every call of the fold on every core, shape (calls, cores).

        Raises
        ------
        ValueError, TypeError
            The chosen predictor returns estimates of another shape or out of range.
        """
        if kind not in self._estimates:
            calls, names = self.fold.calls, self.fold.names
            estimates, sound, fault = self._predictor(kind).predict(calls, names).checked(len(calls), names)
            if not sound.all():
                raise ValueError(f"predictor: {self.spec.predictor}: {fault}")
            self._estimates[kind] = estimates
        return self._estimates[kind]

    @cached_property
    def past(self) -> Truth:
        """Qualities and costs recorded in the fold's history."""
        return recorded_truth(self.fold.history, self.fold.cores)

    @cached_property
    def neighbour_means(self) -> tuple[FloatArray, FloatArray]:
        """SmartRouting's estimates: the neighbours' mean quality, and the cost at their mean length.

        Both of shape (calls, cores); a core that no neighbour knows has 0 of both, as in AIOS. AIOS embeds
        with MiniLM, as ``--embedder minilm`` does here; by default the rule is compared on this package's
        embedding. AIOS embeds the user's message alone, so the tools are left out here, too.
        """
        fold = self.fold
        texts = [query_text(record.query).text for record in fold.history]
        embedder = (self.spec.make_embedder() or TfidfEmbedder()).fit(texts)
        past = embedder.transform(texts)
        alike = embedder.transform([query_text(record.query).text for record in fold.records]) @ past.T
        nearest = np.argsort(-alike, axis=1, kind="stable")[:, :NEIGHBOURS]
        known = ~np.isnan(self.past.quality)
        count = np.maximum(known[nearest].sum(axis=1), 1)
        quality = np.where(known, self.past.quality, 0.0)[nearest].sum(axis=1) / count
        length = np.where(known, self._past_lengths(), 0.0)[nearest].sum(axis=1) / count
        own = np.array([call.input_tokens for call in fold.calls]).reshape(-1, 1)
        price = np.array([[core.resolved_price.input, core.resolved_price.output] for core in fold.cores])
        return quality, (own * price[:, 0] + length * price[:, 1]) / TOKENS_PER_PRICE_UNIT

    @cached_property
    def _chosen(self) -> Predictor:
        return self.spec.make().fit(self.fold.history)

    def _predictor(self, kind: Kind) -> Predictor:
        if kind == "chosen":
            return self._chosen
        if isinstance(self._chosen, HybridPredictor):  # its parts are fitted as they would be alone
            return self._chosen.retrieval if kind == "retrieval" else self._chosen.trained
        return replace(self.spec, predictor=kind, predictor_options={}).make().fit(self.fold.history)

    def _past_lengths(self) -> FloatArray:
        """Output tokens, shape (records, cores)."""
        position = {name: column for column, name in enumerate(self.fold.names)}
        length = np.full((len(self.fold.history), len(position)), UNRECORDED_OUTPUT_TOKENS)
        for row, record in enumerate(self.fold.history):
            for outcome in record.outputs:
                if outcome.output_token_length is not None and outcome.model_name in position:
                    length[row, position[outcome.model_name]] = outcome.output_token_length
        return length
