"""A predictor of the user's own: fitted, refitted, saved if it registers how, and never mixed up with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eccos_aios.errors import HistoryError
from eccos_aios.history import HistoryStore, Outcome, Record
from eccos_aios.predict import (
    CallText,
    Embedder,
    Estimates,
    HybridPredictor,
    Predictor,
    PredictorSpec,
    RefittedPredictor,
    ResidualOnlinePredictor,
    RetrievalPredictor,
    TrainedPredictor,
    fitted_predictor,
    is_persistent,
    load_predictor,
    online_predictor,
    query_text,
    register_persistence,
    save_predictor,
)

pytestmark = pytest.mark.usefixtures("few_trees")

HERE = __name__
CALLS = [query_text("prove the lemma"), query_text("a poem")]


class Means(Predictor):
    """The mean quality of each core, the same for every call."""

    fits = 0

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def fit(self, history: Sequence[Record]) -> Means:
        type(self).fits += 1
        quality: dict[str, list[float]] = {}
        for record in history:
            for outcome in record.outputs:
                quality.setdefault(outcome.model_name, []).append(outcome.graded_quality)
        self.means_ = {core: float(np.mean(values)) for core, values in quality.items()}
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        row = [self.means_.get(core, 0.5) + self.offset for core in cores]
        quality = np.tile(row, (len(calls), 1))
        return Estimates(quality, np.ones_like(quality), np.ones_like(quality), np.zeros_like(quality))


class SavedMeans(Means):
    """The same, and it can be saved."""

    fits = 0


def save(predictor: SavedMeans) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    names = sorted(predictor.means_)
    return (
        {"offset": predictor.offset, "cores": names},
        {"means": np.array([predictor.means_[name] for name in names], dtype=np.float64)},
    )


def restore(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> SavedMeans:
    predictor = SavedMeans(float(content["offset"]))
    means = arrays["means"]
    if means.shape != (len(content["cores"]),):
        raise ValueError("means: not one per core")
    predictor.means_ = dict(zip(content["cores"], means.tolist(), strict=True))
    return predictor


register_persistence(SavedMeans, save, restore)


class Letters(Embedder):
    """Counts of four letters."""

    def fit(self, texts: Sequence[str]) -> Letters:
        return self

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        counts = np.array([[text.count(letter) for letter in "aeio"] for text in texts], dtype=np.float32)
        lengths = np.linalg.norm(counts.reshape(-1, 4), axis=1, keepdims=True)
        return counts.reshape(-1, 4) / np.maximum(lengths, 1)


class SavedLetters(Letters):
    pass


register_persistence(SavedLetters, lambda embedder: ({}, {}), lambda content, arrays: SavedLetters())


@pytest.fixture
def path(tmp_path: Path, two_topics: list[Record]) -> Path:
    with HistoryStore(tmp_path / "h.db") as store:
        store.extend(two_topics)
    Means.fits = SavedMeans.fits = 0
    return tmp_path / "h.db"


def quality(predictor: Predictor) -> list[list[float]]:
    found: list[list[float]] = predictor.predict(CALLS, ["a", "b", "new"]).quality.tolist()
    return found


def test_one_that_registers_nothing_is_fitted_at_every_start(path: Path) -> None:
    spec = PredictorSpec(f"{HERE}:Means")
    assert not is_persistent(spec)
    for fits in (1, 2):
        assert quality(fitted_predictor(path, spec).predictor) == [[0.5, 0.5, 0.5]] * 2
        assert Means.fits == fits
    assert not path.with_name("h.db.predictor.npz").exists()


def test_one_that_registers_is_fitted_once_and_restored(path: Path) -> None:
    spec = PredictorSpec(f"{HERE}:SavedMeans", {"offset": 0.25})
    assert is_persistent(spec)
    first, second = (fitted_predictor(path, spec) for _ in range(2))
    assert SavedMeans.fits == 1
    assert second.predictor is not first.predictor
    assert isinstance(second.predictor, SavedMeans)
    assert quality(second.predictor) == quality(first.predictor)
    assert second.mark == first.mark


def test_a_cache_is_not_used_for_other_options_or_another_predictor(path: Path) -> None:
    fitted_predictor(path, PredictorSpec(f"{HERE}:SavedMeans", {"offset": 0.25}))
    other = fitted_predictor(path, PredictorSpec(f"{HERE}:SavedMeans", {"offset": 0.125}))
    assert quality(other.predictor)[0][0] == 0.625
    assert SavedMeans.fits == 2
    assert isinstance(fitted_predictor(path, PredictorSpec("retrieval")).predictor, RetrievalPredictor)
    narrow = PredictorSpec("retrieval", {"neighbours": 3})
    found = fitted_predictor(path, narrow).predictor
    assert isinstance(found, RetrievalPredictor) and found.neighbours == 3


def test_a_forged_state_is_refused(path: Path, tmp_path: Path) -> None:
    predictor = SavedMeans().fit([])
    predictor.means_ = {"a": 1.0}
    save_predictor(predictor, tmp_path / "p.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "savez", lambda file, **arrays: _savez(file, arrays))
        save_predictor(predictor, tmp_path / "forged.npz")
    assert quality(load_predictor(tmp_path / "p.npz"))[0][0] == 1.0
    with pytest.raises(HistoryError, match="not one per core"):
        load_predictor(tmp_path / "forged.npz")


_real_savez = np.savez


def _savez(file: Any, arrays: dict[str, np.ndarray]) -> None:
    _real_savez(file, **{**arrays, "predictor.means": np.zeros(3)})


def test_a_file_cannot_name_a_class_that_nobody_registered(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Means cannot be saved"):
        save_predictor(Means().fit([]), tmp_path / "p.npz")


@pytest.mark.parametrize(("embedder", "kept"), [("Letters", False), ("SavedLetters", True)])
def test_an_embedder_of_ones_own_lets_the_hybrid_be_saved_if_it_registers(
    path: Path, embedder: str, kept: bool
) -> None:
    spec = PredictorSpec(embedder=f"{HERE}:{embedder}")
    first, second = (fitted_predictor(path, spec).predictor for _ in range(2))
    assert path.with_name("h.db.predictor.npz").exists() is kept
    assert isinstance(second, HybridPredictor)
    assert quality(first) == quality(second)


def test_what_can_learn_online_does_and_the_rest_is_counted(two_topics: list[Record]) -> None:
    for kind in (HybridPredictor, RetrievalPredictor, TrainedPredictor):
        predictor = online_predictor(kind().fit(two_topics[:60]))
        assert isinstance(predictor, ResidualOnlinePredictor) and predictor.learns_online
        before = quality(predictor)[0][0]
        news = Outcome(model_name="a", quality=0.0)
        predictor.learn([Record(id=str(n), query="prove the lemma", outputs=(news,)) for n in range(8)])
        assert quality(predictor)[0][0] < before - 0.2, kind
    plain = online_predictor(Means().fit(two_topics))
    assert isinstance(plain, RefittedPredictor) and not plain.learns_online
    record = Record(id="x", query="q", outputs=(Outcome(model_name="a", quality=0.0),))
    plain.learn([record, record, record.model_copy(update={"id": None})])
    assert plain.calls == 2
    assert online_predictor(plain) is plain
    plain.rebase(Means(0.25).fit(two_topics), [record])
    assert (plain.calls, quality(plain)[0][0]) == (1, 0.75)
