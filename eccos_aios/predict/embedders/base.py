"""Embedder: texts -> unit vectors; and the guard that keeps an embedder's faults from the kernel."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.encoded import Itself

Vectors = NDArray[np.float32]
EmbedderT = TypeVar("EmbedderT", bound="Embedder")

log = logging.getLogger(__name__)

_FAILED = "the embedder failed; calls that it cannot embed are estimated by each core's mean"

MIN_LENGTH = 1e-6  # of a vector; a shorter one counts as 0


class Embedder(ABC):
    """Turns texts into vectors whose inner product is their similarity.

    A subclass of your own is used by ``embedder: module:Class`` in the configuration. To have predictors that
    use it cached on disk, register it with `register_persistence`.
    """

    @abstractmethod
    def fit(self: EmbedderT, texts: Sequence[str]) -> EmbedderT:
        """Learn from `texts`, which may be empty."""

    @abstractmethod
    def transform(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (texts, dimensions), each of length 1, or 0 for a text of no known term."""

    def sharing_key(self) -> Hashable:
        """Equal for embedders that make equal vectors of equal texts, see `EncodedCalls`.

        Default: equal to no other's.
        """
        return Itself(self)


class GuardedEmbedder(Embedder):
    """Wraps an embedder so that its exceptions cost quality, not availability.

    The first exception is logged with its traceback. A text whose embedding failed gets a vector of zeros, so
    its estimates are the cores' means.

    Parameters
    ----------
    inner : Embedder
    """

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner
        self.width = 1
        self.failed = False

    def fit(self, texts: Sequence[str]) -> GuardedEmbedder:
        try:
            self.width = self.inner.fit(texts).transform(["probe"]).shape[1]
        except Exception:
            log.warning(_FAILED, exc_info=True)
            # vectors of another width could not be compared with the history's, so it stays off
            self.inner, self.width = NoEmbedder(), 1
        return self

    def sharing_key(self) -> Hashable:
        return self.inner.sharing_key()

    def transform(self, texts: Sequence[str]) -> Vectors:
        try:
            return self.inner.transform(texts)
        except Exception:
            if not self.failed:
                self.failed = True
                log.warning(_FAILED, exc_info=True)
            return np.zeros((len(texts), self.width), dtype=np.float32)


class NoEmbedder(Embedder):
    """Embeds every text as zeros; stands in for an embedder that could not be fitted."""

    def fit(self, texts: Sequence[str]) -> NoEmbedder:
        return self

    def transform(self, texts: Sequence[str]) -> Vectors:
        return np.zeros((len(texts), 1), dtype=np.float32)


def unit_rows(vectors: NDArray[np.float32]) -> Vectors:
    """Scale rows to length 1; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(
        vectors, lengths, out=np.zeros_like(vectors, dtype=np.float32), where=lengths > MIN_LENGTH
    )
