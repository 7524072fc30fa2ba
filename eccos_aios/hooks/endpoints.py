"""The ``/eccos`` endpoints on the kernel's own address."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from eccos_aios.errors import (
    SHOWN_VALUE_LENGTH,
    EccosError,
    FeedbackLimitError,
    HistoryError,
    UnknownCallError,
)
from eccos_aios.hooks.active import ACTIVE
from eccos_aios.hooks.asgi import (
    App,
    BodyError,
    HttpAnswer,
    Receive,
    Scope,
    Send,
    headers_of,
    read_body,
    route_path,
)
from eccos_aios.hooks.guard import refusal
from eccos_aios.hooks.live import LiveEvents, snapshot
from eccos_aios.hooks.page import PAGE_FILES, page_file
from eccos_aios.hooks.query_pool import QueryPool
from eccos_aios.runtime.prometheus import exposition

if TYPE_CHECKING:  # in shadow mode there is no service to load
    from eccos_aios.runtime.service import SchedulingService

logger = logging.getLogger(__name__)

ROOT = "eccos"
EVENTS = "events"
WATCH = HttpAnswer(200, b"")  # stands for the stream of events
MAX_DECISIONS = 1000
MAX_PARAMETERS = 20  # of a query string
THREADS = 4
ANSWER_S = 15.0  # seconds that an endpoint may take; feedback waits for its store's disk
LARGEST_NUMBER = 2**63 - 1  # of a call
FEEDBACK = '{"call": id or number, "quality": 0 to 1}, or {"agent": name, "quality": 0 to 1}'
SHADOW = "not available in shadow mode, where AIOS decides"
INACTIVE = "ECCOS does not schedule this kernel"

# On every answer: it is not cached, not reinterpreted, and not embedded in another origin's page.
ALWAYS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}


class Request(NamedTuple):
    """A request whose client is authorised."""

    parameters: Mapping[str, str]
    body: bytes
    peer: str


class EccosEndpoints:
    """Serves every path below ``/eccos`` and passes all others on.

    It wraps the kernel's application with all of its middleware, so that AIOS's neither answers for these
    paths nor adds headers to them: they carry no CORS headers.

    Parameters
    ----------
    app : ASGI application
    hosts : callable
        The names that the Host header may have beside those of loopback.
    front : callable, optional
        Adds to a status what waits in front of the scheduler.
    ending : callable, optional
        Whether the process is ending.
    """

    def __init__(
        self,
        app: App,
        hosts: Callable[[], Collection[str]] = frozenset,
        front: Callable[[dict[str, Any]], dict[str, Any]] = lambda status: status,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._front = front
        self._ending = ending
        # Not the event loop, which serves every agent, nor the agents' threads, all of which may wait.
        self._threads = QueryPool(THREADS, "eccos-endpoint")
        self._health_threads = QueryPool(THREADS, "eccos-health")  # not behind feedback that waits for a disk
        self._live = LiveEvents(self._threads.submit, self._snapshot, self._may_watch)
        self._endpoints: dict[str, tuple[str, Callable[[Request], HttpAnswer]]] = {
            "status": ("GET", self._status),
            "health": ("GET", self._health),
            "decisions": ("GET", self._decisions),
            "metrics": ("GET", self._metrics),
            "feedback": ("POST", self._feedback),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by the ASGI protocol."""
        segments = _segments(scope) if scope["type"] in ("http", "websocket") else None
        if segments is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                answer = await self._answer(scope, receive, segments)
                if answer is WATCH:
                    await self._live.serve(scope, receive, send, ALWAYS)
                    return
            except BodyError as error:
                if not error.status:
                    return
                closing = {"connection": "close"} if error.status == 408 else {}
                answer = HttpAnswer(error.status, {"error": str(error)}, closing)
            await HttpAnswer(
                answer.status, answer.content, {**ALWAYS, **answer.headers}, answer.media_type
            ).send(scope, send)

    async def _answer(self, scope: Scope, receive: Receive, segments: list[str]) -> HttpAnswer:
        active = ACTIVE.scheduler or ACTIVE.shadow
        if active is None:
            return HttpAnswer(503, {"error": INACTIVE, "healthy": False, "reasons": [INACTIVE]})
        token = active.config.token
        name = "/".join(segments)
        page = name in PAGE_FILES
        # The page's own files hold no data, and a browser cannot send a token with the first request: with a
        # token, they are open, and the page asks for the token.
        if not (page and token is not None):
            refused = refusal(scope, None if token is None else token.get_secret_value(), self._hosts())
            if refused is not None:
                return refused
        if page:
            return page_file(scope, name)
        if name == EVENTS:
            return WATCH if scope["method"] == "GET" else _only("GET")
        method, endpoint = self._endpoints.get(name, ("", None))
        if endpoint is None:
            known = ", ".join(f"/{ROOT}/{name}" for name in ("", *self._endpoints, EVENTS))
            return HttpAnswer(404, {"error": f"there is no such endpoint; there are {known}"})
        if scope["method"] not in ((method, "HEAD") if method == "GET" else (method,)):
            return _only("GET, HEAD" if method == "GET" else method)
        body = b""
        if method == "POST":
            if not _is_json(scope):
                return HttpAnswer(415, {"error": "Content-Type must be application/json"})
            body = await read_body(scope, receive)
        peer = str(scope["client"][0]) if scope.get("client") else ""
        return await self._run(endpoint, scope, body, peer)

    async def _run(
        self, endpoint: Callable[[Request], HttpAnswer], scope: Scope, body: bytes, peer: str
    ) -> HttpAnswer:
        """Call an endpoint in its own thread pool; an exception becomes an answer too."""
        try:
            request = Request(_parameters(scope), body, peer)
        except ValueError as error:
            return HttpAnswer(422, {"error": f"the query string: {error}"})
        threads = self._health_threads if endpoint == self._health else self._threads
        work: Awaitable[HttpAnswer] = asyncio.wrap_future(threads.submit(endpoint, request))
        try:
            return await asyncio.wait_for(work, ANSWER_S)
        except asyncio.TimeoutError:
            reason = f"the scheduler has not answered within {ANSWER_S:g} seconds"
            return HttpAnswer(503, {"error": reason, "healthy": False, "reasons": [reason]})
        except EccosError as error:
            return HttpAnswer(503, {"error": str(error)})
        except Exception as error:
            logger.exception("an endpoint raised")
            return HttpAnswer(500, {"error": f"{type(error).__name__}; see the kernel's log"})

    def _status(self, _: Request) -> HttpAnswer:
        shadow = ACTIVE.shadow
        return HttpAnswer(200, shadow.status() if shadow else self._front(_service().status()))

    def _snapshot(self) -> dict[str, Any]:
        """What the page shows."""
        shadow = ACTIVE.shadow
        if shadow is not None:
            return snapshot(shadow.status(), [], healthy=True)
        service = _service()
        status = self._front(service.status())
        return snapshot(status, service.scheduler.decisions(), **service.health())

    def _may_watch(self) -> bool:
        """Whether streams of events go on: not once the kernel ends, which would wait for them."""
        service = ACTIVE.service
        stopped = service.stopped if service is not None else ACTIVE.shadow is None
        return not (stopped or self._ending())

    def _health(self, _: Request) -> HttpAnswer:
        """Whether calls are served, for load balancers."""
        if ACTIVE.shadow is not None:
            note = "shadow mode: AIOS's own scheduler serves the calls, ECCOS only watches"
            return HttpAnswer(200, {"healthy": True, "reasons": [], "note": note})
        health = _service().health()
        if self._ending():
            health = {**health, "healthy": False, "reasons": ["the kernel is ending", *health["reasons"]]}
        return HttpAnswer(200 if health["healthy"] else 503, health)

    def _decisions(self, request: Request) -> HttpAnswer:
        given = request.parameters.get("limit", "100")
        limit = int(given) if re.fullmatch("[0-9]{1,6}", given) else 0
        if not 1 <= limit <= MAX_DECISIONS:
            return HttpAnswer(
                422, {"error": f"limit: {_shown(given)}: must be a whole number from 1 to {MAX_DECISIONS}"}
            )
        shadow = ACTIVE.shadow
        if shadow is not None:
            return HttpAnswer(200, {"decisions": shadow.decisions()[:limit]})
        if (call := request.parameters.get("call")) is not None:
            found = _service().scheduler.decision(int(call) if re.fullmatch("[0-9]{1,18}", call) else call)
            if found is None:
                return HttpAnswer(404, {"error": f"call: {_shown(call)}: no remembered decision is on it"})
            return HttpAnswer(200, {"decisions": [asdict(found)]})
        last = _service().scheduler.decisions()[:limit]
        return HttpAnswer(200, {"decisions": [asdict(decision) for decision in last]})

    def _metrics(self, _: Request) -> HttpAnswer:
        if ACTIVE.service is None:
            return HttpAnswer(409, {"error": SHADOW})
        service = _service()
        try:
            content, media_type = exposition(service.status(), service.scheduler.histograms())
        except ImportError:
            missing = "prometheus-client is missing: pip install 'eccos-aios[metrics]'"
            return HttpAnswer(501, {"error": missing})
        return HttpAnswer(200, content, media_type=media_type)

    def _feedback(self, request: Request) -> HttpAnswer:
        """Grade a call by its id or number, or the last finished call of an agent."""
        if ACTIVE.service is None:
            return HttpAnswer(409, {"error": SHADOW})
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            return HttpAnswer(422, {"error": f"the body must be JSON: {FEEDBACK}"})
        fault = _feedback_fault(body)
        if fault is not None:
            return HttpAnswer(422, {"error": fault})
        quality, meant = float(body["quality"]), {key: body[key] for key in ("call", "agent") if key in body}
        if any(isinstance(value, str) and not _is_text(value) for value in meant.values()):
            return HttpAnswer(404, {"error": "no call or agent has half a surrogate pair in its name"})
        try:
            call_id = _service().give_quality(quality, **meant, grader=request.peer or None)
        except UnknownCallError as error:
            return HttpAnswer(404, {"error": str(error)})
        except FeedbackLimitError as error:
            retry_after = str(max(1, round(error.retry_after_s)))
            return HttpAnswer(429, {"error": str(error)}, {"retry-after": retry_after})
        except HistoryError as error:
            return HttpAnswer(503, {"error": f"not stored: {error.allowed}"})
        return HttpAnswer(200, {**meant, "id": call_id, "quality": quality})


def _only(allowed: str) -> HttpAnswer:
    return HttpAnswer(405, {"error": f"only {allowed}"}, {"allow": allowed})


def _segments(scope: Scope) -> list[str] | None:
    """The parts of a request's path below ``/eccos``; None if the path is not below it.

    Only the plain path of an endpoint finds it, but any path that resolves to one below ``/eccos`` belongs
    here too: no other application may serve it.
    """
    path = route_path(scope)
    written = [part for part in path.split("/") if part not in ("", ".")]
    resolved: list[str] = []
    for part in written:
        if part != "..":
            resolved.append(part)
        elif resolved:
            resolved.pop()
    if not any(parts[:1] and parts[0].lower() == ROOT for parts in (written, resolved)):
        return None
    plain = path.removesuffix("/").split("/")[1:]
    return plain[1:] if plain[:1] == [ROOT] else [".."]  # which no endpoint is


def _parameters(scope: Scope) -> dict[str, str]:
    """The query string; each name may occur once.

    Raises
    ------
    ValueError
        One occurs twice, or there are too many.
    """
    text = bytes(scope.get("query_string", b"")).decode("latin-1")
    pairs = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_PARAMETERS)
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _is_json(scope: Scope) -> bool:
    kinds = [value for name, value in headers_of(scope) if name == "content-type"]
    return len(kinds) == 1 and kinds[0].partition(";")[0].strip().lower() == "application/json"


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _feedback_fault(body: Any) -> str | None:
    """The fault of a feedback request's body, in one line; None if there is none."""
    if not isinstance(body, dict) or len({"call", "agent"} & body.keys()) != 1:
        return f"the body must name one call, or one agent: {FEEDBACK}"
    if unknown := body.keys() - {"call", "agent", "quality"}:
        return f"{_shown(min(unknown))}: unknown key: {FEEDBACK}"
    call, agent, quality = body.get("call"), body.get("agent"), body.get("quality")
    is_number = isinstance(call, int) and not isinstance(call, bool) and abs(call) <= LARGEST_NUMBER
    if "call" in body and not is_number and not (isinstance(call, str) and call):
        return f"call: {_shown(call)}: must be the id or the number of a call in /eccos/decisions"
    if "agent" in body and (not isinstance(agent, str) or not agent):
        return f"agent: {_shown(agent)}: must be the name of an agent"
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        return f"quality: {_shown(quality)}: must be a number from 0 to 1"
    return None


def _shown(value: object) -> str:
    if isinstance(value, dict | list) or (isinstance(value, int) and value.bit_length() > 64):
        return f"this {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= SHOWN_VALUE_LENGTH else text[:SHOWN_VALUE_LENGTH] + "…"


def _service() -> SchedulingService:
    """The active service; a refresh may have ended it since the request came in."""
    service = ACTIVE.service
    if service is None:
        raise EccosError(INACTIVE)
    return service
