"""Asks an ASGI application as a server would, without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LOCAL = ("127.0.0.1", 50_000)


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read strictly."""

        def refuse(constant: str) -> None:
            raise ValueError(f"{constant} is no JSON")

        return json.loads(self.body, parse_constant=refuse)


class Exchange:
    """One request: what the application receives, and what it has sent."""

    def __init__(self, chunks: Iterable[bytes] = (b"",)) -> None:
        self.left = list(chunks)
        self.asked_for = 0  # times that the application has waited for something
        self.gone = asyncio.Event()
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        self.asked_for += 1
        if self.left:
            chunk = self.left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self.left)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def answered(self) -> Answered:
        start = self.sent[0]
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answered(start["status"], headers, b"".join(m.get("body", b"") for m in self.sent[1:]))


def scope_of(
    method: str = "GET",
    path: str = "/",
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    client: tuple[str, int] | None = LOCAL,
    root_path: str = "",
    scheme: str = "http",
) -> dict[str, Any]:
    """A request as ASGI describes it; its Host header is loopback's unless another is given."""
    path, _, query = path.partition("?")
    listed = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    if not any(name.lower() == "host" for name, _ in listed):
        listed.append(("Host", "localhost:8000"))
    return {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in listed],
        "client": client,
        "scheme": scheme,
    }


def ask(app: Any, method: str = "GET", path: str = "/", body: Any = None, **request: Any) -> Answered:
    """The answer to one request; a body that is no bytes is sent as JSON."""
    if body is not None:
        request["headers"] = {"Content-Type": "application/json", **request.get("headers", {})}
    chunks = (
        body if isinstance(body, list) else [body if isinstance(body, bytes) else json.dumps(body).encode()]
    )

    async def exchanged() -> Answered:
        exchange = Exchange(chunks)
        await app(scope_of(method, path, **request), exchange.receive, exchange.send)
        return exchange.answered

    return asyncio.run(exchanged())
