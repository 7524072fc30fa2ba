"""The HTTP responses of a sandbox core: status, headers and body."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eccos_aios.sandbox.fault import ERRORS, FaultKind, fault_error
from eccos_aios.sandbox.reply import Reply, completion, completion_chunks


@dataclass(frozen=True)
class Answer:
    """One HTTP response."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON object."""
    return Answer(status, json.dumps(body).encode(), headers=headers or {})


def completion_answer(request: dict[str, Any], reply: Reply) -> Answer:
    """A reply to a completion request, as a stream where the request asks for one."""
    if request.get("stream"):
        return _stream(completion_chunks(request, reply))
    return json_answer(200, completion(request, reply))


def fault_answer(
    kind: FaultKind, headers: Mapping[str, str], path: str, request: dict[str, Any] | None
) -> Answer | None:
    """What a fault answers; None if it ends the connection.

    Parameters
    ----------
    kind : FaultKind
        None of those that make a request wait.
    headers : mapping of str to str
        That an error carries.
    path : str
        That was asked for.
    request : dict or None
        The completion request, if it is one.
    """
    if kind in ERRORS:
        return json_answer(*fault_error(kind), headers=headers)
    if kind == "redirect":
        return Answer(307, b"", headers={"Location": path})
    if kind == "empty":
        return Answer(200, b"")
    if kind == "malformed":
        return Answer(200, b'{"choices": [{"mess')
    if kind == "null":
        return (
            Answer(200, b"null")
            if request is None
            else completion_answer(request, Reply(None, cut_short=True))
        )
    return None


def _stream(chunks: Iterator[dict[str, Any]]) -> Answer:
    """Server-sent events, all at once: recorded answers have no time per token."""
    events = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    return Answer(200, "".join(f"data: {event}\n\n" for event in events).encode(), "text/event-stream")
