"""MiniLmEmbedder: sentence-transformers, as the extra ``minilm``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eccos_aios.predict.embedders.base import Embedder, Vectors, unit_rows

BATCH = 64  # texts that the model encodes at once


class MiniLmEmbedder(Embedder):
    """Vectors of a sentence-transformers model; it is loaded at first use, not at import.

    Parameters
    ----------
    model : str
        A folder that holds the model, or the name of one that is on this machine already.
    download : bool
        Whether a model that is not may be fetched. Off unless the user asks for it.

    Raises
    ------
    ImportError
        At first use, where sentence-transformers is not installed; says how to install it.
    OSError
        At first use, where the model is not on this machine.
    """

    def __init__(
        self, model: str = "sentence-transformers/all-MiniLM-L6-v2", *, download: bool = False
    ) -> None:
        self.model = model
        self.download = download
        self._loaded: Any = None

    def fit(self, texts: Sequence[str]) -> MiniLmEmbedder:
        return self

    def restore(self) -> None:
        """Forget the loaded model; the next use loads it."""
        self._loaded = None

    def transform(self, texts: Sequence[str]) -> Vectors:
        model = self._load()
        if not texts:
            return np.zeros((0, model.get_sentence_embedding_dimension()), dtype=np.float32)
        vectors = model.encode(list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        return unit_rows(np.asarray(vectors, dtype=np.float32))

    def _load(self) -> Any:
        if self._loaded is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise ImportError(
                    "MiniLmEmbedder needs sentence-transformers: pip install 'eccos-aios[minilm]'"
                ) from error
            self._loaded = SentenceTransformer(self.model, local_files_only=not self.download)
        return self._loaded
