"""Stage 1: calls -> quality and tokens on every core, as arrays of shape (calls, cores)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_aios.lazy import lazy_names
from eccos_aios.predict.base import EmbeddingPredictor as EmbeddingPredictor
from eccos_aios.predict.base import GroundedPredictor as GroundedPredictor
from eccos_aios.predict.base import NeighbourSearch as NeighbourSearch
from eccos_aios.predict.base import OnlinePredictor as OnlinePredictor
from eccos_aios.predict.base import Predictor as Predictor
from eccos_aios.predict.base import QualityGrounds as QualityGrounds
from eccos_aios.predict.base import experience_of as experience_of
from eccos_aios.predict.estimates import Estimates as Estimates
from eccos_aios.predict.estimates import prices_of as prices_of
from eccos_aios.predict.text import CallText as CallText
from eccos_aios.predict.text import call_text as call_text
from eccos_aios.predict.text import query_text as query_text
from eccos_aios.predict.text import record_text as record_text
from eccos_aios.predict.tokens import TokenCount as TokenCount
from eccos_aios.predict.tokens import count_tokens as count_tokens
from eccos_aios.predict.tokens import use_tokenizer as use_tokenizer

# FAISS, SciPy and scikit-learn take a second to import; reading a call's text needs none of them.
if TYPE_CHECKING:
    from eccos_aios.predict.core_prior import CoreExperience as CoreExperience
    from eccos_aios.predict.core_prior import prior_shift as prior_shift
    from eccos_aios.predict.drift import Drift as Drift
    from eccos_aios.predict.embedders.base import Embedder as Embedder
    from eccos_aios.predict.embedders.hashed import HashedEmbedder as HashedEmbedder
    from eccos_aios.predict.embedders.minilm import MiniLmEmbedder as MiniLmEmbedder
    from eccos_aios.predict.embedders.tfidf import TfidfEmbedder as TfidfEmbedder
    from eccos_aios.predict.features import embedding_of as embedding_of
    from eccos_aios.predict.hybrid import HybridPredictor as HybridPredictor
    from eccos_aios.predict.online import ResidualOnlinePredictor as ResidualOnlinePredictor
    from eccos_aios.predict.persistence import Fitted as Fitted
    from eccos_aios.predict.persistence import fit_store as fit_store
    from eccos_aios.predict.persistence import fitted_predictor as fitted_predictor
    from eccos_aios.predict.persistence import is_persistent as is_persistent
    from eccos_aios.predict.persistence import load_predictor as load_predictor
    from eccos_aios.predict.persistence import received_predictor as received_predictor
    from eccos_aios.predict.persistence import save_predictor as save_predictor
    from eccos_aios.predict.persistence import saved_file as saved_file
    from eccos_aios.predict.persistence import stored_predictor as stored_predictor
    from eccos_aios.predict.refitting import RefittedPredictor as RefittedPredictor
    from eccos_aios.predict.refitting import online_predictor as online_predictor
    from eccos_aios.predict.refitting import refit_is_due as refit_is_due
    from eccos_aios.predict.retrieval import RetrievalPredictor as RetrievalPredictor
    from eccos_aios.predict.serialization import register_persistence as register_persistence
    from eccos_aios.predict.spec import PredictorSpec as PredictorSpec
    from eccos_aios.predict.trained import TrainedPredictor as TrainedPredictor
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "core_prior": "CoreExperience prior_shift",
            "drift": "Drift",
            "embedders.base": "Embedder",
            "embedders.hashed": "HashedEmbedder",
            "embedders.minilm": "MiniLmEmbedder",
            "embedders.tfidf": "TfidfEmbedder",
            "features": "embedding_of",
            "hybrid": "HybridPredictor",
            "online": "ResidualOnlinePredictor",
            "persistence": "Fitted fit_store fitted_predictor is_persistent load_predictor "
            "received_predictor save_predictor saved_file "
            "stored_predictor",
            "refitting": "RefittedPredictor online_predictor refit_is_due",
            "retrieval": "RetrievalPredictor",
            "serialization": "register_persistence",
            "spec": "PredictorSpec",
            "trained": "TrainedPredictor",
        },
    )
    __all__ += [
        "CallText",
        "EmbeddingPredictor",
        "Estimates",
        "GroundedPredictor",
        "NeighbourSearch",
        "OnlinePredictor",
        "Predictor",
        "QualityGrounds",
        "TokenCount",
        "call_text",
        "count_tokens",
        "experience_of",
        "prices_of",
        "query_text",
        "record_text",
        "use_tokenizer",
    ]
