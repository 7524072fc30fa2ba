"""PredictorSpec: a predictor and an embedder by name, with options, as a user gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eccos_aios.plugins import Where, load
from eccos_aios.predict.base import Predictor
from eccos_aios.predict.embedders.base import Embedder

DEFAULT_EMBEDDER = "tfidf"  # that options without a name are for


@dataclass(frozen=True)
class PredictorSpec:
    """A predictor by name. It can be made any number of times, also in another process.

    Attributes
    ----------
    predictor : str
        ``hybrid``, ``retrieval``, ``trained``, an entry point of ``eccos_aios.predictors``, ``module:Class``,
        or ``path/to/file.py:Class``.
    predictor_options : mapping of str to Any
        Keyword arguments of its constructor.
    embedder : str or None
        ``tfidf``, ``hashed``, ``minilm``, an entry point of ``eccos_aios.embedders``, ``module:Class``, or
        ``path/to/file.py:Class``. None: the predictor's default.
    embedder_options : mapping of str to Any
        Keyword arguments of its constructor.
    where : Where
        What errors name.
    """

    predictor: str = "hybrid"
    predictor_options: Mapping[str, Any] = field(default_factory=dict)
    embedder: str | None = None
    embedder_options: Mapping[str, Any] = field(default_factory=dict)
    where: Where = field(default_factory=Where, compare=False)

    def make(self) -> Predictor:
        """A new predictor, not fitted.

        Raises
        ------
        ConfigError
            A name or an option is wrong.
        """
        embedder = self.make_embedder()
        parts = {} if embedder is None else {"embedder": embedder}
        predictor = load("predictor", self.predictor, self.predictor_options, self.where, parts)
        assert isinstance(predictor, Predictor)
        return predictor

    def make_embedder(self) -> Embedder | None:
        """A new embedder, not fitted; None: the predictor's default.

        Raises
        ------
        ConfigError
            The name or an option is wrong.
        """
        if self.embedder is None and not self.embedder_options:
            return None
        embedder = load("embedder", self.embedder or DEFAULT_EMBEDDER, self.embedder_options, self.where)
        assert isinstance(embedder, Embedder)
        return embedder

    def as_json(self) -> str:
        """The same specification, always as the same text."""
        content = {
            "predictor": self.predictor,
            "predictor_options": dict(self.predictor_options),
            "embedder": self.embedder,
            "embedder_options": dict(self.embedder_options),
        }
        return json.dumps(content, sort_keys=True, default=str)

    @classmethod
    def from_json(cls, text: str) -> PredictorSpec:
        """The way back."""
        return cls(**json.loads(text))
