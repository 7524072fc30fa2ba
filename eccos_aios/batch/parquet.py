"""Parquet: queries as rows, and routed queries as rows. pyarrow is imported only here, and on first use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from eccos_aios.errors import ABSENT, MissingExtraError, QueryError

if TYPE_CHECKING:
    import pyarrow

PARQUET_MAGIC = b"PAR1"
SUFFIX = ".parquet"
ROWS = 4096  # that are read or written at once
NESTED = ("messages", "tools")  # columns that may hold JSON as text


def require_pyarrow() -> Any:
    """The package pyarrow.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    return pyarrow


def row_lines(file: BinaryIO, source: str, columns: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """The rows of an open Parquet file as lines of JSON with their numbers, from 1 on.

    What is null in a row is absent in its line. ``messages`` and ``tools`` are lists of structs,
    or JSON as text.

    Parameters
    ----------
    file : binary file
    source : str
        Its name in errors.
    columns : sequence of str
        Those that are read; others may be there, and each of these may be absent.

    Raises
    ------
    QueryError
        It cannot be read.
    MissingExtraError
        pyarrow is not installed.
    """
    arrow = require_pyarrow()
    try:
        opened = arrow.parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(source, error) from error
    found = [name for name in opened.schema_arrow.names if name in columns]
    return _row_lines(opened, source, found, arrow.ArrowException)


def _row_lines(
    opened: Any, source: str, columns: list[str], fault: type[Exception]
) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        for batch in opened.iter_batches(ROWS, columns=columns):
            for row in batch.to_pylist() if columns else [{}] * batch.num_rows:
                number += 1
                yield number, json.dumps(_unpacked(row), default=str).encode()
    except (fault, OSError) as error:
        raise _unreadable(source, error) from error


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    for name in NESTED:
        if isinstance(row.get(name), str):
            try:
                row[name] = json.loads(row[name])
            except ValueError:
                break  # the check of the line names it
    present: dict[str, Any] = _without_nulls(row)
    return present


def _without_nulls(value: Any) -> Any:
    """Without the keys that Parquet gives every struct of a column."""
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _unreadable(source: str, error: Exception) -> QueryError:
    return QueryError(source, "", ABSENT, f"cannot be read: {error}")


def output_schema(
    goals: Iterable[Mapping[str, float]], estimated: Sequence[str], *, whole_ids: bool, planned: bool = False
) -> pyarrow.Schema:
    """The columns of routed queries.

    Parameters
    ----------
    goals : iterable of mapping
        The key of each target or budget in a line; one that a row does not have is null there.
    estimated : sequence of str
        The cores whose estimates rows hold.
    whole_ids : bool
        Whether every id is a whole number; otherwise all are text.
    planned : bool
        Whether rows hold plans.
    """
    arrow = require_pyarrow()
    number, text = arrow.float64(), arrow.string()
    kinds = {"id": arrow.int64() if whole_ids else text}
    kinds |= {key: number for goal in goals for key in goal}
    kinds["core"] = text
    if planned:
        kinds["plan"] = arrow.struct({"kind": text, "cores": arrow.list_(text), "else": text})
    kinds |= {"predicted_quality": number, "predicted_cost": number}
    if estimated:
        estimate = arrow.struct({"quality": number, "cost": number, "output_tokens": number})
        kinds["estimates"] = arrow.struct(dict.fromkeys(estimated, estimate))
    return arrow.schema(kinds)


def write_rows(lines: Iterable[dict[str, Any]], file: BinaryIO, schema: pyarrow.Schema) -> None:
    """Write lines as a Parquet file of these columns."""
    arrow = require_pyarrow()
    rest = iter(lines)
    ids_are_text = schema.field("id").type == arrow.string()
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(rest, ROWS)):
            if ids_are_text:
                rows = [{**row, "id": str(row["id"])} for row in rows]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
