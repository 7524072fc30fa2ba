"""A history too long for memory: sampled, searched whole, and opened again with what came later."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from experiments.history_records import CORES, GeneratedHistory

from eccos_aios.core import Core
from eccos_aios.errors import HistoryError
from eccos_aios.explain import explain
from eccos_aios.history import CallOutcome, HistoryStore, Outcome, Record
from eccos_aios.predict import (
    HybridPredictor,
    PredictorSpec,
    RetrievalPredictor,
    TfidfEmbedder,
    fitted_predictor,
    load_predictor,
    query_text,
    record_text,
)
from eccos_aios.predict.dataset import MIN_OF_CORE, outcomes_of, sample_of
from eccos_aios.predict.features import embed_calls

pytestmark = pytest.mark.usefixtures("few_trees")

RECORDS = 800
GENERATED = GeneratedHistory(RECORDS)
ALL = list(GENERATED)
CALLS = [record_text(record) for record in GENERATED.unseen(64)]


@pytest.fixture(autouse=True, scope="module")
def low_limits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eccos_aios.predict.dataset.SAMPLE", 240)
        patch.setattr("eccos_aios.predict.retrieval.EXACT_UP_TO", 500)
        patch.setattr("eccos_aios.predict.retrieval.CHUNK", 256)
        patch.setattr("eccos_aios.predict.approximate.SCANNED", 250)
        yield


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "h.db"
    with HistoryStore(path) as store:
        store.extend(ALL)
    return path


@pytest.fixture
def path(generated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(generated, tmp_path))


@pytest.fixture(scope="module")
def once_fitted(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the predictor that was fitted on it."""
    path = Path(shutil.copy(generated, tmp_path_factory.mktemp("fitted")))
    fitted_predictor(path, NARROW)
    return path


@pytest.fixture
def fitted(once_fitted: Path, tmp_path: Path) -> Path:
    """A copy of its own for a test."""
    shutil.copy(once_fitted.with_name("h.db.predictor.npz"), tmp_path)
    return Path(shutil.copy(once_fitted, tmp_path))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the histories that were fitted."""
    lengths: list[int] = []
    fit = RetrievalPredictor.fit

    def counted(predictor: RetrievalPredictor, history: Sequence[Record]) -> RetrievalPredictor:
        lengths.append(len(history))
        return fit(predictor, history)

    monkeypatch.setattr(RetrievalPredictor, "fit", counted)
    return lengths


# With few dimensions, so that a fit takes no time.
NARROW = PredictorSpec("retrieval", embedder="tfidf", embedder_options={"dimensions": 24})


def narrow() -> RetrievalPredictor:
    return RetrievalPredictor(embedder=TfidfEmbedder(24))


def exact(predictor: RetrievalPredictor, history: Sequence[Record], count: int) -> np.ndarray:
    vectors = embed_calls([record_text(record) for record in history], predictor.embedder_)
    return np.argsort(-(embed_calls(CALLS, predictor.embedder_) @ vectors.T), axis=1, kind="stable")[
        :, :count
    ]


def test_the_lists_find_what_a_search_through_all_finds() -> None:
    predictor = narrow().fit(ALL)
    assert predictor.approximate_ is not None
    found = [{row for row, _ in predictor.nearest(call, 16)} for call in CALLS]
    hits = [
        len(near & set(rows)) for near, rows in zip(found, exact(predictor, ALL, 16).tolist(), strict=True)
    ]
    assert np.mean(hits) / 16 > 0.9


def test_a_history_between_the_limits_is_searched_exactly() -> None:
    predictor = narrow().fit(ALL[:480])
    found = [[row for row, _ in predictor.nearest(call, 5)] for call in CALLS]
    assert found == exact(predictor, ALL[:480], 5).tolist()


@pytest.mark.parametrize("exact_up_to", [500, RECORDS])
def test_a_walk_in_chunks_gives_what_a_fit_on_all_gives(
    exact_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eccos_aios.predict.retrieval.EXACT_UP_TO", exact_up_to)
    walked, whole = narrow().fit(ALL), narrow()
    outcomes, whole.embedder_ = outcomes_of(ALL), walked.embedder_
    whole.fit_outcomes(outcomes, embed_calls(outcomes.calls, walked.embedder_))
    one, other = walked.predict(CALLS, CORES), whole.predict(CALLS, CORES)
    assert np.abs(one.quality - other.quality).mean() < 0.02
    assert np.abs(np.log(one.output_tokens / other.output_tokens)).mean() < 0.05


def test_no_core_is_missing_from_a_sample_and_its_order_is_the_historys() -> None:
    rare = [
        Record(query=f"q {number}", outputs=(Outcome(model_name="new", quality=1.0),)) for number in range(9)
    ]
    sample = sample_of([*ALL, *rare])
    assert sample[-9:] == rare
    assert 240 <= len(sample) <= 240 + (len(CORES) + 1) * MIN_OF_CORE
    places = [ALL.index(record) for record in sample[:-9]]
    assert places == sorted(places)
    assert sample_of(ALL[:240]) == ALL[:240]


def test_an_opened_predictor_says_what_the_fitted_one_said_and_shows_the_records(path: Path) -> None:
    spec = PredictorSpec(embedder="tfidf", embedder_options={"dimensions": 24})
    fitted, opened = (fitted_predictor(path, spec) for _ in range(2))
    assert opened.predictor is not fitted.predictor
    for before, after in zip(
        vars(fitted.predictor.predict(CALLS, [*CORES, "unknown"])).values(),
        vars(opened.predictor.predict(CALLS, [*CORES, "unknown"])).values(),
        strict=True,
    ):
        assert (before == after).all()
    assert opened.mark == fitted.mark is not None
    assert isinstance(opened.predictor, HybridPredictor)
    asked = ALL[654]
    with HistoryStore(path, read_only=True) as store:
        records, cores = store.records_until(opened.mark), [Core(name=name) for name in CORES]
        explanation = explain(records, cores, asked.query, asked.tools, predictor=opened.predictor)
    assert explanation.neighbours[0].query == asked.query
    assert explanation.neighbours[0].similarity == pytest.approx(1.0, abs=0.01)


def test_a_cache_holds_for_later_marks_and_tells_what_came_since(fits: list[int], fitted: Path) -> None:
    first = fitted_predictor(fitted, NARROW)
    later = Record(id="later", query="q", outputs=(Outcome(model_name="core-1", quality=1.0),))
    with HistoryStore(fitted) as store:
        store.extend([later])
        store.append_outcomes([CallOutcome(call_id="call", core="core-2", query="q")])
        store.give_quality("call", 0.5)
        again = fitted_predictor(fitted, NARROW)
        assert (fits, again.mark) == ([], first.mark)
        assert again.mark is not None
        assert [record.id for record in store.records_since(again.mark)] == ["later", "call"]
        store.extend(islice(GeneratedHistory(RECORDS // 3, seed=1), RECORDS // 3))
        store.extend(later.model_copy(update={"id": f"n{number}"}) for number in range(RECORDS // 2))
        renewed = fitted_predictor(fitted, NARROW)
        assert len(fits) == 1
        assert renewed.mark == store.mark()


def test_a_cache_of_another_past_is_not_used(fits: list[int], path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "older.db")
    with HistoryStore(path) as store:
        store.extend([Record(id="x", query="q", outputs=(Outcome(model_name="core-1", quality=1.0),))])
    fitted_predictor(path, NARROW)
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)
    shutil.copy(tmp_path / "older.db", path)
    fitted_predictor(path, NARROW)
    assert len(fits) == 2


@pytest.mark.parametrize("part", ["predictor.deviation_.npy", "predictor.approximate_"])
@pytest.mark.parametrize("where", [100, -1])
def test_a_broken_cache_is_fitted_anew(fits: list[int], fitted: Path, part: str, where: int) -> None:
    fitted_predictor(fitted, NARROW)
    assert fits == []
    cache = fitted.with_name("h.db.predictor.npz")
    with zipfile.ZipFile(cache) as file:
        member = file.getinfo(part)
    header = 30 + len(part) + int.from_bytes(cache.read_bytes()[member.header_offset + 28 :][:2], "little")
    content = bytearray(cache.read_bytes())
    content[member.header_offset + header + where % member.file_size] ^= 0xFF
    cache.write_bytes(content)
    with pytest.raises(HistoryError, match=r"h\.db\.predictor\.npz: is not a saved predictor"):
        load_predictor(cache)
    fitted_predictor(fitted, NARROW)
    assert fits == [RECORDS]
    load_predictor(cache)


def test_an_outcome_of_absurd_length_does_not_spoil_its_neighbours() -> None:
    longest = Outcome(model_name="core-1", quality=1.0, output_token_length=10**9)
    absurd = Record(query=ALL[0].query, tools=ALL[0].tools, outputs=(longest,))
    estimates = narrow().fit([*ALL, absurd]).predict([record_text(absurd)], CORES)
    assert np.isfinite(estimates.output_tokens).all()


def test_a_long_history_without_texts_gives_the_means(tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "h.db", store_text=False) as store:
        store.extend(ALL)
    predictor = fitted_predictor(tmp_path / "h.db", NARROW).predictor
    estimates = predictor.predict([query_text("anything")], CORES)
    share = np.nanmean([[known.get(core, np.nan) for core in CORES] for known in _qualities(ALL)], axis=0)
    assert estimates.quality[0] == pytest.approx(share, abs=0.1)
    assert (estimates.support == 0).all()


def _qualities(records: Sequence[Record]) -> list[dict[str, float]]:
    return [{outcome.model_name: outcome.graded_quality for outcome in record.outputs} for record in records]
