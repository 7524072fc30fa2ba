"""Conversion between the models of a history and the rows of a store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from eccos_aios.errors import ABSENT, HistoryError, from_validation
from eccos_aios.history.call_outcome import CallOutcome
from eccos_aios.history.change import Change
from eccos_aios.history.record import Record

OUTCOME_COLUMNS = tuple(CallOutcome.model_fields)
RecordRow = dict[str, Any]  # id, content_hash (SHA-256 of the body) and body
LARGEST_CHANGE = 10.0  # of the parts of `Change`; whatever is larger was not written by this package
T = TypeVar("T")


def record_row(record: Record, path: Path) -> RecordRow:
    """A record as a row of ``records``.

    Raises
    ------
    HistoryError
        The record holds what JSON cannot.
    """
    try:
        body = record.model_dump_json(exclude_defaults=True)
    except ValueError as error:
        reason = f"holds what JSON cannot: {error}"
        raise HistoryError(str(path), "record", record.id or ABSENT, reason) from error
    return {"id": record.id, "content_hash": hashlib.sha256(body.encode()).digest(), "body": body}


def outcome_row(outcome: CallOutcome) -> dict[str, Any]:
    """An outcome as a row of ``outcomes``."""
    tools = None if outcome.tools is None else json.dumps(outcome.tools)
    return {**{name: getattr(outcome, name) for name in OUTCOME_COLUMNS}, "tools": tools}


def read_record(seq: int, body: str, path: Path) -> Record | HistoryError:
    """The record of a row; the fault if the row is damaged."""
    try:
        return Record.model_validate_json(body)
    except ValidationError as error:
        return from_validation(HistoryError, f"{path}: record {seq}", error, Record)
    except TypeError:
        return HistoryError(f"{path}: record {seq}", "body", ABSENT, "is no text")


def read_outcome(row: tuple[Any, ...], path: Path) -> CallOutcome | HistoryError:
    """The outcome of a row; the fault if the row is damaged."""
    fields = dict(zip(OUTCOME_COLUMNS, row, strict=True))
    source = f"{path}: call {fields['call_id']}"
    try:
        tools = None if fields["tools"] is None else json.loads(fields["tools"])
        return CallOutcome.model_validate({**fields, "tools": tools})
    except ValidationError as error:
        return from_validation(HistoryError, source, error, CallOutcome)
    except (ValueError, TypeError, RecursionError) as error:
        return HistoryError(source, "tools", ABSENT, f"are no JSON: {error}")


def read_change(row: tuple[Any, ...], path: Path) -> Change:
    """The change of a row.

    Raises
    ------
    HistoryError
        The row is damaged. It is not skipped, as it restates every older outcome of its core.
    """
    core, since, lost, won = row
    named = isinstance(core, str) and isinstance(since, str)
    if not named or not all(
        isinstance(part, float) and -LARGEST_CHANGE <= part <= LARGEST_CHANGE for part in (lost, won)
    ):
        raise HistoryError(
            f"{path}: changes", "", ABSENT, "hold a value that is never written there: the store is damaged"
        )
    return Change(core, since, lost, won)


def good(found: T | HistoryError) -> T:
    """What was read; raises the fault if it is one."""
    if isinstance(found, HistoryError):
        raise found
    return found


def is_utf8(text: str) -> bool:
    """Whether SQLite can store a text; it cannot store half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
