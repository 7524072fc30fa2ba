"""Which predictor runs where nobody chose one."""

from __future__ import annotations

from eccos_aios.predict.base import Predictor
from eccos_aios.predict.hybrid import HybridPredictor


def default_predictor() -> Predictor:
    """A new, unfitted predictor of the default kind."""
    return HybridPredictor()
