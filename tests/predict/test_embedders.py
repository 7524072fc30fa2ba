"""Texts become unit vectors, whatever the corpus."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.predict import TfidfEmbedder
from eccos_aios.predict.terms import count_terms


@pytest.mark.parametrize("corpus", [[], [""], ["one"], ["a b", "c d"], ["same text"] * 9, ["", "", "x"]])
def test_tiny_corpora_embed_anything(corpus: list[str]) -> None:
    embedder = TfidfEmbedder().fit(corpus)
    vectors = embedder.transform(["", "never seen", "one", "same text", "naïve 你好 🤖"])
    lengths = np.linalg.norm(vectors, axis=1)
    assert vectors.dtype == np.float32
    assert np.all(np.isclose(lengths, 1, atol=1e-4) | (lengths == 0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=8))
def test_vectors_are_finite_and_of_length_one_or_zero(texts: list[str]) -> None:
    vectors = TfidfEmbedder(16).fit(texts).transform(texts)
    lengths = np.linalg.norm(vectors, axis=1)
    assert len(vectors) == len(texts)
    assert np.all(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0))


def test_like_texts_are_nearer_than_unlike_ones() -> None:
    corpus = ["sort a list in python", "sort an array in python", "capital of France", "capital of Spain"]
    vectors = TfidfEmbedder().fit(corpus).transform(corpus)
    alike = vectors @ vectors.T
    assert alike[0, 1] > alike[0, 2] + 0.2
    assert alike[2, 3] > alike[1, 3] + 0.2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=6))
def test_a_text_has_the_same_terms_alone_and_in_a_batch(texts: list[str]) -> None:
    together = count_terms(texts)
    for row, text in enumerate(texts):
        assert (together[row] != count_terms([text])).nnz == 0


def test_terms_fold_case_and_digits_and_split_ideographs() -> None:
    assert (count_terms(["Route 66!"]) != count_terms(["route 41!"])).nnz == 0
    assert count_terms(["天气"]).sum() == 3  # two words and their pair
