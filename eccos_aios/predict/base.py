"""The interface of stage 1: calls in, estimates for every core out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from eccos_aios.history import Record
from eccos_aios.predict.estimates import Estimates
from eccos_aios.predict.text import CallText

PredictorT = TypeVar("PredictorT", bound="Predictor")


class Predictor(ABC):
    """Learns from records of past calls, then estimates new ones. Thread-safe once fitted."""

    @abstractmethod
    def fit(self: PredictorT, history: Sequence[Record]) -> PredictorT:
        """Learn from `history` (it may be empty); fitted state ends in ``_``."""

    @abstractmethod
    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        """Estimate every call on every core, in the order given, in one batch.

        Parameters
        ----------
        calls : sequence of CallText
            N calls.
        cores : sequence of str
            M names; a core that the history does not know gets a prior, not zero.

        Returns
        -------
        Estimates
            Arrays of shape (N, M).
        """
