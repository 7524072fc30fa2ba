"""Which predictor runs where nobody chose one."""

from __future__ import annotations

from eccos_aios.predict.predictor import Predictor
from eccos_aios.predict.retrieval import RetrievalPredictor


def default_predictor() -> Predictor:
    """A new, unfitted predictor of the default kind."""
    return RetrievalPredictor()
