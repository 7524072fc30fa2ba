"""Reading a history: what is unknown stays unknown, and a fault is named with its exact place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.errors import HistoryError
from eccos_aios.history import Outcome, ReadReport, Record, read_history

GOOD = {"query": "What is 2 + 2?", "outputs": [{"model_name": "small", "correctness": True}]}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def graded(**outcome: Any) -> dict[str, Any]:
    return {"query": "q", "outputs": [{"model_name": "small", "correctness": True, **outcome}]}


def test_reads_every_field_of_the_format(history: Path) -> None:
    outcome = {
        "model_name": "small",
        "correctness": False,
        "quality": 0.75,
        "input_token_length": 93,
        "output_token_length": 21.0,
        "latency_s": 0.61,
        "prediction": ["4"],
    }
    call = {"id": 7, "query": "q", "tools": [{"name": "add"}], "category": "sums", "input_token_length": 87}
    history.write_text(lines({**call, "outputs": [outcome], "split": "train"}))
    (record,) = read_history(history)
    assert (record.id, record.query, record.category, record.input_token_length) == ("7", "q", "sums", 87)
    assert record.tools == [{"name": "add"}]
    assert record.outputs == (Outcome(**outcome),)
    assert record.outputs[0].graded_quality == 0.75
    assert record.outputs[0].output_token_length == 21


@pytest.mark.parametrize(
    ("grades", "quality"),
    [
        ({"correctness": True}, 1.0),
        ({"correctness": False}, 0.0),
        ({"correctness": True, "quality": 0.2}, 0.2),
        ({"quality": 1}, 1.0),
    ],
)
def test_quality_wins_over_correctness(history: Path, grades: dict[str, Any], quality: float) -> None:
    history.write_text(lines({"query": "q", "outputs": [{"model_name": "small", **grades}]}))
    assert read_history(history)[0].outputs[0].graded_quality == quality


@pytest.mark.parametrize(
    "absent", [{}, {"input_token_length": None, "output_token_length": None, "latency_s": None}]
)
def test_what_is_absent_or_null_is_unknown_not_zero(history: Path, absent: dict[str, None]) -> None:
    history.write_text(lines(graded(**absent)))
    (outcome,) = read_history(history)[0].outputs
    assert (outcome.input_token_length, outcome.output_token_length, outcome.latency_s) == (None, None, None)


def test_a_core_that_is_missing_in_a_record_is_not_made_up(history: Path) -> None:
    history.write_text(lines(GOOD, {"query": "q", "outputs": [{"model_name": "large", "quality": 0.5}]}))
    assert [[outcome.model_name for outcome in record.outputs] for record in read_history(history)] == [
        ["small"],
        ["large"],
    ]


def test_the_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    contents = {
        "plain": lines(GOOD, GOOD).encode(),
        "blank lines": ("\n" + json.dumps(GOOD) + "\r\n\n" + json.dumps(GOOD)).encode(),
        "byte order mark": b"\xef\xbb\xbf" + lines(GOOD, GOOD).encode(),
        "array": json.dumps([GOOD, GOOD], indent=1).encode(),
    }
    for name, content in contents.items():
        for packed in (content, gzip.compress(content)):
            path = tmp_path / "any.name"
            path.write_bytes(packed)
            assert read_history(path) == [Record(**GOOD)] * 2, name


@pytest.mark.parametrize("content", ["", "\n \n", "[]"])
def test_an_empty_history_has_no_records(history: Path, content: str) -> None:
    history.write_text(content)
    assert read_history(history) == []


OUTCOME_FAULTS = [
    ("correctness", "yes", "'yes': must be true or false"),
    ("correctness", 2, "2: must be true or false"),
    ("quality", 1.5, "1.5: must be less than or equal to 1"),
    ("quality", float("nan"), "nan: must be a finite number"),
    ("quality", "0.5", "'0.5': must be a number"),
    ("quality", True, "True: must be a number"),
    ("input_token_length", -1, "-1: must be greater than or equal to 0"),
    ("output_token_length", 12.5, "12.5: must be a whole number"),
    ("output_token_length", "12", "'12': must be a whole number"),
    ("output_token_length", True, "True: must be a whole number"),
    ("output_token_length", 10**400, "1"),
    ("latency_s", -0.1, "-0.1: must be greater than or equal to 0"),
]

BAD_RECORDS = [
    ("17", "17: must be a mapping of keys to values"),
    ('{"query": "q"}', "outputs: required, but absent"),
    ('{"outputs": []}', "query: required, but absent"),
    ('{"query": 1, "outputs": []}', "query: 1: must be text"),
    ('{"query": "q", "outputs": {}}', "outputs: {}: must be a list"),
    ('{"query": "q", "outputs": [{"quality": 1}]}', "outputs[0].model_name: required, but absent"),
    ('{"query": "q", "outputs": [{"model_name": "a"}]}', "outputs[0]: {'model_name': 'a'}: needs corr"),
    (
        '{"query": "q", "outputs": [{"model_name": "a", "quality": 1}, {"model_name": "a", "quality": 0}]}',
        "outputs: ",
    ),
    *(
        (json.dumps(graded(**{key: value})), f"outputs[0].{key}: {fault}")
        for key, value, fault in OUTCOME_FAULTS
    ),
]


@pytest.mark.parametrize(("bad", "message"), BAD_RECORDS)
def test_a_bad_line_is_named_with_its_number(history: Path, bad: str, message: str) -> None:
    history.write_text(f"{json.dumps(GOOD)}\n\n{bad}\n{json.dumps(GOOD)}\n")
    with pytest.raises(HistoryError) as caught:
        read_history(history)
    assert str(caught.value).startswith(f"{history}:3: {message}")


@pytest.mark.parametrize(("bad", "message"), BAD_RECORDS)
def test_a_bad_element_of_an_array_is_named_with_its_position(history: Path, bad: str, message: str) -> None:
    history.write_text(f"[{json.dumps(GOOD)}, {bad}, {json.dumps(GOOD)}]")
    with pytest.raises(HistoryError) as caught:
        read_history(history)
    assert str(caught.value).startswith(f"{history}[1]: {message}")


def test_a_core_that_stands_twice_in_a_record_is_named() -> None:
    with pytest.raises(ValueError, match="'small' occurs twice"):
        Record(
            query="q",
            outputs=(Outcome(model_name="small", quality=1), Outcome(model_name="small", quality=0)),
        )


@pytest.mark.parametrize(
    "bad", [b'{"query": "\xff", "outputs": []}', b"{", b"[" * 9, b'{"query": "\\ud800", "outputs": []}']
)
def test_a_line_that_is_not_json_is_named_with_its_number(history: Path, bad: bytes) -> None:
    history.write_bytes(json.dumps(GOOD).encode() + b"\n" + bad + b"\n")
    with pytest.raises(HistoryError, match=r"history\.jsonl:2: is not JSON: .* at column \d+$"):
        read_history(history)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(lines(*[GOOD] * 99).encode())[:-20], "Compressed file ended before"),
        (gzip.compress(lines(GOOD).encode())[:20] + b"\xff" * 40, ""),
        (b"[1, 2", "is not JSON"),
    ],
    ids=[
        "cut gzip",
        "damaged gzip",
        "cut JSON",
    ],  # gzip writes the time, so that the bytes make no lasting id
)
def test_a_broken_file_stops_the_load_even_when_bad_records_are_skipped(
    history: Path, content: bytes, reason: str
) -> None:
    history.write_bytes(content)
    for skip in (False, True):
        with pytest.raises(HistoryError) as caught:
            read_history(history, skip_bad_records=skip)
        assert str(caught.value).startswith(f"{history}: ")
        assert reason in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"gone\.jsonl: cannot be read: No such file"):
        read_history(tmp_path / "gone.jsonl")


def test_bad_records_can_be_skipped_and_are_reported(history: Path) -> None:
    history.write_bytes(lines(GOOD, 17, GOOD).encode() + b"\xff\n" + lines(graded(quality=2)).encode())
    report = ReadReport()
    assert read_history(history, skip_bad_records=True, report=report) == [Record(**GOOD)] * 2
    assert [fault.source for fault in report.faults] == [f"{history}:{line}" for line in (2, 4, 5)]


TEXT = st.text(max_size=8)
TOKENS = st.none() | st.integers(0, 10**9)
OUTCOMES = st.builds(
    Outcome,
    model_name=st.text(min_size=1, max_size=4),
    correctness=st.booleans(),
    quality=st.none() | st.floats(0, 1),
    input_token_length=TOKENS,
    output_token_length=TOKENS,
    latency_s=st.none() | st.floats(0, 1e6),
    prediction=st.none() | TEXT | st.lists(st.integers(0, 9), max_size=2),
)
RECORDS = st.builds(
    Record,
    query=TEXT,
    outputs=st.lists(OUTCOMES, max_size=3, unique_by=lambda outcome: outcome.model_name).map(tuple),
    id=st.none() | TEXT,
    tools=st.none() | st.lists(st.dictionaries(TEXT, TEXT, max_size=2), max_size=2),
    category=st.none() | TEXT,
    input_token_length=TOKENS,
)


@settings(deadline=None, max_examples=60)
@given(records=st.lists(RECORDS, max_size=4), as_array=st.booleans())
def test_records_that_are_written_read_the_same(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], as_array: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    dumped = [record.model_dump_json() for record in records]
    path.write_text(f"[{','.join(dumped)}]" if as_array else "\n".join(dumped), encoding="utf-8")
    assert read_history(path) == records


def test_reads_the_bootstrap_file_of_aios_as_it_is(history: Path) -> None:
    output = {
        "model_name": "qwen",
        "prediction": "A",
        "correctness": 1,
        "input_token_length": 14,
        "output_token_length": 3,
    }
    item = {"query": "q", "input_token_length": 12, "split": "train", "outputs": [output]}
    history.write_text(json.dumps([item]))
    (record,) = read_history(history)
    assert record.outputs[0].correctness is True
    assert record.outputs[0].output_token_length == 3
