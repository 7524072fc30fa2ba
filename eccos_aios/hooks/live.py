"""LiveEvents: what the kernel does, as server-sent events, for the page and ``eccos-aios top``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eccos_aios.hooks.asgi import HttpAnswer, Receive, Scope, Send, json_bytes
from eccos_aios.log_once import LogOnce

if TYPE_CHECKING:  # in shadow mode there is no scheduler to load
    from eccos_aios.schedule.decision_log import Decision

logger = logging.getLogger(__name__)

PERIOD_S = 0.5  # seconds between events: two a second, however many decisions there are
HEARTBEAT_S = 10.0  # seconds without a change after which a comment shows that the kernel lives
LONGEST_STREAM_S = 600.0  # seconds; the client then asks again, with the token of that time
MAX_VIEWERS = 16
SEND_S = 10.0  # seconds that a viewer may take to receive an event
MAX_EVENT = 64 * 1024  # bytes
SHOWN_DECISIONS = 15
SHOWN_CORES = 100
SHOWN_TEXT = 160  # characters of a name or a cause
SHOWN = ("call", "agent", "core", "reason", "attempt", "waited_s", "predicted_quality", "predicted_cost")
SHOWN_LATER = ("decided_at", "outcome", "quality", "plan")


class LiveEvents:
    """Streams snapshots to viewers; all get the same bytes, which are made once a period at most.

    A viewer that is slow misses snapshots, never delays others, and holds no queue. Used in the event loop.

    Parameters
    ----------
    submit : callable
        Runs a function in another thread.
    make : callable
        Makes a snapshot, in that thread.
    may_go_on : callable
        Whether streams go on.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[], bytes]], Future[bytes]],
        make: Callable[[], dict[str, Any]],
        may_go_on: Callable[[], bool],
    ) -> None:
        self._submit = submit
        self._make = make
        self._may_go_on = may_go_on
        self._log = LogOnce(logger)
        self.viewers = 0
        self._event = b""
        self._made_s = float("-inf")
        self._making: asyncio.Future[bytes] | None = None

    async def serve(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
        """Stream to one viewer until it leaves or the kernel ends."""
        if self.viewers >= MAX_VIEWERS:
            error = {"error": f"{MAX_VIEWERS} viewers watch already"}
            await HttpAnswer(503, error, {**headers, "retry-after": "5"}).send(scope, send)
            return
        self.viewers += 1
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await self._stream(send, gone, headers)
        except (OSError, asyncio.TimeoutError):
            return  # the viewer has left, or does not read
        finally:
            self.viewers -= 1
            gone.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await gone

    async def _stream(self, send: Send, gone: asyncio.Future[None], headers: Mapping[str, str]) -> None:
        sent_headers = {**headers, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        listed = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent_headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": listed})
        until_s = time.monotonic() + LONGEST_STREAM_S
        last, last_s = b"", float("-inf")
        while self._may_go_on() and not gone.done() and time.monotonic() < until_s:
            event = await self._current()
            now_s = time.monotonic()
            if event != last or now_s - last_s > HEARTBEAT_S:
                content = event if event != last else b": alive\n\n"
                message = {"type": "http.response.body", "body": content, "more_body": True}
                await asyncio.wait_for(send(message), SEND_S)
                last, last_s = event, now_s
            await asyncio.wait({gone}, timeout=PERIOD_S)
        await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), SEND_S)

    async def _current(self) -> bytes:
        """The last event, or a new one where that is a period old."""
        if time.monotonic() - self._made_s < 0.9 * PERIOD_S:
            return self._event
        making = self._making
        if making is None or making.done():
            self._making = making = asyncio.wrap_future(self._submit(self._encoded))
        try:
            event = await asyncio.shield(making)
        except Exception as error:  # noqa: BLE001 - shown once in the log; the stream goes on
            self._log.warning(type(error).__name__, "no snapshot for the live page", exc_info=error)
            return self._event
        self._event, self._made_s = event, time.monotonic()
        return event

    def _encoded(self) -> bytes:
        content = self._make()
        body = json_bytes(content)
        if len(body) > MAX_EVENT:
            body = json_bytes({**content, "decisions": [], "shortened": True})
        if len(body) > MAX_EVENT:
            body = json_bytes({"error": f"the snapshot is longer than {MAX_EVENT} bytes"})
        return b"data: " + body + b"\n\n"


def snapshot(
    status: Mapping[str, Any],
    decisions: Sequence[Decision],
    *,
    healthy: bool,
    reasons: Sequence[str] = (),
    degraded: Sequence[str] = (),
) -> dict[str, Any]:
    """What a viewer sees: the status, shortened, with the last decisions; never the text of a call."""
    cores = list(dict(status.get("cores", {})).items())
    graded = [decision for decision in decisions if decision.quality is not None]
    delivered: dict[str, Any] = {"graded": len(graded)}
    if graded:
        delivered["promised"] = round(sum(each.predicted_quality for each in graded) / len(graded), 4)
        delivered["delivered"] = round(sum(each.quality or 0.0 for each in graded) / len(graded), 4)
    return {
        **status,
        "cores": {
            name: {key: _short(value) for key, value in core.items()} for name, core in cores[:SHOWN_CORES]
        },
        "healthy": healthy,
        "reasons": [_short(reason) for reason in [*reasons, *degraded][:10]],
        "pending_by_agent": {
            _short(agent): calls for agent, calls in dict(status.get("pending_by_agent", {})).items()
        },
        "delivered": delivered,
        "decisions": [_row(decision) for decision in decisions[:SHOWN_DECISIONS]],
    }


def _row(decision: Decision) -> dict[str, Any]:
    row = {name: _short(getattr(decision, name)) for name in (*SHOWN, *SHOWN_LATER)}
    return {**row, "stages": len(decision.stages)}


def _short(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= SHOWN_TEXT else value[:SHOWN_TEXT] + "…"


async def _until_gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
