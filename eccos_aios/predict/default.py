"""Which predictor runs where nobody chose one."""

from __future__ import annotations

from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.predictor import Predictor


def default_predictor() -> Predictor:
    """A new, unfitted predictor of the default kind."""
    return HybridPredictor()
