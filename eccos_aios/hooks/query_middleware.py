"""QueryMiddleware: refuses ``POST /query`` where too many calls wait, and watches its client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from eccos_aios.hooks.asgi import App, HttpAnswer, Message, Receive, Scope, Send, headers_of, route_path
from eccos_aios.hooks.clients import CLIENT, Client

PATH = "/query"
UNREAD_ALLOWANCE = 64  # requests beyond `max_pending` whose bodies may be read to find their agents
DEFAULT_RETRY_S = 1.0
TRACE_HEADERS = ("traceparent", "tracestate")  # by which an agent's own trace goes on in the kernel


class QueryMiddleware:
    """ASGI middleware directly around AIOS's application, inside AIOS's own middleware.

    While the kernel is ending or the limit of waiting calls is exceeded, a request is answered 503 with
    Retry-After before its body is read. Only the body names the agent, so a few requests beyond the limit
    are accepted, and `QueryPool` decides which agent's call is refused; that one is answered 503 too.

    When a request's client disconnects, its calls that have not been sent to a core are dropped and counted.

    Parameters
    ----------
    app : ASGI application
    free_places : callable
        How many more calls may wait, negative where too many do; None if there is no ECCOS scheduler.
    ending : callable
        Whether the process is ending.
    retry_after_s : callable
        Seconds after which a refused agent may retry.
    on_refusal : callable
        Called for each request that is answered 503, unless the scheduler has counted it.
    on_dropped : callable
        Called with the number of calls that were dropped since a request's client had disconnected.
    """

    def __init__(
        self,
        app: App,
        free_places: Callable[[], int | None],
        ending: Callable[[], bool],
        retry_after_s: Callable[[], float],
        on_refusal: Callable[[], None],
        on_dropped: Callable[[int], None],
    ) -> None:
        self._app = app
        self._free_places = free_places
        self._ending = ending
        self._retry_after_s = retry_after_s
        self._on_refusal = on_refusal
        self._on_dropped = on_dropped
        self._unread = 0  # requests whose bodies are not read yet; changed in the event loop only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by the ASGI protocol."""
        if scope["type"] != "http" or scope["method"] != "POST" or route_path(scope) != PATH:
            await self._app(scope, receive, send)
            return
        free = self._free_places()
        if free is None:
            await self._app(scope, receive, send)
        elif self._ending():
            await self._refuse(scope, send, "the kernel is ending and accepts no more calls")
        elif free + UNREAD_ALLOWANCE <= self._unread:
            await self._refuse(scope, send, "as many calls wait as may wait (max_pending)")
        else:
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client({name: value for name, value in headers_of(scope) if name in TRACE_HEADERS})
        watched = _WatchedReceive(receive, client, self._ending, self._note_read)
        self._unread += 1

        async def answer(message: Message) -> None:
            # AIOS would answer 500 for a call that was refused further inside.
            if client.refusal is None:
                await send(message)
            elif message["type"] == "http.response.start":
                retry_s = getattr(client.refusal, "retry_after_s", DEFAULT_RETRY_S)
                await self._refuse(scope, send, str(client.refusal), retry_s, client.refusal_counted)

        was = CLIENT.set(client)
        try:
            await self._app(scope, watched.receive, answer)
        finally:
            CLIENT.reset(was)
            watched.end()
            client.leave()  # the client no longer reads what the request waits for
            self._on_dropped(client.dropped)

    async def _refuse(
        self, scope: Scope, send: Send, why: str, retry_s: float | None = None, counted: bool = False
    ) -> None:
        if not counted:
            self._on_refusal()
        seconds = math.ceil(self._retry_after_s() if retry_s is None else retry_s)
        await HttpAnswer(503, {"detail": why}, {"retry-after": str(max(1, seconds))}).send(scope, send)

    def _note_read(self) -> None:
        self._unread -= 1


class _WatchedReceive:
    """A request's `receive`, which watches for the client's disconnection once the body is read."""

    def __init__(
        self, receive: Receive, client: Client, ending: Callable[[], bool], on_read: Callable[[], None]
    ) -> None:
        self._receive = receive
        self._client = client
        self._ending = ending
        self._on_read: Callable[[], None] | None = on_read
        self._watch: asyncio.Future[Message] | None = None

    async def receive(self) -> Message:
        """The next message, by the ASGI protocol."""
        if self._watch is not None:
            return await asyncio.shield(self._watch)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._leave()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._read()
            self._watch = asyncio.ensure_future(self._wait_for_end(message))
        return message

    def end(self) -> None:
        """Note that the request is answered."""
        self._read()
        if self._watch is not None:
            self._watch.cancel()

    async def _wait_for_end(self, message: Message) -> Message:
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self._leave()
        return message

    def _leave(self) -> None:
        # A server that shuts down reports every client as gone, though they still wait for their answers.
        cycle: Any = getattr(self._receive, "__self__", None)
        by_shutdown = getattr(cycle, "shutting_down", False) and not getattr(cycle, "disconnected", True)
        if not self._ending() and not by_shutdown:
            self._client.leave()

    def _read(self) -> None:
        on_read, self._on_read = self._on_read, None
        if on_read is not None:
            on_read()
