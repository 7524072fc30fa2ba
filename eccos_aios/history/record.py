"""The record format; reading it, with the exact place of a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from eccos_aios.errors import ABSENT, HistoryError, from_validation
from eccos_aios.history.lines import numbered_lines, read_content


def _whole_number(value: Any) -> Any:
    # pydantic takes 12.0 for 12, as it should here, but "12" and true as well.
    if isinstance(value, (str, bytes, bool)):
        raise ValueError("must be a whole number, or null where it is unknown")
    return value


def _true_or_false(value: Any) -> Any:
    # AIOS's bootstrap file may hold 0 and 1; pydantic would take "yes" and "off" as well.
    if isinstance(value, str) or value not in (0, 1):
        raise ValueError("must be true or false")
    return bool(value)


Unit = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000), BeforeValidator(_whole_number)]
Correctness = Annotated[bool, BeforeValidator(_true_or_false)]


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
    correctness: Correctness | None = None
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
    id: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None
    tools: list[dict[str, Any]] | None = None
    category: str | None = None
    input_token_length: Tokens | None = None

    @field_validator("outputs")
    @classmethod
    def _cores_stand_once(cls, outputs: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
        names = [outcome.model_name for outcome in outputs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"a record holds one outcome of each core, model_name {twice!r} stands twice")
        return outputs


@dataclass
class ReadReport:
    """What a reading with ``skip_bad_records`` left out."""

    faults: list[HistoryError] = field(default_factory=list)


def read_history(
    path: str | Path, *, skip_bad_records: bool = False, report: ReadReport | None = None
) -> list[Record]:
    """Read a history: ``.jsonl``, ``.jsonl.gz``, or a JSON array (AIOS SmartRouting's bootstrap file).

    Parameters
    ----------
    path : str or Path
        The file. Its format is told by its content, not by its name.
    skip_bad_records : bool
        Leave bad records out instead of stopping at the first. A file that cannot be read at all, a
        broken compression or a broken array, stops the load all the same.
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
    for found in _candidates(path):
        if isinstance(found, Record):
            records.append(found)
        elif not skip_bad_records:
            raise found
        elif report is not None:
            report.faults.append(found)
    return records


def _candidates(path: Path) -> Iterator[Record | HistoryError]:
    content = read_content(path, HistoryError)
    if content.lstrip()[:1] == b"[":
        for position, item in enumerate(_array(path, content)):
            yield _candidate(f"{path}[{position}]", Record.model_validate, item)
    else:
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
