"""The record format; reading it, with the exact place of a fault."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eccos_aios.errors import ABSENT, HistoryError, from_validation

Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Outcome(BaseModel):
    """What a call really gave on one core.

    Attributes
    ----------
    model_name : str
        The core's name.
    correctness : bool or None
        Whether the answer was right.
    quality : float or None
        0 to 1; wins over `correctness`.
    input_token_length, output_token_length : int or None
        Tokens as the core counted them. None: unknown, not zero.
    latency_s : float or None
        Seconds from sending the call to its answer. None: unknown.
    prediction : object
        The answer itself, in whatever form it was recorded.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    model_name: Annotated[str, Field(min_length=1)]
    correctness: bool | None = None
    quality: Unit | None = None
    input_token_length: Tokens | None = None
    output_token_length: Tokens | None = None
    latency_s: Seconds | None = None
    prediction: Any = None

    @model_validator(mode="after")
    def _is_graded(self) -> Outcome:
        if self.correctness is None and self.quality is None:
            raise ValueError("needs correctness (true or false) or quality (0 to 1)")
        return self

    @property
    def graded_quality(self) -> float:
        """`quality` where it is given, else `correctness` as 0 or 1."""
        return float(self.correctness or False) if self.quality is None else self.quality


class Record(BaseModel):
    """One past call and its outcomes; a core that is not among them is unknown, not wrong."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    query: str
    outputs: tuple[Outcome, ...]
    id: str | None = None
    tools: list[dict[str, Any]] | None = None
    category: str | None = None
    input_token_length: Tokens | None = None


@dataclass
class ReadReport:
    """What a reading with ``skip_bad_records`` left out."""

    faults: list[HistoryError] = field(default_factory=list)


def read_history(path: str | Path, *, skip_bad_records: bool = False, report: ReadReport | None = None) -> list[Record]:
    """Read a history: ``.jsonl``, ``.jsonl.gz``, or a JSON array (AIOS SmartRouting's bootstrap file).

    Parameters
    ----------
    path : str or Path
        The file. Its format is told by its content, not by its name.
    skip_bad_records : bool
        Leave bad records out instead of stopping at the first.
    report : ReadReport, optional
        Where the faults of records that were left out are collected.

    Raises
    ------
    HistoryError
        The file cannot be read, or a record in it is wrong; names file, line (or the place in the
        array), key and value.
    """
    path = Path(path)
    if path.suffix == ".db":
        raise HistoryError(
            str(path), "", ABSENT, "stores are not readable in this version; use .json, .jsonl or .jsonl.gz"
        )
    records: list[Record] = []
    for read in _records(path):
        try:
            records.append(read())
        except HistoryError as fault:
            if not skip_bad_records:
                raise
            if report is not None:
                report.faults.append(fault)
    return records


def _records(path: Path) -> Iterator[Callable[[], Record]]:
    """One reader a record, so that a bad one can be stepped over."""
    try:
        with _opened(path) as file:
            first = _first_character(file)
            if first == "[":
                yield from _array_records(path, file.read())
            else:
                yield from _line_records(path, file)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HistoryError(str(path), "", ABSENT, f"cannot be read: {reason}") from error


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    if compressed:
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _first_character(file: IO[str]) -> str:
    while (character := file.read(1)).isspace():
        pass
    file.seek(0)
    return character


def _line_records(path: Path, lines: Iterable[str]) -> Iterator[Callable[[], Record]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield lambda number=number, line=line: _record(f"{path}:{number}", _json(f"{path}:{number}", line))


def _array_records(path: Path, text: str) -> Iterator[Callable[[], Record]]:
    content = _json(str(path), text)
    for position, item in enumerate(content):
        yield lambda position=position, item=item: _record(f"{path}[{position}]", item)


def _json(source: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise HistoryError(
            source, "", ABSENT, f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error


def _record(source: str, content: Any) -> Record:
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        raise from_validation(HistoryError, source, error) from error
