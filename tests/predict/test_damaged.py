"""A saved predictor that is damaged, or made up: it is fitted anew, at no more memory than the file has."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eccos_aios.errors import HistoryError
from eccos_aios.history import Record
from eccos_aios.predict import (
    Embedder,
    HybridPredictor,
    PredictorSpec,
    RetrievalPredictor,
    TfidfEmbedder,
    TrainedPredictor,
    fitted_predictor,
    load_predictor,
    query_text,
    save_predictor,
)
from eccos_aios.predict import persistence as room

pytestmark = pytest.mark.usefixtures("few_trees")

CALLS = [query_text("prove the lemma"), query_text("a poem"), query_text("")]
MAX_MEMORY = 64 * 2**20
Members = dict[str, bytes]


SPEC = PredictorSpec(embedder="tfidf", embedder_options={"dimensions": 12})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history whose predictor is kept beside it."""
    history = tmp_path_factory.mktemp("kept") / "h.jsonl"
    draw = random.Random(0)
    topics = ("prove the lemma about primes", "write a poem about the sea")
    records = []
    for number in range(60):
        outputs = [
            {"model_name": core, "quality": draw.random(), "output_token_length": 20 + number % 7}
            for core in ("a", "b", "c")
        ]
        query = f"{topics[number % 2]}, number {number}"
        records.append({"query": query, "category": topics[number % 2], "outputs": outputs})
    history.write_text("\n".join(map(json.dumps, records)) + "\n")
    fitted_predictor(history, SPEC, lambda path: [Record.model_validate(each) for each in records])
    assert cache_of(history).exists()
    return history


@pytest.fixture
def history(kept: Path, tmp_path: Path) -> Path:
    shutil.copy(cache_of(kept), tmp_path)
    return Path(shutil.copy(kept, tmp_path))


def cache_of(history: Path) -> Path:
    return history.with_name(history.name + room.SUFFIX)


def answers(predictor: Any) -> np.ndarray:
    found = predictor.predict(CALLS, ["a", "b", "c", "new"])
    return np.concatenate([found.quality, found.input_tokens, found.output_tokens, found.support])


class FitsAnewError(Exception):
    """The history is read, as the cache is of no use."""


def loaded(history: Path, *, traced: bool = False) -> Any | None:
    """The predictor that the cache holds; None where the history is read, and nothing else is raised.

    With `traced` the memory that this takes is bounded too, at several times the cost.
    """

    def read(path: Path) -> list[Record]:
        raise FitsAnewError

    found, most = None, MAX_MEMORY + 4 * cache_of(history).stat().st_size
    if traced:
        tracemalloc.start()
    try:
        with contextlib.suppress(FitsAnewError):
            found = fitted_predictor(history, SPEC, read).predictor
        assert not traced or tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    return found


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write(path: Path, content: Members, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in content.items():
            file.writestr(name, data)


def array(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


def npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def head(content: Members) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(array(content["head.npy"]).tobytes())
    return found


def with_head(content: Members, changed: dict[str, Any]) -> Members:
    return {**content, "head.npy": npy(np.frombuffer(json.dumps(changed).encode(), dtype=np.uint8))}


def test_what_is_whole_is_loaded(history: Path) -> None:
    assert loaded(history) is not None


def test_members_that_are_written_again_are_loaded(history: Path) -> None:
    write(cache_of(history), members(cache_of(history)))
    assert loaded(history) is not None


def test_what_is_fitted_anew_replaces_the_damaged_cache(history: Path) -> None:
    cache = cache_of(history)
    cache.write_bytes(cache.read_bytes()[:-2000])
    fitted_predictor(history, SPEC, lambda _: [])
    assert not np.isnan(answers(load_predictor(cache))).any()


def test_any_cut_and_any_flipped_byte_says_the_same_or_is_fitted_anew(history: Path) -> None:
    cache, draw = cache_of(history), random.Random(7)
    whole = cache.read_bytes()
    right = answers(load_predictor(cache))
    for turn in range(45):
        data = bytearray(whole)
        if turn % 3 == 0:
            del data[draw.randrange(len(data)) :]
        elif turn % 3 == 1:
            for _ in range(draw.choice((1, 2, 40))):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:  # where the directory and the headers are
            data[-draw.randrange(1, 3000)] ^= 1 << draw.randrange(8)
        cache.write_bytes(data)
        found = loaded(history, traced=turn % 3 == 2)
        assert found is None or (answers(found) == right).all(), turn


ARRAYS = [
    "predictor.retrieval.priors_.quality",
    "predictor.retrieval.deviation_",
    "predictor.retrieval.lengthening_",
    "predictor.retrieval.used_",
    "predictor.retrieval.vectors_",
    "predictor.trained.shape_.spread_",
    "predictor.trained.category_.weights_",
    "predictor.trained.category_means_",
    "predictor.trained.kernel_.points_",
    "predictor.trained.quality_heads_",
    "predictor.trained.forest_.feature",
    "predictor.trained.forest_.children",
    "predictor.trained.forest_.value",
    "predictor.trained.forest_.roots",
    "predictor.trained.output_scale_",
    "predictor.weight_",
]
NO_NAN = (
    "deviation_",
    "lengthening_",
    "used_",
    "feature",
    "children",
    "roots",
)  # whole numbers, or NaN is meant
FRACTIONS = [name for name in ARRAYS if not name.endswith(NO_NAN)]
WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda value: np.vstack([value, value]) if value.ndim == 1 else value.T,
    "one short": lambda value: value[:-1],
    "flat": lambda value: value.reshape(-1, 1) if value.ndim == 1 else value.ravel(),
    "empty": lambda value: value[:0],
    "no dimension": lambda value: np.array(value.ravel()[0]),
    "not finite": lambda value: np.full(value.shape, np.inf),
    "minus infinity": lambda value: np.full(value.shape, -np.inf),
    "huge": lambda value: np.full(value.shape, 1e30),
    "negative": lambda value: np.full(
        value.shape, -(2**31), dtype=value.dtype if value.dtype.kind == "i" else "f8"
    ),
    "complex": lambda value: value.astype(complex),
    "text": lambda value: value.astype("U4"),
    "truth": lambda value: value.astype(bool),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_form_is_fitted_anew(history: Path, name: str) -> None:
    whole = members(cache_of(history))
    value = array(whole[f"{name}.npy"])
    for wrong, change in WRONG.items():
        if name.endswith("roots") and wrong == "one short":
            continue  # a forest of one tree less is a forest
        write(cache_of(history), {**whole, f"{name}.npy": npy(change(value))})
        assert loaded(history) is None, wrong


@pytest.mark.parametrize("name", FRACTIONS)
def test_what_is_no_number_is_fitted_anew(history: Path, name: str) -> None:
    content = members(cache_of(history))
    value = array(content[f"{name}.npy"])
    value.ravel()[-1] = np.nan
    content[f"{name}.npy"] = npy(value)
    write(cache_of(history), content)
    assert loaded(history) is None


def test_members_that_changed_places_are_fitted_anew(history: Path) -> None:
    whole, draw = members(cache_of(history)), random.Random(3)
    names = sorted(whole)
    right = answers(load_predictor(cache_of(history)))
    for _ in range(25):
        first, second = draw.sample(names, 2)
        write(cache_of(history), {**whole, first: whole[second], second: whole[first]})
        found = loaded(history)
        if found is not None:  # two of one form, such as the token heads: it says something else, but says it
            assert np.isfinite(answers(found)).all() and answers(found).shape == right.shape


@pytest.mark.parametrize("name", ["predictor.weight_", "head"])
@pytest.mark.parametrize(
    "shape",
    [
        "(1000000000000,)",
        "(9223372036854775807, 9)",
        "(-1,)",
        "(-3, -3)",
        "(True,)",
        "()",
        "(4,) + (2,)",
        "'x'",
    ],
)
def test_a_header_that_says_another_size_allocates_nothing(history: Path, name: str, shape: str) -> None:
    content = members(cache_of(history))
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content[f"{name}.npy"] = (
        b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)
    )
    write(cache_of(history), content)
    assert loaded(history, traced=True) is None


def test_objects_are_never_unpickled(history: Path) -> None:
    content = members(cache_of(history))
    file = io.BytesIO()
    np.save(file, np.array([print], dtype=object), allow_pickle=True)
    write(cache_of(history), {**content, "predictor.weight_.npy": file.getvalue()})
    assert loaded(history) is None


def test_what_inflates_is_not_inflated(history: Path) -> None:
    content = members(cache_of(history))
    bomb = npy(np.zeros(2**26, dtype=np.uint8))
    for name in ("head.npy", "predictor.weight_.npy", "nobody.npy"):
        write(cache_of(history), {**content, name: bomb}, zipfile.ZIP_DEFLATED)
        assert cache_of(history).stat().st_size < 2**20
        assert loaded(history, traced=True) is None


def test_a_file_that_its_history_cannot_explain_is_not_read(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_BYTES", 0)
    monkeypatch.setattr(room, "MAX_BYTES_PER_BYTE", 1)
    assert loaded(history) is None


def test_a_directory_of_millions_is_not_read(history: Path) -> None:
    with zipfile.ZipFile(cache_of(history), "w") as file:
        for number in range(30_000):
            file.writestr(f"{number:032}.npy", b"")
    assert loaded(history, traced=True) is None


def edited(tree: dict[str, Any], place: str, **fields: Any) -> None:
    node = tree["predictor"]
    for part in filter(None, place.split(".")):
        node = node["fields"][part]
    node["fields"].update(fields)


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        ("calibration_", {"advantage": 1e400}),
        ("calibration_", {"specific": "0.5"}),
        ("", {"calibration_": None}),
        ("", {"predict": 5}),
        ("", {"retrieval": {"same": "predictor.embedder"}}),
        ("", {"embedder_": {"same": "predictor.retrieval"}}),
        ("", {"embedder_": {"kind": "NoEmbedder", "place": "x", "fields": {}}}),
        ("retrieval", {"neighbours": 10**12}),
        ("retrieval", {"neighbours": 3}),  # another parameter than the key stands for
        ("retrieval", {"cores_": {"tuple": ["a", "b"]}}),
        ("retrieval", {"cores_": {"tuple": ["c", "b", "a"]}}),  # the other part names them in another order
        ("retrieval", {"cores_": {"tuple": [1, 2, 3]}}),
        ("retrieval", {"approximate_": {"index": "nobody"}}),
        ("retrieval", {"restore": None}),
        ("trained.forest_", {"depth": 10**15}),
        ("trained.forest_", {"depth": -1}),
        ("trained", {"forest_": 7}),
        ("trained", {"kernel_": {"tuple": []}}),
    ],
    ids=str,
)
def test_a_tree_of_another_form_is_fitted_anew(history: Path, place: str, fields: dict[str, Any]) -> None:
    content = members(cache_of(history))
    tree = head(content)
    edited(tree, place, **fields)
    write(cache_of(history), with_head(content, tree))
    assert loaded(history) is None


@pytest.mark.parametrize("nested", [5_000, 100_000])
def test_a_tree_that_is_deep_is_fitted_anew(history: Path, nested: int) -> None:
    content = members(cache_of(history))
    text = json.dumps(head(content)).replace('"advantage": ', '"advantage": ' + '{"tuple": [' * nested)
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    write(cache_of(history), {**content, "head.npy": npy(raw)})
    assert loaded(history) is None


def test_a_cache_cannot_name_a_model_to_load(history: Path) -> None:
    content = members(cache_of(history))
    tree = head(content)
    model = {"kind": "MiniLmEmbedder", "place": "x", "fields": {"model": "/tmp/evil", "download": True}}
    guard = {
        "kind": "GuardedEmbedder",
        "place": "y",
        "fields": {"inner": model, "width": 12, "failed": False},
    }
    for place in ("", "retrieval", "trained"):
        edited(tree, place, embedder=guard, embedder_=guard)
    write(cache_of(history), with_head(content, tree))
    assert loaded(history) is None


@pytest.mark.parametrize(
    "fault", [MemoryError(), IndexError("x"), RecursionError(), AssertionError()], ids=repr
)
def test_whatever_a_damaged_file_raises_is_fitted_anew(
    history: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eccos_aios.predict import predictor_file as archive

    def broken(*_: object) -> None:
        monkeypatch.undo()
        raise fault

    monkeypatch.setattr(archive, "require", broken)
    assert loaded(history) is None


@pytest.mark.parametrize(
    "unfitted",
    [
        RetrievalPredictor(),
        RetrievalPredictor(neighbours=5, embedder=TfidfEmbedder(8)),
        TrainedPredictor(),
        HybridPredictor(),
    ],
    ids=lambda unfitted: type(unfitted).__name__,
)
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_what_is_fitted_has_the_form_that_is_asked(
    unfitted: Any, count: int, two_topics: list[Record], tmp_path: Path
) -> None:
    fitted = unfitted.fit(two_topics[:count])
    save_predictor(fitted, tmp_path / "p.npz")
    assert (answers(load_predictor(tmp_path / "p.npz")) == answers(fitted)).all()


def test_a_history_without_texts_too(two_topics: list[Record], tmp_path: Path) -> None:
    from eccos_aios.predict import embedding_of

    fitted = SPEC.make().fit([record.without_text(embedding_of) for record in two_topics])
    save_predictor(fitted, tmp_path / "p.npz")
    assert (answers(load_predictor(tmp_path / "p.npz")) == answers(fitted)).all()


def test_an_embedder_that_failed_too(two_topics: list[Record], tmp_path: Path) -> None:
    class Broken(Embedder):
        def fit(self, texts: Sequence[str]) -> Broken:
            raise OSError("the model is not there")

        def transform(self, texts: Sequence[str]) -> Any:
            raise AssertionError

    fitted = HybridPredictor(Broken()).fit(two_topics[:20])
    save_predictor(fitted, tmp_path / "p.npz")
    assert (answers(load_predictor(tmp_path / "p.npz")) == answers(fitted)).all()


def test_a_file_of_another_size_is_named(history: Path) -> None:
    cache_of(history).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(HistoryError, match=r"predictor\.npz: is not a saved predictor"):
        load_predictor(cache_of(history))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved predictor with an approximate index."""
    path = tmp_path_factory.mktemp("indexed") / "p.npz"
    draw = random.Random(0)
    words = [f"word{chr(97 + number)}" for number in range(14)]
    records = [
        Record.model_validate(
            {
                "query": " ".join(draw.choices(words, k=6)),
                "outputs": [{"model_name": "a", "quality": draw.random()}],
            }
        )
        for _ in range(400)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eccos_aios.predict.dataset.SAMPLE", 200)
        patch.setattr("eccos_aios.predict.retrieval.EXACT_UP_TO", 300)
        fitted = RetrievalPredictor(embedder=TfidfEmbedder(8)).fit(records)
    assert fitted.approximate_ is not None
    save_predictor(fitted, path)
    assert (answers(load_predictor(path)) == answers(fitted)).all()
    return path


INDEX = "predictor.approximate_"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: {f"{INDEX}.sizes.npy": npy(-array(content[f"{INDEX}.sizes.npy"]))},
        lambda content: {f"{INDEX}.sizes.npy": npy(array(content[f"{INDEX}.sizes.npy"]) * 2**40)},
        lambda content: {f"{INDEX}.sizes.npy": npy(array(content[f"{INDEX}.sizes.npy"])[:-1])},
        lambda content: {f"{INDEX}.centroids.npy": npy(array(content[f"{INDEX}.centroids.npy"])[:, :-1])},
        lambda content: {f"{INDEX}.centroids.npy": npy(array(content[f"{INDEX}.centroids.npy"]) * np.nan)},
        lambda content: {
            f"{INDEX}.centroids.npy": npy(array(content[f"{INDEX}.centroids.npy"]).astype("f8"))
        },
        lambda content: {INDEX: content[INDEX][:-1]},
        lambda content: {INDEX: b"\xff" * len(content[INDEX])},
        lambda content: {INDEX: b"\x7f" * len(content[INDEX])},
        lambda content: {INDEX: b"\x00\x7c" * (len(content[INDEX]) // 2)},
        lambda content: {INDEX: b""},
        lambda content: {"predictor.deviation_.npy": npy(array(content["predictor.deviation_.npy"])[:9])},
        lambda content: {"predictor.vectors_.npy": npy(np.zeros((400, 8), dtype=np.float32))},
    ],
)
def test_a_broken_index_is_refused(
    indexed: Path, tmp_path: Path, damage: Callable[[Members], Members]
) -> None:
    content = members(indexed)
    write(tmp_path / "p.npz", {**content, **damage(content)})
    with pytest.raises(HistoryError, match="is not a saved predictor"):
        load_predictor(tmp_path / "p.npz")


def test_any_flipped_byte_of_an_index_says_the_same_or_is_refused(indexed: Path, tmp_path: Path) -> None:
    whole, draw, path = indexed.read_bytes(), random.Random(1), tmp_path / "p.npz"
    right = answers(load_predictor(indexed))
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            assert (answers(load_predictor(path)) == right).all()
        except HistoryError:
            refused += 1
    assert refused > 50
