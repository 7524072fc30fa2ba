"""Checks that a query can be sent at all, so that a fault of the call is not taken for a core's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eccos_aios.errors import ABSENT, QueryError
from eccos_aios.predict.parts import is_empty, parts_of

SENT = ("messages", "tools", "response_format", "temperature")  # the parts of a query that AIOS sends
DEPTH = 6  # levels to which a fault is located

Placed = Iterator[tuple[str, Any]]


def require_sendable(query: Any) -> None:
    """Check that a query can be encoded, and that no part of its messages lacks its content.

    Otherwise the clients of OpenAI and litellm fail on it at every core, and AIOS reports status 500, which
    looks like a fault of the core.

    Raises
    ------
    QueryError
        Names the place and the fault, without any of the text.
    """
    sent = {name: getattr(query, name, None) for name in SENT}
    error = _error_of(sent)
    if error is not None:
        place, reason = _fault("", sent, error, DEPTH)
        raise QueryError(place, "", ABSENT, reason)
    for place, message in _placed("messages", sent["messages"] or ()):
        for where, lacks in _empty(place, message):
            raise QueryError(where, "", ABSENT, lacks)


def _error_of(value: Any) -> Exception | None:
    """What the clients would raise on a value."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
        if not text.isascii():
            text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        return error
    return None


def _plain(value: Any) -> Any:
    """An object that is not JSON as OpenAI's client encodes it."""
    for name in ("model_dump", "isoformat"):
        if callable(make := getattr(value, name, None)):
            return make()
    raise TypeError(f"JSON has no {type(value).__name__}")


def _fault(place: str, value: Any, error: Exception, depth: int) -> tuple[str, str]:
    """The innermost place that cannot be encoded, and the reason."""
    for where, inner in _placed(place, value) if depth else ():
        its_error = _error_of(inner)
        if its_error is not None:
            return _fault(where, inner, its_error, depth - 1)
    return place, _reason(error)


def _placed(place: str, value: Any) -> Placed:
    """The members of a mapping or a list, each with its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            shown = key if isinstance(key, str) and key.isascii() and key.isidentifier() else "…"
            yield f"{place}.{shown}" if place else shown, inner
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for position, inner in enumerate(value):
            yield f"{place}[{position}]", inner


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "holds half a surrogate pair, which cannot be encoded"
    if isinstance(error, RecursionError):
        return "is nested too deeply to be sent"
    return f"cannot be sent: {error}"


def _empty(place: str, message: Any) -> Iterator[tuple[str, str]]:
    """The parts of a message that lack their content, and what each lacks."""
    if not isinstance(message, Mapping) or (type(message.get("content")) is str and "images" not in message):
        return
    yield from _empty_parts(f"{place}.content", message.get("content"), DEPTH)
    images = message.get("images")
    for where, image in _placed(f"{place}.images", images) if isinstance(images, Sequence) else ():
        if not isinstance(image, str) or not image.strip():
            yield where, "is an image without data"


def _empty_parts(place: str, content: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(content, str) or not depth:
        return
    for position, part in enumerate(parts_of(content)):
        where = place if isinstance(content, Mapping) else f"{place}[{position}]"
        if isinstance(part, str):
            continue
        if not isinstance(part, Mapping):
            yield where, "must be an object with a type"
        elif part.get("type") == "text" and not isinstance(part.get("text"), str):
            yield where, "is a text part without text"
        elif is_empty(part):
            yield where, f"is a part of type {_shown(part.get('type'))} without address or data"
        elif part.get("type") == "tool_result":
            yield from _empty_parts(f"{where}.content", part.get("content"), depth - 1)


def _shown(kind: Any) -> str:
    return repr(kind) if isinstance(kind, str) else "'image_url'"
