"""A saved predictor says the same, can carry no code, and holds for one history."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eccos_aios.errors import HistoryError
from eccos_aios.history import Record
from eccos_aios.predict import (
    HybridPredictor,
    Predictor,
    RetrievalPredictor,
    TrainedPredictor,
    fitted_predictor,
    load_predictor,
    query_text,
    save_predictor,
)

pytestmark = pytest.mark.usefixtures("few_trees")

CALLS = [query_text("prove the lemma"), query_text("a poem"), query_text("")]


@pytest.mark.parametrize("kind", [RetrievalPredictor, TrainedPredictor, HybridPredictor])
def test_a_loaded_predictor_says_the_same(
    kind: type[Predictor], two_topics: list[Record], tmp_path: Path
) -> None:
    fitted = kind().fit(two_topics)
    save_predictor(fitted, tmp_path / "p.npz")
    loaded = load_predictor(tmp_path / "p.npz")
    for before, after in zip(
        vars(fitted.predict(CALLS, ["a", "new"])).values(),
        vars(loaded.predict(CALLS, ["a", "new"])).values(),
        strict=True,
    ):
        assert (before == after).all()


def test_an_empty_history_can_be_saved_too(tmp_path: Path) -> None:
    save_predictor(HybridPredictor().fit([]), tmp_path / "p.npz")
    assert load_predictor(tmp_path / "p.npz").predict(CALLS, ["a"]).quality.shape == (3, 1)


def test_a_file_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, head=np.array([print], dtype=object))
    with pytest.raises(HistoryError, match="not a saved predictor"):
        load_predictor(path)


@pytest.mark.parametrize(
    "head",
    [
        {"format": 99},
        {
            "format": 2,
            "mark": None,
            "records": 0,
            "key": "",
            "predictor": {"kind": "Popen", "place": "", "fields": {}},
        },
        {
            "format": 2,
            "mark": None,
            "records": 0,
            "key": "",
            "predictor": {"kind": "ShapeScale", "place": "", "fields": {}},
        },
        {"format": 2, "mark": None, "records": 0, "key": "", "predictor": 7},
        {},
    ],
)
def test_a_strange_file_is_refused_by_name(head: dict, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8))
    with pytest.raises(HistoryError, match=r"p\.npz"):
        load_predictor(path)


def test_the_cache_holds_until_the_history_changes(two_topics: list[Record], tmp_path: Path) -> None:
    history = tmp_path / "h.jsonl"
    history.write_text("\n".join(record.model_dump_json() for record in two_topics[:30]))
    reads = []

    def read(path: Path) -> list[Record]:
        reads.append(path)
        return two_topics[:30]

    first = fitted_predictor(history, read=read).predictor
    second = fitted_predictor(history, read=read).predictor
    assert len(reads) == 1
    assert (first.predict(CALLS, ["a"]).quality == second.predict(CALLS, ["a"]).quality).all()
    history.write_text(history.read_text() + "\n")
    fitted_predictor(history, read=read)
    assert len(reads) == 2


def test_a_broken_cache_is_fitted_anew(two_topics: list[Record], tmp_path: Path) -> None:
    history = tmp_path / "h.jsonl"
    history.write_text("x")
    cache = tmp_path / "h.jsonl.predictor.npz"
    cache.write_bytes(b"PK\x03\x04 torn")
    fitted_predictor(history, read=lambda path: two_topics[:20])
    load_predictor(cache)
