"""Reading a history from any of its formats, with the exact place of a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from pydantic import ValidationError
from pydantic_core import from_json

from eccos_aios.errors import ABSENT, HistoryError, from_validation
from eccos_aios.history.lines import first_character, numbered_lines, read_content
from eccos_aios.history.record import Record
from eccos_aios.history.schema import is_store
from eccos_aios.history.store import HistoryStore


@dataclass
class ReadReport:
    """The faults of the records that ``skip_bad_records`` left out."""

    faults: list[HistoryError] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A history opened for reading.

    Attributes
    ----------
    length : int
        Upper bound of the number of records; blank lines count.
    found : iterator of Record or HistoryError
        Its records in order, with a fault in place of each bad one.
    """

    length: int
    found: Iterator[Record | HistoryError]


def read_history(
    path: str | Path, *, skip_bad_records: bool = False, report: ReadReport | None = None
) -> list[Record]:
    """Read a history: JSON lines, a JSON array (AIOS SmartRouting's bootstrap file), or a store.

    Parameters
    ----------
    path : str or Path
        The file, gzipped or not. Its content determines the format; a file named ``.db`` must be a store.
    skip_bad_records : bool
        Leave bad records out instead of stopping at the first. An unreadable file, a broken compression
        and a broken array stop the load regardless.
    report : ReadReport, optional
        Collects the faults of the records that were left out.

    Raises
    ------
    HistoryError
        The file cannot be read, or a record in it is wrong; names file, line (or the place in the
        array), key and value.
    """
    return list(good_records(open_source(path).found, skip_bad_records=skip_bad_records, report=report))


def indexed_history(path: str | Path) -> Sequence[Record]:
    """The records of a file of JSON lines, each read when it is asked for; other formats are read whole.

    For a few records of a long history. A fault shows only where its record is asked for.

    Raises
    ------
    HistoryError
        The file cannot be read, or a record that is asked for is wrong.
    """
    path = Path(path)
    if is_store(path):
        return read_history(path)
    content = read_content(path, HistoryError)
    return read_history(path) if first_character(content) == b"[" else _Lines(path, content)


class _Lines(Sequence[Record]):
    """The records in the lines of a file."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._lines = path, list(numbered_lines(content))

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        number, line = self._lines[place]
        found = _candidate(f"{self._path}:{number}", Record.model_validate_json, line)
        if isinstance(found, HistoryError):
            raise found
        return found


def open_source(path: str | Path) -> Source:
    """Open a history to be read record by record.

    Raises
    ------
    HistoryError
        The file cannot be read; the iterator raises it too where a store turns out to be damaged.
    """
    path = Path(path)
    if is_store(path):
        store = HistoryStore(path, read_only=True)
        return Source(store.record_count(), store.candidates())
    content = read_content(path, HistoryError)
    if first_character(content) == b"[":
        items = _array(path, content)
        return Source(len(items), _from_array(path, items))
    return Source(content.count(b"\n") + 1, _from_lines(path, content))


def good_records(
    found: Iterator[Record | HistoryError], *, skip_bad_records: bool, report: ReadReport | None
) -> Iterator[Record]:
    """The records that were read; a fault is raised, or reported where bad records are skipped."""
    for item in found:
        if isinstance(item, Record):
            yield item
        elif not skip_bad_records:
            raise item
        elif report is not None:
            report.faults.append(item)


def _from_array(path: Path, items: list[Any]) -> Iterator[Record | HistoryError]:
    for position, item in enumerate(items):
        yield _candidate(f"{path}[{position}]", Record.model_validate, item)


def _from_lines(path: Path, content: bytes) -> Iterator[Record | HistoryError]:
    for number, line in numbered_lines(content):
        yield _candidate(f"{path}:{number}", Record.model_validate_json, line)


def _candidate(source: str, validate: Callable[[Any], Record], content: Any) -> Record | HistoryError:
    try:
        return validate(content)
    except ValidationError as error:
        return from_validation(HistoryError, source, error, Record)


def _array(path: Path, content: bytes) -> list[Any]:
    try:
        items: list[Any] = from_json(content)
    except ValueError as error:
        raise HistoryError(str(path), "", ABSENT, f"is not JSON: {error}") from error
    return items
