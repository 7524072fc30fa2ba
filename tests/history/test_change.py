"""Older outcomes of a core that changed are read as what it would give now."""

from __future__ import annotations

from pathlib import Path

import pytest

from eccos_aios.history import CallOutcome, Change, HistoryStore, Outcome, Record, restated


def record(name: str, **quality: float) -> Record:
    outputs = tuple(Outcome(model_name=core, quality=value) for core, value in quality.items())
    return Record(id=name, query=f"question {name}", outputs=outputs)


def qualities(records: list[Record], changes: list[Change]) -> list[list[float]]:
    return [[outcome.graded_quality for outcome in each.outputs] for each in restated(records, changes)]


RECORDS = [record("1", a=1.0, b=1.0), record("2", a=0.0), record("3", a=0.8, b=0.5), record("4", a=1.0)]


def test_before_the_change_counts_as_after_it_and_other_cores_stay() -> None:
    assert qualities(RECORDS, [Change("a", "3", -0.5, 0.0)]) == [[0.5, 1.0], [0.0], [0.8, 0.5], [1.0]]
    assert qualities(RECORDS, [Change("a", "3", 0.0, 0.5)]) == [[1.0, 1.0], [0.5], [0.8, 0.5], [1.0]]


def test_two_changes_of_a_core_are_applied_one_after_the_other() -> None:
    changes = [Change("a", "2", -0.5, 0.0), Change("a", "4", -0.5, 0.0)]
    assert qualities(RECORDS, changes) == [[0.25, 1.0], [0.0], [0.4, 0.5], [1.0]]


def test_a_change_whose_record_does_not_come_is_after_all() -> None:
    assert qualities(RECORDS, [Change("b", "9", -1.0, 0.0)]) == [[1.0, 0.0], [0.0], [0.8, 0.0], [1.0]]


def test_without_changes_records_stay_what_they_are() -> None:
    assert list(restated(RECORDS, [])) == RECORDS


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    store = HistoryStore(tmp_path / "history.db")
    store.extend([record("1", a=1.0, b=1.0), record("2", a=1.0)])
    for number in range(6):
        graded = 1.0 if number % 2 == 0 else None  # half of the calls nobody grades
        store.append_outcomes([CallOutcome(call_id=f"call-{number}", core="a", quality=graded)])
    return store


def first_of(records: list[Record]) -> list[float]:
    return [each.outputs[0].graded_quality for each in records]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("call-2", [0.5, 0.5, 0.5, 1.0, 1.0]),
        ("call-3", [0.5, 0.5, 0.5, 0.5, 1.0]),
        ("2", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("later", [0.5, 0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_a_store_restates_what_came_before_a_change_in_a_walk_and_one_by_one(
    store: HistoryStore, since: str, expected: list[float]
) -> None:
    store.note_changes([Change("a", since, -0.9, 0.0)])
    store.note_changes([Change("a", since, -0.5, 0.0)])  # what is said last counts
    records = store.records_until(store.mark())
    assert first_of(list(records)) == expected
    assert first_of([records[place] for place in range(len(records))]) == expected
    assert first_of(list(store.records())) == [1.0] * 5  # what was recorded stays what it was


def test_changes_outlive_the_process_and_older_stores_have_none(store: HistoryStore) -> None:
    assert store.changes() == []
    changes = [Change("a", "call-2", -0.5, 0.0), Change("b", "call-4", 0.0, 0.25)]
    store.note_changes(changes)
    store.close()
    assert HistoryStore(store.path, read_only=True).changes() == changes
