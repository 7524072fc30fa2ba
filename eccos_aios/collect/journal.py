"""The history during a collection: outcomes are appended one by one, and joined at the end.

Until then the file holds a line per outcome, each synced to disk before its slot is free again, so that
`read_history` can read it at any moment. `Journal.close` joins the outcomes of each question into one record.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from eccos_aios.collect.question import Question
from eccos_aios.errors import ABSENT, HistoryError, from_validation
from eccos_aios.history import Record
from eccos_aios.history.lines import numbered_lines, read_content

# A question's id, its query, its tools as JSON: outcomes that agree in these belong to one record.
Key = tuple[str, str, str]


class RecordedOutcomes:
    """The outcomes that a history file holds already, by question.

    Parameters
    ----------
    path : Path
        JSON lines or a JSON array, plain or gzipped; may be absent. A truncated last line is ignored.

    Raises
    ------
    HistoryError
        The file cannot be read, or a record in it is wrong; names file, line, key and value.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix == ".db":
            raise HistoryError(
                str(path),
                "",
                ABSENT,
                "a store holds whole records: collect into .jsonl, .jsonl.gz or .json, then "
                f"eccos-aios history import {path} FILE",
            )
        self._outcomes: dict[Key, dict[str, Mapping[str, Any]]] = {}
        for _, record in _records(path, _lines(path) if path.exists() else b""):
            for outcome in record["outputs"]:
                self._add(_record_key(record), outcome)

    def outcomes(self, question: Question) -> Mapping[str, Mapping[str, Any]]:
        """The recorded outcomes of a question, by core."""
        return self._outcomes.get(question_key(question), {})

    def _add(self, key: Key, outcome: Mapping[str, Any]) -> None:
        self._outcomes.setdefault(key, {}).setdefault(outcome["model_name"], outcome)


class Journal(RecordedOutcomes):
    """A history file that outcomes are added to, by one process at a time.

    Opening it rewrites a gzipped file or an array as JSON lines and drops a truncated last line.

    Parameters
    ----------
    path : Path
        Created if absent. At the end it is gzipped if its name ends in ``.gz``, an array if it
        ends in ``.json``, else JSON lines.

    Raises
    ------
    HistoryError
        As `RecordedOutcomes`; or it cannot be written, or another collection writes to it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock = threading.Lock()  # guards writes to the file, so that no two lines mix, and the outcomes
        try:
            self._file = self._open()
        except OSError as error:
            raise _not_writable(path, error) from error

    def append(self, question: Question, outcome: Mapping[str, Any]) -> None:
        """Add an outcome, from any thread; on return it is on disk.

        Raises
        ------
        HistoryError
            It cannot be written.
        """
        line = _line(_record(question, outcome))
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise _not_writable(self.path, error) from error
            self._add(question_key(question), outcome)

    def close(self) -> None:
        """Join the outcomes of each question into one record, in the format of the file's name."""
        records: dict[Any, dict[str, Any]] = {}
        for number, record in _records(self.path, _lines(self.path)):
            key = _record_key(record) if record.get("id") is not None else number
            first = records.setdefault(key, record)
            if first is not record:
                known = {outcome["model_name"] for outcome in first["outputs"]}
                first["outputs"] += [one for one in record["outputs"] if one["model_name"] not in known]
        try:
            _replace(self.path, _encode(self.path, records.values()))
        except OSError as error:
            raise _not_writable(self.path, error) from error
        finally:
            self._file.close()

    def _open(self) -> BinaryIO:
        file = self._open_locked()
        content = _lines(self.path)
        if content != self.path.read_bytes():
            _replace(self.path, content)
            file.close()
            file = self._open_locked()
        return file

    def _open_locked(self) -> BinaryIO:
        file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise HistoryError(str(self.path), "", ABSENT, "another collection writes to it") from None
        return file


def _lines(path: Path) -> bytes:
    """A history as complete JSON lines."""
    content = read_content(path, HistoryError)
    if content.lstrip()[:1] == b"[":
        try:
            return b"".join(map(_line, json.loads(content)))
        except ValueError as error:
            raise HistoryError(str(path), "", ABSENT, f"is not JSON: {error}") from error
    if not content or content.endswith(b"\n"):
        return content
    start = content.rfind(b"\n") + 1
    try:
        json.loads(content[start:])
    except ValueError:  # its writing was interrupted
        return content[:start]
    return content + b"\n"


def _records(path: Path, lines: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in numbered_lines(lines):
        try:
            Record.model_validate_json(line)
        except ValidationError as error:
            raise from_validation(HistoryError, f"{path}:{number}", error, Record) from error
        yield number, json.loads(line)


def question_key(question: Question) -> Key:
    """Identifies the record of a question."""
    return (question.id, question.query, _tools(question.tools))


def _record_key(record: Mapping[str, Any]) -> Key:
    return (str(record.get("id")), record["query"], _tools(record.get("tools")))


def _tools(tools: Any) -> str:
    return json.dumps(tools, sort_keys=True) if tools else ""


def _record(question: Question, outcome: Mapping[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {"id": question.id, "query": question.query}
    if question.tools:
        record["tools"] = question.tools
    if question.category is not None:
        record["category"] = question.category
    return {**record, "outputs": [outcome]}


def _line(record: Mapping[str, Any]) -> bytes:
    # A lone surrogate, which a broken answer may hold, cannot be encoded.
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _encode(path: Path, records: Iterable[Mapping[str, Any]]) -> bytes:
    lines = [_line(record) for record in records]
    if path.suffix == ".json":
        return b"[" + b",".join(lines) + b"]\n"
    content = b"".join(lines)
    return gzip.compress(content) if path.suffix == ".gz" else content


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path = path.resolve()
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _not_writable(path: Path, error: OSError) -> HistoryError:
    return HistoryError(str(path), "", ABSENT, f"cannot be written: {error.strerror}")
