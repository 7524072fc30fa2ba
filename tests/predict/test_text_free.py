"""Histories that leave texts out: what is kept in their place still tells which core is good at what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eccos_aios.history import (
    CallOutcome,
    HistoryStore,
    Outcome,
    Record,
    export_history,
    import_history,
    read_history,
)
from eccos_aios.predict import (
    HashedEmbedder,
    HybridPredictor,
    Predictor,
    ResidualOnlinePredictor,
    RetrievalPredictor,
    TfidfEmbedder,
    TrainedPredictor,
    embedding_of,
    fitted_predictor,
    load_predictor,
    query_text,
    record_text,
    save_predictor,
)
from eccos_aios.predict.dataset import query_groups
from eccos_aios.predict.features import embed_calls, shape_of

PROOF = query_text("prove the lemma about prime numbers with birch and alder 240")
POEM = query_text("write a poem about the autumn sea with birch and alder 241")
CORES = ["a", "b"]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "adds two numbers"}}]
LEFT_OUT: list[Callable[[Record], Record]] = [
    lambda record: record.without_text(embedding_of),
    lambda record: record.without_text(embedding_of) if record.outputs[0].quality else record,
]


def quality(predictor: Predictor) -> list[list[float]]:
    estimates: list[list[float]] = predictor.predict([PROOF, POEM], CORES).quality.tolist()
    return estimates


@pytest.mark.parametrize("kind", [RetrievalPredictor, TrainedPredictor, HybridPredictor])
@pytest.mark.parametrize("left_out", LEFT_OUT, ids=["all", "half"])
def test_topics_are_learned_without_their_texts(
    kind: type[Predictor], left_out: Callable[[Record], Record], two_topics: list[Record], tmp_path: Path
) -> None:
    predictor = kind().fit([left_out(record) for record in two_topics])
    (proof_a, proof_b), (poem_a, poem_b) = quality(predictor)
    assert min(proof_a, poem_b) > 0.85
    assert max(proof_b, poem_a) < 0.15
    save_predictor(predictor, tmp_path / "p.npz")
    assert quality(load_predictor(tmp_path / "p.npz")) == quality(predictor)


def test_without_an_embedding_only_the_means_are_learned(two_topics: list[Record]) -> None:
    predictor = HybridPredictor().fit([record.without_text() for record in two_topics])
    np.testing.assert_allclose(quality(predictor), 0.5, atol=0.1)


def test_what_is_kept_stands_for_the_text_exactly() -> None:
    record = Record(query="Is 17 × 23 = 391? Prove it.", tools=TOOLS, outputs=(), input_token_length=40)
    text, kept = record_text(record), record_text(record.without_text(embedding_of))
    assert (kept.text, kept.input_tokens) == ("", 40.0)
    np.testing.assert_array_equal(
        embed_calls([text, POEM], HashedEmbedder()), embed_calls([kept, POEM], HashedEmbedder())
    )
    np.testing.assert_array_equal(
        embed_calls([text], HashedEmbedder()), embed_calls([kept], HashedEmbedder())
    )
    np.testing.assert_allclose(shape_of([text]), shape_of([kept]), rtol=1e-3)


def test_the_same_text_is_embedded_the_same_by_every_version() -> None:
    record = Record(
        query="Prove the lemma: 12 < 13, naïvely. 証明", tools=TOOLS, outputs=(), input_token_length=40
    )
    assert embedding_of(record) == PINNED, "histories keep these: give another embedding another KIND"


def test_no_word_is_in_what_is_kept() -> None:
    kept = record_text(Record(query="xylophone", tools=TOOLS, outputs=()).without_text(embedding_of))
    assert kept.embedding is not None
    assert not any(word in kept.embedding for word in (b"xylo", b"add", b"numb"))


def test_calls_that_ask_the_same_are_told_also_without_text() -> None:
    records = [
        Record(query=query, outputs=()) for query in ("sum of 1 and 2", "sum of 3 and 4", "sum of 1 and 2")
    ]
    kept = [record.without_text(embedding_of) for record in records]
    assert kept[0].embedding == kept[1].embedding
    assert query_groups([record_text(record) for record in kept]).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "embedding", [None, "other-9:AAAA", "hashed-256:AAAA", "hashed-256:A", "hashed-256:" + "/" * 216]
)
def test_what_cannot_be_read_counts_as_nothing_kept(embedding: str | None, two_topics: list[Record]) -> None:
    records = [record.without_text().model_copy(update={"embedding": embedding}) for record in two_topics]
    predictor = RetrievalPredictor().fit(records)
    assert isinstance(predictor.embedder_, TfidfEmbedder)
    assert np.isfinite(predictor.predict([PROOF], CORES).quality).all()


def test_a_record_refuses_what_is_no_embedding() -> None:
    with pytest.raises(ValueError, match="embedding"):
        Record(query="", outputs=(), embedding="what was asked")


def test_tokens_are_as_right_as_with_the_texts(two_topics: list[Record]) -> None:
    counted = [record.model_copy(update={"input_token_length": None}) for record in two_topics]
    with_text = RetrievalPredictor().fit(counted).predict([PROOF], CORES)
    embedded = [record.without_text(embedding_of) for record in counted]
    without = RetrievalPredictor().fit(embedded).predict([PROOF], CORES)
    np.testing.assert_allclose(without.input_tokens, with_text.input_tokens, rtol=0.01)
    nothing = RetrievalPredictor().fit([record.without_text() for record in counted])
    assert (nothing.predict([PROOF], CORES).input_tokens <= PROOF.input_tokens).all()


def test_a_store_without_text_says_the_same_after_it_is_opened_again_and_after_an_export(
    two_topics: list[Record], tmp_path: Path
) -> None:
    with HistoryStore(tmp_path / "bare.db", store_text=False, embed=embedding_of) as store:
        store.extend(two_topics[:120])
        store.append_outcomes(_outcomes(two_topics[120:]))
    fitted = quality(fitted_predictor(tmp_path / "bare.db").predictor)
    assert quality(fitted_predictor(tmp_path / "bare.db").predictor) == fitted
    assert fitted[0][0] > 0.8 > 0.2 > fitted[0][1]
    with HistoryStore(tmp_path / "bare.db", read_only=True) as store:
        export_history(store, tmp_path / "bare.jsonl")
        kept = list(store.records())
    with HistoryStore(tmp_path / "again.db") as again:
        import_history(again, tmp_path / "bare.jsonl")
    assert read_history(tmp_path / "again.db") == kept
    assert quality(HybridPredictor().fit(read_history(tmp_path / "again.db"))) == fitted


def test_a_long_history_is_searched_by_what_was_kept(
    two_topics: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eccos_aios.predict.dataset.SAMPLE", 60)
    monkeypatch.setattr("eccos_aios.predict.retrieval.CHUNK", 50)
    predictor = HybridPredictor().fit([record.without_text(embedding_of) for record in two_topics])
    (proof_a, proof_b), (poem_a, poem_b) = quality(predictor)
    assert min(proof_a, poem_b) > 0.8 > 0.2 > max(proof_b, poem_a)
    assert len(predictor.retrieval.vectors_) == len(two_topics)


def test_news_without_text_count_for_like_calls_at_once(two_topics: list[Record]) -> None:
    predictor = ResidualOnlinePredictor(
        HybridPredictor().fit([record.without_text(embedding_of) for record in two_topics])
    )
    before = quality(predictor)
    failed = (Outcome(model_name="a", quality=0.0),)
    predictor.learn(
        [Record(query=PROOF.text, outputs=failed, id=str(n)).without_text(embedding_of) for n in range(6)]
    )
    after = quality(predictor)
    assert after[0][0] < before[0][0] - 0.2
    assert after[1][1] == pytest.approx(before[1][1], abs=0.05)


def test_a_predictor_that_is_fitted_on_texts_again_learns_their_words_again(two_topics: list[Record]) -> None:
    predictor = RetrievalPredictor().fit([record.without_text(embedding_of) for record in two_topics])
    assert isinstance(predictor.embedder_, HashedEmbedder)
    assert isinstance(predictor.fit(two_topics).embedder_, TfidfEmbedder)


def _outcomes(records: list[Record]) -> list[CallOutcome]:
    return [
        CallOutcome(call_id=f"{row}-{outcome.model_name}", core=outcome.model_name, query=record.query, quality=outcome.quality)
        for row, record in enumerate(records)
        for outcome in record.outputs
    ]  # fmt: skip


PINNED = (
    "hashed-256:"
    "AAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAABAAABAAAAAAAAAAAAAAAQAAAAAAAAAAAA"
    "AAAAAAAAIAAQAAAAAQAAAAAAAAABAAAAAAAAAAAAAAAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABGQ21DADwvQgAA"
    "6y4AAOsu6yaMOQAAAABlPAAAjDmgRAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAA="
)
