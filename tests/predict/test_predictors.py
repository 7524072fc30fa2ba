"""What every predictor owes: sane estimates of anything, and the right core for each kind of call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.history import Outcome, Record
from eccos_aios.predict import (
    CallText,
    Embedder,
    Estimates,
    HybridPredictor,
    Predictor,
    RetrievalPredictor,
    TrainedPredictor,
    query_text,
)

KINDS: tuple[type[Predictor], ...] = (RetrievalPredictor, TrainedPredictor, HybridPredictor)
QUERIES = ("", "q", "prove the lemma", "Ünïcode 你好 مرحبا", "word " * 200_000, "\x00\x1f\ud800")
TOOL = {"name": "f", "description": "does it", "parameters": {"properties": {"x": {}}}}


def assert_sane(estimates: Estimates, shape: tuple[int, int]) -> None:
    for array in (estimates.quality, estimates.input_tokens, estimates.output_tokens, estimates.support):
        assert array.shape == shape
        assert np.isfinite(array).all()
        assert (array >= 0).all()
    assert (estimates.quality <= 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_topic_goes_to_the_core_that_can_do_it(kind: type[Predictor], two_topics: list[Record]) -> None:
    calls = [query_text("prove the lemma about prime numbers"), query_text("a poem about the autumn sea")]
    estimates = kind().fit(two_topics).predict(calls, ["a", "b", "new"])
    assert estimates.quality[0, 0] > 0.7 > 0.3 > estimates.quality[0, 1]
    assert estimates.quality[1, 1] > 0.7 > 0.3 > estimates.quality[1, 0]
    assert 0.2 < estimates.quality[0, 2] < 0.8
    assert (estimates.support[:, :2] > 0).all() and (estimates.support[:, 2] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_each_cores_own(kind: type[Predictor], two_topics: list[Record]) -> None:
    estimates = (
        kind()
        .fit(two_topics)
        .predict([CallText("prove the lemma about prime numbers with oak and ash", 100.0)], ["a", "b"])
    )
    assert estimates.output_tokens[0] == pytest.approx([10, 200], rel=0.15)
    assert estimates.input_tokens[0] == pytest.approx([50, 150], rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_estimated_like_its_calls_one_by_one(
    kind: type[Predictor], two_topics: list[Record]
) -> None:
    predictor = kind().fit(two_topics)
    calls = [query_text(query, tools) for query in QUERIES[:4] for tools in (None, [TOOL])]
    together = predictor.predict(calls, ["b", "new", "a"])
    for row, call in enumerate(calls):
        alone = predictor.predict([call], ["b", "new", "a"])
        assert alone.quality[0] == pytest.approx(together.quality[row], abs=1e-4)
        assert alone.output_tokens[0] == pytest.approx(together.output_tokens[row], rel=1e-3)


CELL = st.none() | st.floats(0, 1) | st.booleans()


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Few records, holes, equal queries, cores that few records know, categories here and there."""
    records = []
    for _ in range(draw(st.integers(0, 14))):
        cells = draw(st.lists(CELL, min_size=3, max_size=3))
        outputs = tuple(
            Outcome(
                model_name=name,
                quality=float(cell),
                input_token_length=draw(st.none() | st.integers(0, 10**6)),
                output_token_length=draw(st.none() | st.integers(0, 10**6)),
            )
            for name, cell in zip("abc", cells, strict=True)
            if cell is not None
        )
        query = draw(st.sampled_from(["same", "", "two words"]) | st.text(max_size=30))
        category = draw(st.sampled_from([None, "x", "y"]))
        length = draw(st.none() | st.integers(0, 10**6))
        records.append(Record(query=query, outputs=outputs, category=category, input_token_length=length))
    return records


@settings(max_examples=15, deadline=None)
@given(history=histories())
def test_any_history_gives_sane_estimates_of_any_call(history: list[Record]) -> None:
    calls = [query_text(query) for query in QUERIES]
    predictor = HybridPredictor().fit(history)
    assert_sane(predictor.predict(calls, ["a", "b", "c", "new"]), (len(calls), 4))
    assert_sane(predictor.predict([], ["a"]), (0, 1))
    assert_sane(predictor.predict(calls, []), (len(calls), 0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [0, 1, 5])
def test_a_core_with_few_records_leans_on_the_others(
    kind: type[Predictor], known: int, two_topics: list[Record]
) -> None:
    lucky = Outcome(model_name="lucky", quality=1.0)
    history = [
        record.model_copy(update={"outputs": (*record.outputs, lucky)}) if row < known else record
        for row, record in enumerate(two_topics)
    ]
    quality = kind().fit(history).predict([query_text("prove the lemma")], ["lucky"]).quality[0, 0]
    assert 0.3 < quality < 0.97


class FaultyEmbedder(Embedder):
    """Works `good` times, then raises."""

    def __init__(self, good: int) -> None:
        self.good = good

    def fit(self, texts: Sequence[str]) -> FaultyEmbedder:
        return self

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        self.good -= 1
        if self.good < 0:
            raise RuntimeError("out of memory")
        return np.ones((len(texts), 3), dtype=np.float32)


@pytest.mark.parametrize("good", [0, 2])
def test_an_embedder_that_raises_leaves_priors_and_one_warning(
    good: int, two_topics: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    predictor = HybridPredictor(FaultyEmbedder(good)).fit(two_topics)
    for _ in range(3):
        estimates = predictor.predict([query_text("prove the lemma")], ["a", "b"])
        assert_sane(estimates, (1, 2))
        assert (estimates.support == 0).all()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
