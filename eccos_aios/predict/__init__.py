"""Stage 1: calls -> quality and tokens on every core, as arrays of shape (calls, cores)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eccos_aios.predict.base import Predictor
from eccos_aios.predict.estimates import Estimates, prices_of
from eccos_aios.predict.text import CallText, call_text, query_text, record_text
from eccos_aios.predict.tokens import TokenCount, count_tokens, use_tokenizer

if TYPE_CHECKING:
    from eccos_aios.predict.default import default_predictor
    from eccos_aios.predict.drift import Drift
    from eccos_aios.predict.embedders.base import Embedder, TfidfEmbedder
    from eccos_aios.predict.embedders.hashed import HashedEmbedder
    from eccos_aios.predict.embedders.minilm import MiniLmEmbedder
    from eccos_aios.predict.hybrid import HybridPredictor
    from eccos_aios.predict.kept import embedding_of
    from eccos_aios.predict.online import OnlinePredictor, refit_is_due
    from eccos_aios.predict.persistence import (
        Fitted,
        cached_predictor,
        fitted_predictor,
        load_predictor,
        save_predictor,
        stored_predictor,
    )
    from eccos_aios.predict.retrieval import RetrievalPredictor
    from eccos_aios.predict.trained import TrainedPredictor

# FAISS, SciPy and scikit-learn take a second to import; who only reads a call's text does not wait for them.
_LAZY = {
    "Drift": "drift",
    "Embedder": "embedders.base",
    "Fitted": "persistence",
    "HashedEmbedder": "embedders.hashed",
    "HybridPredictor": "hybrid",
    "OnlinePredictor": "online",
    "MiniLmEmbedder": "embedders.minilm",
    "RetrievalPredictor": "retrieval",
    "TfidfEmbedder": "embedders.base",
    "TrainedPredictor": "trained",
    "cached_predictor": "persistence",
    "default_predictor": "default",
    "embedding_of": "kept",
    "fitted_predictor": "persistence",
    "load_predictor": "persistence",
    "refit_is_due": "online",
    "save_predictor": "persistence",
    "stored_predictor": "persistence",
}

__all__ = [
    "CallText",
    "Drift",
    "Embedder",
    "Estimates",
    "Fitted",
    "HashedEmbedder",
    "HybridPredictor",
    "MiniLmEmbedder",
    "OnlinePredictor",
    "Predictor",
    "RetrievalPredictor",
    "TfidfEmbedder",
    "TokenCount",
    "TrainedPredictor",
    "cached_predictor",
    "call_text",
    "count_tokens",
    "default_predictor",
    "embedding_of",
    "fitted_predictor",
    "load_predictor",
    "prices_of",
    "query_text",
    "record_text",
    "refit_is_due",
    "save_predictor",
    "stored_predictor",
    "use_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
