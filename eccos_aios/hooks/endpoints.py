"""The ``/eccos`` endpoints on the kernel's own address."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from eccos_aios.errors import HistoryError, UnknownCallError
from eccos_aios.hooks.seat import SEAT

Endpoint = Callable[[Any], Awaitable[Any]]
MOST_DECISIONS = 1000
FEEDBACK = '{"call": id or number, "quality": 0 to 1}, or {"agent": name, "quality": 0 to 1}'
SHADOW = "not in shadow mode, where AIOS decides"


def add_endpoints(app: Any) -> None:
    """Add them to a FastAPI application."""
    for path, methods, endpoint in (
        ("/eccos/status", ["GET"], _status),
        ("/eccos/decisions", ["GET"], _decisions),
        ("/eccos/metrics", ["GET"], _metrics),
        ("/eccos/feedback", ["POST"], _feedback),
    ):
        app.router.add_route(path, _guarded(endpoint), methods=methods)


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Answer on loopback, elsewhere to who has the configured token; 503 where ECCOS does not schedule."""

    async def guarded(request: Any) -> Any:
        seated = SEAT.ours or SEAT.shadow
        if seated is None:
            return _json({"error": "ECCOS does not schedule this kernel"}, 503)
        token = seated.config.token
        host = request.client.host if request.client else None
        if token is not None:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            allowed = _is_loopback(host) or hmac.compare_digest(
                given.encode(), token.get_secret_value().encode()
            )
        else:
            allowed = _is_loopback(host)
        if not allowed:
            told = "scheduler.eccos.token opens this to other hosts, sent as Authorization: Bearer TOKEN"
            return _json({"error": told}, 401)
        return await endpoint(request)

    return guarded


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


async def _status(_: Any) -> Any:
    return _json((SEAT.shadow or _scheduler()).status())


async def _decisions(request: Any) -> Any:
    asked = request.query_params.get("limit", "100")
    if not asked.isdecimal() or not 1 <= int(asked) <= MOST_DECISIONS:
        return _json({"error": f"limit: {asked!r}: must be a whole number from 1 to {MOST_DECISIONS}"}, 422)
    shadow = SEAT.shadow
    told = shadow.decisions() if shadow else [asdict(each) for each in _scheduler().clockwork.decisions()]
    return _json({"decisions": told[: int(asked)]})


async def _metrics(_: Any) -> Any:
    from starlette.responses import Response

    if SEAT.ours is None:
        return _json({"error": SHADOW}, 409)
    from eccos_aios.hooks.metrics import exposition

    try:
        status = _scheduler().status()
        content, media_type = exposition(_scheduler().clockwork, status["history"], status["learning"])
    except ImportError:
        return _json({"error": "prometheus-client is missing: pip install 'eccos-aios[metrics]'"}, 501)
    return Response(content, media_type=media_type)


async def _feedback(request: Any) -> Any:
    """What an answer was worth, by its call's id or number, or by the agent whose call finished last."""
    from starlette.concurrency import run_in_threadpool

    if SEAT.ours is None:
        return _json({"error": SHADOW}, 409)
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        return _json({"error": f"the body must be JSON: {FEEDBACK}"}, 422)
    fault = _feedback_fault(body)
    if fault is not None:
        return _json({"error": fault}, 422)
    quality, meant = float(body["quality"]), {key: body[key] for key in ("call", "agent") if key in body}
    try:
        # The store waits for its disk, and the event loop serves every agent.
        call_id = await run_in_threadpool(_scheduler().give_quality, quality, **meant)
    except UnknownCallError as error:
        return _json({"error": str(error)}, 404)
    except HistoryError as error:
        return _json({"error": f"not kept: {error.allowed}"}, 503)
    return _json({**meant, "id": call_id, "quality": quality})


def _feedback_fault(body: Any) -> str | None:
    """What is wrong with a feedback, in one line."""
    if not isinstance(body, dict) or len({"call", "agent"} & body.keys()) != 1:
        return f"the body must name one call, or one agent: {FEEDBACK}"
    if unknown := body.keys() - {"call", "agent", "quality"}:
        return f"{min(unknown)!r}: unknown key: {FEEDBACK}"
    call, agent, quality = body.get("call"), body.get("agent"), body.get("quality")
    if "call" in body and (isinstance(call, bool) or not isinstance(call, int | str) or call == ""):
        return f"call: {call!r}: must be the id or the number of a call in /eccos/decisions"
    if "agent" in body and (not isinstance(agent, str) or not agent):
        return f"agent: {agent!r}: must be the name of an agent"
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        return f"quality: {quality!r}: must be a number from 0 to 1"
    return None


def _scheduler() -> Any:
    return SEAT.ours


def _json(content: object, status_code: int = 200) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status_code)
