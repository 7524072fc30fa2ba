"""Between stores and JSON lines: nothing is lost, changed or doubled on the way."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.errors import HistoryError
from eccos_aios.history import (
    AddResult,
    CallOutcome,
    HistoryStore,
    Outcome,
    ReadReport,
    Record,
    export_history,
    import_history,
    read_history,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"
GOOD = [
    Record(id=str(n), query=f"q{n}", outputs=(Outcome(model_name="small", quality=n / 10),)) for n in range(5)
]


def lines(*records: Record) -> str:
    return "".join(record.model_dump_json() + "\n" for record in records)


TEXT = st.text(max_size=8)
TOKENS = st.none() | st.integers(0, 10**9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
OUTCOMES = st.builds(
    Outcome,
    model_name=st.text(min_size=1, max_size=4),
    correctness=st.booleans(),
    quality=st.none() | st.floats(0, 1),
    input_token_length=TOKENS,
    output_token_length=TOKENS,
    latency_s=st.none() | st.floats(0, 1e6),
    prediction=JSON,
)
RECORDS = st.builds(
    Record,
    query=TEXT,
    outputs=st.lists(OUTCOMES, max_size=3, unique_by=lambda outcome: outcome.model_name).map(tuple),
    id=st.none() | TEXT,
    tools=st.none() | st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
    category=st.none() | TEXT,
    input_token_length=TOKENS,
)
CALLS = st.builds(
    CallOutcome,
    call_id=st.uuids().map(str),
    core=st.text(min_size=1, max_size=4),
    query=TEXT,
    tools=st.none() | st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
    input_token_length=TOKENS,
    latency_s=st.none() | st.floats(0, 1e6),
    quality=st.none() | st.floats(0, 1),
)


def first_of_each(records: list[Record]) -> list[Record]:
    """What a store keeps of records: the first of each id, and of each content where there is none."""
    kept: dict[str, Record] = {}
    for record in records:
        kept.setdefault(f"id {record.id}" if record.id is not None else record.model_dump_json(), record)
    return list(kept.values())


@settings(deadline=None, max_examples=15)
@given(records=st.lists(RECORDS, max_size=5), calls=st.lists(CALLS, max_size=3), packed=st.booleans())
def test_the_round_trip_is_exact(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], calls: list[CallOutcome], packed: bool
) -> None:
    folder = tmp_path_factory.mktemp("round_trip")
    out = folder / ("history.jsonl.gz" if packed else "history.jsonl")
    expected = first_of_each(records) + [call.record() for call in calls if call.quality is not None]
    with HistoryStore(folder / "first.db") as first, HistoryStore(folder / "second.db") as second:
        first.extend(records)
        first.append_outcomes(calls)
        assert export_history(first, out).records == len(expected)
        assert import_history(second, out).stored == len(expected)
        assert list(first.records()) == list(second.records()) == read_history(out) == expected
        exported = out.read_bytes()
        export_history(second, out)
        unpack = gzip.decompress if packed else bytes
        assert unpack(exported) == unpack(out.read_bytes())
        # Back where it came from it adds nothing.
        assert import_history(first, out).stored == 0


@pytest.mark.parametrize("name", ["qa9", "tools12"])
def test_recorded_data_comes_back_as_it_went_in(tmp_path: Path, name: str) -> None:
    source = SHARED / f"{name}.jsonl.gz"
    if not source.exists():
        pytest.skip(f"the recorded data is not there: {source}")
    some = tmp_path / "some.jsonl"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        some.write_text("".join(islice(file, 0, None, 4)), encoding="utf-8")
    records = read_history(some)
    with HistoryStore(tmp_path / "history.db") as store:
        assert import_history(store, some).stored == len(records)
        assert import_history(store, some) == AddResult(duplicates=len(records))
    assert read_history(tmp_path / "history.db") == records


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    with HistoryStore(tmp_path / "history.db") as store:
        yield store


def test_a_store_is_imported_into_another(store: HistoryStore, tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "other.db") as other:
        other.extend(GOOD)
    assert import_history(store, tmp_path / "other.db") == AddResult(stored=len(GOOD))
    assert list(store.records()) == GOOD


def test_a_bad_record_stops_an_import_that_may_be_run_again_once_it_is_mended(
    store: HistoryStore, tmp_path: Path
) -> None:
    source = tmp_path / "history.jsonl"
    source.write_text(lines(*GOOD[:2]) + '{"query": 1}\n' + lines(*GOOD[2:]))
    with pytest.raises(HistoryError, match=r"history\.jsonl:3: query: 1: must be text"):
        import_history(store, source)
    report = ReadReport()
    added = import_history(store, source, skip_bad_records=True, report=report)
    assert added.stored + added.duplicates == len(GOOD)
    assert len(report.faults) == 1
    assert list(store.records()) == GOOD


def test_progress_counts_up_to_the_end(store: HistoryStore, tmp_path: Path) -> None:
    source = tmp_path / "history.jsonl"
    source.write_text(lines(*GOOD))
    told: list[tuple[int, int]] = []
    import_history(store, source, on_progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [1, 2, 3, 4, 5]
    told.clear()
    export_history(store, source, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_calls_of_unknown_quality_stay_behind_and_are_counted(store: HistoryStore, tmp_path: Path) -> None:
    store.append_outcomes([CallOutcome(call_id=name, core="small", query="q") for name in "abc"])
    store.give_quality("b", 0.5)
    exported = export_history(store, tmp_path / "out.jsonl")
    assert (exported.records, exported.ungraded_calls) == (1, 2)
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {
        "query": "q",
        "id": "b",
        "outputs": [{"model_name": "small", "quality": 0.5}],
    }


def test_an_export_that_fails_leaves_the_file_that_was_there(store: HistoryStore, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    store.extend(GOOD)

    def fail(done: int, total: int) -> None:
        raise RuntimeError("the user has had enough")

    with pytest.raises(RuntimeError):
        export_history(store, out, on_progress=fail)
    assert out.read_text() == "precious"
    assert not list(tmp_path.glob("*.partial"))


def test_a_store_is_neither_overwritten_nor_imported_into_itself(store: HistoryStore) -> None:
    store.extend(GOOD)
    with pytest.raises(HistoryError, match="is the store itself"):
        export_history(store, store.path)
    with pytest.raises(HistoryError, match="cannot be imported into itself"):
        import_history(store, store.path)
    assert list(store.records()) == GOOD


def test_an_export_that_cannot_be_written_names_its_file(store: HistoryStore, tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"nowhere/out\.jsonl: cannot be written: No such file"):
        export_history(store, tmp_path / "nowhere" / "out.jsonl")


def test_a_store_without_text_goes_through_an_export_and_back(tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "bare.db", store_text=False) as bare:
        bare.extend(GOOD)
        export_history(bare, tmp_path / "bare.jsonl")
        kept = list(bare.records())
        assert import_history(bare, tmp_path / "bare.jsonl") == AddResult(duplicates=len(GOOD))
    assert read_history(tmp_path / "bare.jsonl") == kept
    assert [record.query_length for record in kept] == [2] * len(GOOD)
