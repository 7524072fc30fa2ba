"""A mark identifies what a store held once; what came later is read exactly, in order."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.errors import HistoryError
from eccos_aios.history import CallOutcome, HistoryStore, Outcome, Record


def record(identity: str | None, **more: Any) -> Record:
    outputs = (Outcome(model_name="small", correctness=True, output_token_length=3, prediction={"a": [1]}),)
    return Record(**{"id": identity, "query": "q ✓", "outputs": outputs, **more})


def call(identity: str, **more: Any) -> CallOutcome:
    return CallOutcome(**{"call_id": identity, "core": "small", "query": "q", "finished_s": 7.5, **more})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    with HistoryStore(tmp_path / "h.db") as store:
        yield store


def ids(records: Iterator[Record]) -> list[str | None]:
    return [found.id for found in records]


def fill(store: HistoryStore) -> None:
    store.extend([record("r1", tools=[{"name": "add"}], category="sums"), record("r2", input_token_length=9)])
    store.append_outcomes(
        [call("c1", quality=0.5, tools=[{"name": "x"}]), call("c2"), call("c3", quality=1.0)]
    )
    store.give_quality("c3", 0.25)


def test_what_came_after_a_mark_comes_once_and_in_order(store: HistoryStore) -> None:
    fill(store)
    mark = store.mark()
    assert (ids(store.records_since(mark)), store.count_since(mark)) == ([], 0)
    store.append_outcomes([call("c4", quality=1.0), call("c5")])
    store.extend([record("r3")])
    store.give_quality("c2", 0.75)
    store.give_quality("c1", 0.0)
    since = list(store.records_since(mark))
    assert ids(iter(since)) == ["r3", "c1", "c2", "c4"]
    assert [found.outputs[0].graded_quality for found in since] == [1.0, 0.0, 0.75, 1.0]
    assert store.count_since(mark) == 4


def test_from_mark_to_mark_nothing_comes_twice(store: HistoryStore) -> None:
    fill(store)
    first = store.mark()
    store.append_outcomes([call("c4", quality=1.0)])
    second = store.mark()
    store.extend([record("r3")])
    store.give_quality("c4", 0.0)
    (only,) = store.records_since(first, second)
    assert (only.id, only.outputs[0].quality) == ("c4", 1.0)
    assert ids(store.records_since(second)) == ["r3", "c4"]


def test_the_records_of_a_mark_stay_what_they_were(store: HistoryStore) -> None:
    fill(store)
    then, stored = list(store.records()), store.records_until(store.mark())
    store.extend([record("r3")])
    store.append_outcomes([call("c4", quality=1.0)])
    store.give_quality("c2", 1.0)
    store.give_quality("c1", 1.0)
    assert list(stored) == then
    assert len(stored) == len(then) == 4
    assert [stored[place] for place in range(-1, 4)] == [then[-1], *then]
    assert stored[1:3] == then[1:3]
    with pytest.raises(IndexError):
        stored[4]
    assert [found.model_dump_json() for found in stored] == [found.model_dump_json() for found in then]


def test_a_mark_outlives_the_process_and_holds_for_its_store_alone(
    tmp_path: Path, store: HistoryStore
) -> None:
    fill(store)
    mark = store.mark()
    with HistoryStore(store.path, read_only=True) as again, HistoryStore(tmp_path / "other.db") as other:
        fill(other)
        assert again.holds(mark)
        assert not other.holds(mark)
        with pytest.raises(HistoryError, match=r"other\.db: mark: .* is not a mark of this store"):
            list(other.records_since(mark))
        with pytest.raises(HistoryError, match="is not a mark"):
            other.records_until(mark)


def test_an_older_copy_that_was_put_back_has_not_been_at_the_mark(tmp_path: Path) -> None:
    path, copy = tmp_path / "h.db", tmp_path / "copy.db"
    with HistoryStore(path) as store:
        fill(store)
        early = store.mark()
    shutil.copy(path, copy)
    with HistoryStore(path) as store:
        store.extend([record("r3")])
        late = store.mark()
    with HistoryStore(copy) as restored:
        assert restored.holds(early)
        assert not restored.holds(late)
        restored.extend([record("another")])
        assert not restored.holds(late)
        assert ids(restored.records_since(early)) == ["another"]


def test_a_store_with_a_missing_row_is_still_found_by_place(store: HistoryStore) -> None:
    store.extend([record("r1"), record("r2"), record("r3")])
    with closing(sqlite3.connect(store.path, isolation_level=None)) as raw:
        raw.execute("DELETE FROM records WHERE id = 'r2'")
    stored = store.records_until(store.mark())
    assert [stored[0].id, stored[1].id] == ["r1", "r3"]


def test_a_row_that_is_no_record_is_named(store: HistoryStore) -> None:
    store.extend([record("r1")])
    with closing(sqlite3.connect(store.path, isolation_level=None)) as raw:
        raw.execute("UPDATE records SET body = '{'")
    with pytest.raises(HistoryError, match=r"h\.db: record 1: "):
        list(store.records_until(store.mark()))
