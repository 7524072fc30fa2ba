"""Between models and the rows of a store."""

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
RecordRow = tuple["str | None", bytes, str]  # id, SHA-256 of the body, body
LARGEST = 10.0  # of a part that a core lost or won
T = TypeVar("T")


def record_row(record: Record, path: Path) -> RecordRow:
    """Raises HistoryError where the record holds what JSON cannot."""
    try:
        body = record.model_dump_json(exclude_defaults=True)
    except ValueError as error:
        reason = f"holds what JSON cannot: {error}"
        raise HistoryError(str(path), "record", record.id or ABSENT, reason) from error
    return record.id, hashlib.sha256(body.encode()).digest(), body


def outcome_row(outcome: CallOutcome) -> dict[str, Any]:
    tools = None if outcome.tools is None else json.dumps(outcome.tools)
    return {**{name: getattr(outcome, name) for name in OUTCOME_COLUMNS}, "tools": tools}


def read_record(seq: int, body: str, path: Path) -> Record | HistoryError:
    try:
        return Record.model_validate_json(body)
    except ValidationError as error:
        return from_validation(HistoryError, f"{path}: record {seq}", error, Record)
    except TypeError:
        return HistoryError(f"{path}: record {seq}", "body", ABSENT, "is no text")


def read_outcome(row: tuple[Any, ...], path: Path) -> CallOutcome | HistoryError:
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
    """Raises HistoryError where it is none: it would restate every older outcome of its core."""
    core, since, lost, won = row
    named = isinstance(core, str) and isinstance(since, str)
    if not named or not all(isinstance(part, float) and -LARGEST <= part <= LARGEST for part in (lost, won)):
        raise HistoryError(f"{path}: changes", "", ABSENT, "hold what is never written there; it is damaged")
    return Change(core, since, lost, won)


def good(found: T | HistoryError) -> T:
    """What was found; a fault is raised."""
    if isinstance(found, HistoryError):
        raise found
    return found


def is_utf8(text: str) -> bool:
    """Whether SQLite can take a text; half a surrogate pair it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
