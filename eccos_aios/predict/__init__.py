"""Stage 1: calls -> quality and tokens on every core, as arrays of shape (calls, cores)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eccos_aios.predict.base import EmbeddingPredictor, NeighbourSearch, OnlinePredictor, Predictor
from eccos_aios.predict.estimates import Estimates, prices_of
from eccos_aios.predict.text import CallText, call_text, query_text, record_text
from eccos_aios.predict.tokens import TokenCount, count_tokens, use_tokenizer

if TYPE_CHECKING:
    from eccos_aios.predict.drift import Drift
    from eccos_aios.predict.embedders.base import Embedder
    from eccos_aios.predict.embedders.hashed import HashedEmbedder
    from eccos_aios.predict.embedders.minilm import MiniLmEmbedder
    from eccos_aios.predict.embedders.tfidf import TfidfEmbedder
    from eccos_aios.predict.features import embedding_of
    from eccos_aios.predict.hybrid import HybridPredictor
    from eccos_aios.predict.online import ResidualOnlinePredictor
    from eccos_aios.predict.persistence import (
        Fitted,
        fit_store,
        fitted_predictor,
        is_persistent,
        load_predictor,
        save_predictor,
        stored_predictor,
    )
    from eccos_aios.predict.refitting import RefittedPredictor, online_predictor, refit_is_due
    from eccos_aios.predict.retrieval import RetrievalPredictor
    from eccos_aios.predict.serialization import register_persistence
    from eccos_aios.predict.spec import PredictorSpec
    from eccos_aios.predict.trained import TrainedPredictor

# FAISS, SciPy and scikit-learn take a second to import, which whoever only needs a call's text is spared.
_LAZY = {
    "Drift": "drift",
    "Embedder": "embedders.base",
    "Fitted": "persistence",
    "HashedEmbedder": "embedders.hashed",
    "HybridPredictor": "hybrid",
    "MiniLmEmbedder": "embedders.minilm",
    "PredictorSpec": "spec",
    "RefittedPredictor": "refitting",
    "ResidualOnlinePredictor": "online",
    "RetrievalPredictor": "retrieval",
    "TfidfEmbedder": "embedders.tfidf",
    "TrainedPredictor": "trained",
    "embedding_of": "features",
    "fit_store": "persistence",
    "fitted_predictor": "persistence",
    "is_persistent": "persistence",
    "load_predictor": "persistence",
    "online_predictor": "refitting",
    "refit_is_due": "refitting",
    "register_persistence": "serialization",
    "save_predictor": "persistence",
    "stored_predictor": "persistence",
}

__all__ = [
    "CallText",
    "Drift",
    "Embedder",
    "EmbeddingPredictor",
    "Estimates",
    "Fitted",
    "HashedEmbedder",
    "HybridPredictor",
    "MiniLmEmbedder",
    "NeighbourSearch",
    "OnlinePredictor",
    "Predictor",
    "PredictorSpec",
    "RefittedPredictor",
    "ResidualOnlinePredictor",
    "RetrievalPredictor",
    "TfidfEmbedder",
    "TokenCount",
    "TrainedPredictor",
    "call_text",
    "count_tokens",
    "embedding_of",
    "fit_store",
    "fitted_predictor",
    "is_persistent",
    "load_predictor",
    "online_predictor",
    "prices_of",
    "query_text",
    "record_text",
    "refit_is_due",
    "register_persistence",
    "save_predictor",
    "stored_predictor",
    "use_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
