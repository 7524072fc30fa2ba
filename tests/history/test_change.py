"""Older outcomes of a core that changed are read as what it would give now."""

from __future__ import annotations

from eccos_aios.history import Change, Outcome, Record, restated


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
