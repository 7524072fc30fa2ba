"""A file that is no history, or is made to take memory, is refused in one line that says where."""

from __future__ import annotations

import gzip
import tracemalloc
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.batch.queries import iterate_queries
from eccos_aios.collect.formats import read_questions
from eccos_aios.errors import InputError
from eccos_aios.history import lines, read_history
from eccos_aios.history.lines import numbered_lines

MIB = 2**20


def questions(path: Path) -> Any:
    return read_questions([path])


def queries(path: Path) -> Any:
    return deque(iterate_queries(path), maxlen=0)


READERS: list[Callable[[Path], Any]] = [read_history, queries, questions]
RECORD = b'{"id": "1", "query": "q", "question": "q", "grader": "exact", "answer": "a", "outputs": []}\n'


@pytest.fixture(autouse=True)
def _low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", MIB // 8)
    monkeypatch.setattr(lines, "MAX_LINE", MIB)
    monkeypatch.setattr(lines, "MAX_UNPACKED", 2 * MIB)
    monkeypatch.setattr(lines, "MAX_UNPACKED_PER_BYTE", 8)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ((RECORD * 3 + b'{"query": "', b"x"), r":4: is a line of more than 1 MiB"),
        ((b"\xef\xbb\xbf", b"x"), r":1: is a line of more than 1 MiB"),
        ((b'[{"query": "', b"x"), r"(: unpacks to more than \d+|:1: is a line of more than 1) MiB"),
        ((b"", b"  \n"), r": unpacks to more than \d+ MiB"),
        ((b"", RECORD.replace(b'"q"', b'"%s"' % (b"q" * 500))), r": unpacks to more than \d+ MiB"),
    ],
    ids=["a line", "the first line", "an array", "blank lines", "records"],
)
def test_what_is_packed_to_burst_is_refused(
    read: Callable[[Path], Any], content: tuple[bytes, bytes], told: str, tmp_path: Path
) -> None:
    first, repeated = content
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(gzip.compress(first + repeated * (16 * MIB // len(repeated)), 1))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"h\.jsonl\.gz{told}"):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_plain_file_with_a_line_that_is_none_is_refused(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(RECORD * 2 + b"\n" + b"x" * 2 * MIB + b"\n" + RECORD)
    with pytest.raises(InputError, match=r"h\.jsonl:4: is a line of more than 1 MiB"):
        read(path)


def test_an_array_may_be_one_long_line(tmp_path: Path) -> None:
    path = tmp_path / "h.json"
    path.write_bytes(b"[" + b",".join([RECORD.strip()] * 20_000) + b"]")
    assert len(read_history(path)) == 20_000


def test_several_packed_parts_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(gzip.compress(RECORD * 2) + gzip.compress(RECORD))
    assert len(read_history(path)) == 3


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04 and so on", "is a zip archive"),
        (b"\xfd7zXZ\x00", "is packed by xz"),
        (RECORD.decode().encode("utf-16"), "is text in UTF-16"),
        (gzip.compress(b"PK\x03\x04 and so on"), "is a zip archive"),
        (gzip.compress(RECORD * 100)[:-20], "cannot be read"),
        (gzip.compress(RECORD)[:5], "cannot be read"),
        (gzip.compress(RECORD) + b"more", "cannot be read"),
    ],
    ids=["zip", "xz", "UTF-16", "packed zip", "cut", "cut short", "more behind"],
)
def test_another_format_is_named(
    read: Callable[[Path], Any], content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"h\.jsonl: .*{told}") as refusal:
        read(path)
    assert "\n" not in str(refusal.value)


def test_lines_keep_their_numbers() -> None:
    content = b"\n\na\n  \nb\r\n\n\nc"
    assert list(numbered_lines(content)) == [(3, b"a"), (5, b"b\r"), (8, b"c")]
    assert list(numbered_lines(b"")) == []
