"""Building blocks of the HTTP endpoints: bodies bounded in size and time, answers that cannot fail."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LONGEST_BODY = 64 * 1024  # bytes
BODY_TIMEOUT_S = 5.0  # seconds from a request's head to the end of its body
DEEPEST = 40  # levels of an answer; deeper ones are left out
MAX_BITS = 13_000  # of an integer: Python refuses to write more than 4,300 digits


class BodyError(Exception):
    """A request's body is not accepted.

    Attributes
    ----------
    status : int
        Of the answer: 408, 413, or 0 if the client has disconnected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class HttpAnswer:
    """The answer to a request.

    Attributes
    ----------
    status : int
    content : object
        Bytes are sent as they are, anything else as JSON.
    headers : mapping of str to str
    media_type : str
    """

    status: int
    content: object
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it; to a HEAD request without its body."""
        body = self.content if isinstance(self.content, bytes) else json_bytes(self.content)
        headers = {
            "content-type": self.media_type,
            "content-length": str(len(body)),
            **{name.lower(): value for name, value in self.headers.items()},
        }
        listed = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": listed})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def headers_of(scope: Scope) -> Iterator[tuple[str, str]]:
    """The names, in lower case, and the values of a request's headers."""
    for name, value in scope["headers"]:
        yield bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1").strip()


def route_path(scope: Scope) -> str:
    """A request's path, relative to where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


async def read_body(
    scope: Scope, receive: Receive, limit: int = LONGEST_BODY, timeout_s: float = BODY_TIMEOUT_S
) -> bytes:
    """The whole body of a request.

    Raises
    ------
    BodyError
        It is longer than `limit` bytes, which is checked before and while it is read; it has not arrived
        within `timeout_s` seconds; or the client has gone.
    """
    too_long = BodyError(413, f"the body is longer than {limit} bytes")
    for name, value in headers_of(scope):
        if name == "content-length" and (not value.isdecimal() or len(value) > 18 or int(value) > limit):
            raise too_long
    body = bytearray()

    async def read() -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyError(0, "the client has gone")
            body.extend(message.get("body", b""))
            if len(body) > limit:
                raise too_long
            more = message.get("more_body", False)

    try:
        await asyncio.wait_for(read(), timeout_s)
    except asyncio.TimeoutError:
        raise BodyError(408, f"the body has not arrived within {timeout_s:g} seconds") from None
    return bytes(body)


def json_bytes(content: object) -> bytes:
    """Any content as JSON, in ASCII.

    Values that JSON lacks are approximated: NaN and infinity by null, half a surrogate pair by the
    replacement character, other objects by their text.
    """
    try:
        text = json.dumps(content, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_plain(content, 0))
    if "\\ud" in text:  # surrogates, which are valid in pairs only
        text = json.dumps(_plain(content, 0))
    return text.encode("ascii")


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, int):
        return int(value) if value.bit_length() <= MAX_BITS else None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth >= DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {str(_plain(_key(key), depth)): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray):
        return [_plain(each, depth + 1) for each in value]
    if callable(as_list := getattr(value, "tolist", None)):  # NumPy's arrays and numbers
        return _plain(as_list(), depth + 1)
    return _plain(_text(value), depth)


def _key(key: object) -> object:
    return key if isinstance(key, str | int | float | bool) or key is None else _text(key)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a foreign object; its text is not worth failing the answer
        return f"<{type(value).__name__}>"
