"""Query and read_queries: the queries of a batch; an error names the exact place of a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from eccos_aios.batch.parquet import PARQUET_MAGIC, row_lines
from eccos_aios.errors import ABSENT, QueryError, from_validation
from eccos_aios.history.lines import stream_lines
from eccos_aios.history.record import Tokens
from eccos_aios.predict import CallText, call_text, query_text
from eccos_aios.requirements import Requirements


@dataclass(frozen=True)
class Query:
    """One call of the batch.

    Attributes
    ----------
    id : str or int
        As the file has it.
    text : CallText
        Its text for stage 1.
    requirements : Requirements
        Its requirements on a core.
    source : str
        Its file and line.
    """

    id: str | int
    text: CallText
    requirements: Requirements
    source: str


def read_queries(path: str | Path) -> list[Query]:
    """All of `iterate_queries`."""
    return list(iterate_queries(path))


def iterate_queries(path: str | Path) -> Iterator[Query]:
    """Read a file of queries, JSON lines, plain or gzipped, or Parquet, as they are asked for.

    Raises
    ------
    QueryError
        The file cannot be read, at once, or a line is wrong; names file, line, key and value.
    MissingExtraError
        It is a Parquet file, and pyarrow is not installed.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise QueryError(str(path), "", ABSENT, f"cannot be read: {error.strerror}") from error
    try:
        lines = query_lines(file, str(path))
    except BaseException:
        file.close()
        raise
    return _queries(file, path, lines)


def query_lines(file: BinaryIO, source: str) -> Iterator[tuple[int, bytes]]:
    """The lines of an open file of queries with their numbers, each for `parse_query`.

    A row of a Parquet file is a line of JSON, its number that of the row, from 1 on. Errors as in
    `iterate_queries`.
    """
    magic = file.read(len(PARQUET_MAGIC))
    file.seek(0)
    if magic == PARQUET_MAGIC:
        return row_lines(file, source, list(_QueryLine.model_fields))
    return stream_lines(file, source, QueryError)


def _queries(file: BinaryIO, path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[Query]:
    with file:
        for number, line in lines:
            yield parse_query(f"{path}:{number}", line)


def _core_name(named: Any) -> Any:
    name = named.get("name") if isinstance(named, dict) else named
    if not isinstance(name, str) or not name:
        raise ValueError('must be the name of a core, or an object like {"name": "…"}')
    return name


def _text_or_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("must be text or a whole number")
    return value


class _QueryLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Annotated[Any, BeforeValidator(_text_or_number)]
    query: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    llms: list[Annotated[str, BeforeValidator(_core_name)]] | None = None
    input_token_length: Tokens | None = None
    max_new_tokens: Tokens | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> _QueryLine:
        if (self.query is None) == (not self.messages):
            raise ValueError("needs either query or messages")
        return self

    @property
    def text(self) -> CallText:
        asked = (
            query_text(self.query, self.tools)
            if self.query is not None
            else call_text(self.messages, self.tools)
        )
        if self.input_token_length is None:
            return asked
        return asked.with_tokens(self.input_token_length)


def parse_query(source: str, line: bytes) -> Query:
    """One line of a file of queries.

    Parameters
    ----------
    source : str
        Its file and line.
    line : bytes
        JSON.

    Raises
    ------
    QueryError
        It is wrong; names line, key and value.
    """
    try:
        read = _QueryLine.model_validate_json(line)
    except ValidationError as error:
        raise from_validation(QueryError, source, error, _QueryLine) from error
    text, named = read.text, frozenset(read.llms) if read.llms else None
    return Query(
        read.id, text, Requirements.of(text, named, answer_tokens=float(read.max_new_tokens or 0)), source
    )
