"""A call or a few are estimated on a path of their own; it tells the same as the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.history import Record
from eccos_aios.predict import HybridPredictor, TfidfEmbedder, query_text
from eccos_aios.predict.blas import FEW_ROWS, product
from eccos_aios.predict.embedders.tfidf import FEW_TEXTS
from eccos_aios.predict.terms import BUCKETS, count_terms, few_buckets

pytestmark = pytest.mark.usefixtures("few_trees")

TOOL = {"function": {"name": "rhyme", "description": "Finds words for a poem", "parameters": {}}}
QUERIES = ["prove the lemma with oak 7", "", "write a poem about elm and yew", "天气 17", "zzz unheard of"]


@pytest.fixture(scope="module")
def hybrid(two_topics: list[Record]) -> HybridPredictor:
    return HybridPredictor().fit(two_topics)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_few_calls_are_estimated_as_in_a_batch(hybrid: HybridPredictor, size: int) -> None:
    calls = [query_text(query, tools) for tools in (None, [TOOL]) for query in QUERIES] * 3
    batch = hybrid.predict(calls, ("b", "stranger", "a"))
    assert len(calls) > FEW_ROWS
    for start in range(0, len(calls), size):
        few = hybrid.predict(calls[start : start + size], ("b", "stranger", "a"))
        for name in ("quality", "input_tokens", "output_tokens", "support"):
            expected = getattr(batch, name)[start : start + size]
            np.testing.assert_allclose(getattr(few, name), expected, rtol=1e-5, atol=1e-5, err_msg=name)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("aB1 7_.\n天气\0é²", max_size=60))
def test_one_text_has_the_terms_that_it_has_in_a_batch(text: str) -> None:
    counts = np.bincount(few_buckets([text])[1], minlength=BUCKETS)
    np.testing.assert_array_equal(counts, count_terms([text]).toarray()[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_a_few_texts_are_embedded_as_in_a_batch(texts: list[str]) -> None:
    embedder = TfidfEmbedder(16).fit([*texts, "a b c", "b c d", "c d e 12"])
    batch = embedder.transform(texts * FEW_TEXTS + ["one more"])
    np.testing.assert_allclose(embedder.transform(texts), batch[: len(texts)], atol=1e-5)


def test_a_product_is_the_same_with_and_without_blas() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((FEW_ROWS + 1, 33)).astype(np.float32)
    columns = random.standard_normal((70, 33)).astype(np.float32)
    np.testing.assert_allclose(product(rows[:2], columns), product(rows, columns)[:2], atol=1e-5)
