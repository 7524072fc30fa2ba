"""Neighbours speak as far as they are near; where none is, the prior does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from eccos_aios.history import Outcome, Record
from eccos_aios.predict import Estimates, RetrievalPredictor, query_text

TOPICS = ("prove the lemma about prime numbers", "write a poem about the autumn sea")


def record(query: str, **quality: float | None) -> Record:
    outputs = tuple(
        Outcome(model_name=name, quality=value, output_token_length=100)
        for name, value in quality.items()
        if value is not None
    )
    return Record(query=query, outputs=outputs)


def two_topics() -> list[Record]:
    """Core `a` can prove and not rhyme, core `b` the other way round."""
    numbers = ("one", "two", "three", "four", "five", "six")
    proofs = [record(f"{TOPICS[0]} number {number}", a=1, b=0) for number in numbers]
    poems = [record(f"{TOPICS[1]} number {number}", a=0, b=1) for number in numbers]
    return proofs + poems


def assert_sane(estimates: Estimates, shape: tuple[int, int]) -> None:
    for array in (estimates.quality, estimates.input_tokens, estimates.output_tokens, estimates.support):
        assert array.shape == shape
        assert np.isfinite(array).all()
        assert (array >= 0).all()
    assert (estimates.quality <= 1).all()


def test_each_topic_goes_to_the_core_that_can_do_it() -> None:
    estimates = (
        RetrievalPredictor().fit(two_topics()).predict([query_text(topic) for topic in TOPICS], ["a", "b"])
    )
    assert estimates.quality[0, 0] > 0.7 > 0.3 > estimates.quality[0, 1]
    assert estimates.quality[1, 1] > 0.7 > 0.3 > estimates.quality[1, 0]
    assert (estimates.support > 3).all()


def test_cores_come_in_the_order_asked_for() -> None:
    predictor = RetrievalPredictor().fit(two_topics())
    one = predictor.predict([query_text(TOPICS[0])], ["a", "b", "new"]).quality
    other = predictor.predict([query_text(TOPICS[0])], ["new", "b", "a"]).quality
    assert one[0].tolist() == other[0, ::-1].tolist()


def test_an_unknown_outcome_is_not_a_wrong_one() -> None:
    known = [record(f"{TOPICS[0]} {number}", a=1, b=1) for number in range(10)]
    unknown = [record(f"{TOPICS[0]} {number}", a=1) for number in range(10, 40)]
    quality = RetrievalPredictor().fit(known + unknown).predict([query_text(TOPICS[0])], ["b"]).quality
    assert quality[0, 0] > 0.8


def test_a_far_call_gets_the_core_means() -> None:
    history = [record(f"{TOPICS[0]} {number}", a=1, b=number % 2) for number in range(100)]
    estimates = RetrievalPredictor().fit(history).predict([query_text("¿qué hora es?")], ["a", "b"])
    assert estimates.quality[0] == pytest.approx([1, 0.5], abs=0.06)
    assert estimates.support[0].tolist() == [0, 0]


def test_an_unknown_core_gets_the_mean_and_no_support() -> None:
    estimates = RetrievalPredictor().fit(two_topics()).predict([query_text(TOPICS[0])], ["new"])
    assert estimates.quality[0, 0] == pytest.approx(0.5, abs=0.1)
    assert estimates.output_tokens[0, 0] == pytest.approx(100)
    assert estimates.support[0, 0] == 0


def test_input_tokens_follow_the_cores_own_tokenizer() -> None:
    history = [
        Record(
            query=f"{TOPICS[0]} {number}",
            input_token_length=100,
            outputs=(
                Outcome(model_name="wordy", correctness=True, input_token_length=200),
                Outcome(model_name="silent", correctness=True),
            ),
        )
        for number in range(400)
    ]
    call = query_text("x" * 4000)
    tokens = RetrievalPredictor().fit(history).predict([call], ["wordy", "silent"]).input_tokens
    assert tokens[0] == pytest.approx([2000, 1000], rel=0.03)


HISTORIES: dict[str, Sequence[Record]] = {
    "empty": [],
    "one record": [record("q", a=1)],
    "no outcome at all": [record("q")],
    "all equal": [record("same", a=1, b=0)] * 12,
    "empty queries": [record("", a=1, b=0.5)] * 3,
    "never right": [record(f"question {number}", a=0) for number in range(9)],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_poor_histories_give_sane_estimates(name: str) -> None:
    calls = [query_text(text) for text in ("", "q", "same", "Ünïcode 你好", "word " * 200_000)]
    predictor = RetrievalPredictor().fit(HISTORIES[name])
    assert_sane(predictor.predict(calls, ["a", "b", "new"]), (5, 3))
    assert_sane(predictor.predict([], ["a"]), (0, 1))
    assert_sane(predictor.predict(calls, []), (5, 0))
