"""Predictors of the same records share what they make of a call, and estimate it as they do alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eccos_aios.history import Record
from eccos_aios.predict import (
    Embedder,
    HybridPredictor,
    TfidfEmbedder,
    TrainedPredictor,
    load_predictor,
    query_text,
    save_predictor,
)
from eccos_aios.predict.embedders.base import Vectors
from eccos_aios.predict.encoded import EncodedCalls
from eccos_aios.predict.estimates import RANGES, Estimates
from eccos_aios.predict.kernel_ridge import LandmarkKernel

pytestmark = pytest.mark.usefixtures("few_trees")

CORES = ("b", "stranger", "a")
QUERIES = ["prove the lemma with oak 7", "", "write a poem about elm and yew", "zzz unheard of"]
CALLS = [query_text(query) for query in QUERIES]


def assert_equal(found: Estimates, expected: Estimates) -> None:
    for name, _ in RANGES:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12, err_msg=name)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a call was embedded, and compared with the landmarks."""
    made = {"embedded": 0, "compared": 0}
    transform, similarity = TfidfEmbedder.transform, LandmarkKernel.similarity

    def counted_transform(self: TfidfEmbedder, texts: list[str]) -> Vectors:
        made["embedded"] += 1
        return transform(self, texts)

    def counted_similarity(self: LandmarkKernel, features: Vectors) -> Vectors:
        made["compared"] += 1
        return similarity(self, features)

    monkeypatch.setattr(TfidfEmbedder, "transform", counted_transform)
    monkeypatch.setattr(LandmarkKernel, "similarity", counted_similarity)
    return made


@pytest.mark.parametrize("calls", [CALLS[:1], CALLS])
def test_a_call_is_encoded_once_for_predictors_that_were_loaded_apart(
    two_topics: list[Record], tmp_path: Path, calls: list, counts: dict[str, int]
) -> None:
    one, file = HybridPredictor().fit(two_topics), tmp_path / "other.npz"
    save_predictor(one, file)
    other = load_predictor(file)
    alone = [each.predict(calls, CORES) for each in (one, other)]
    counts.update(embedded=0, compared=0)
    encoded = EncodedCalls(calls)
    for each, expected in zip((one, other), alone, strict=True):
        assert_equal(each.predict(encoded, CORES), expected)
    assert counts == {"embedded": 1, "compared": 1}


def test_nothing_is_shared_by_predictors_of_different_records(two_topics: list[Record]) -> None:
    one, other = HybridPredictor().fit(two_topics), HybridPredictor().fit(two_topics[::2])
    encoded = EncodedCalls(CALLS)
    one.predict(encoded, CORES)
    assert_equal(other.predict(encoded, CORES), other.predict(CALLS, CORES))


def test_some_of_the_calls_keep_what_was_made_of_them(
    two_topics: list[Record], counts: dict[str, int]
) -> None:
    predictor = HybridPredictor().fit(two_topics)
    encoded = EncodedCalls(CALLS)
    whole = predictor.predict(encoded, CORES)
    counts.update(embedded=0, compared=0)
    some = predictor.predict(encoded.take([3, 0]), CORES)
    assert counts == {"embedded": 0, "compared": 0}
    np.testing.assert_allclose(some.quality, whole.quality[[3, 0]], rtol=1e-6)


class Lengths(Embedder):
    """An embedder of a user, which nobody can compare with another."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __eq__(self, other: object) -> bool:  # so that it has no hash
        return True

    def fit(self, texts: list[str]) -> Lengths:
        return self

    def transform(self, texts: list[str]) -> Vectors:
        angles = self.scale * np.array([len(text) for text in texts], dtype=np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_embedders_that_cannot_be_compared_share_nothing(two_topics: list[Record]) -> None:
    one, other = (TrainedPredictor(Lengths(scale)).fit(two_topics) for scale in (0.1, 0.2))
    encoded = EncodedCalls(CALLS)
    one.predict(encoded, CORES)
    assert_equal(other.predict(encoded, CORES), other.predict(CALLS, CORES))
