"""The ``/eccos`` endpoints on the kernel's own address."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from eccos_aios.hooks.seat import SEAT

Endpoint = Callable[[Any], Awaitable[Any]]
MOST_DECISIONS = 1000
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
        content, media_type = exposition(_scheduler().clockwork)
    except ImportError:
        return _json({"error": "prometheus-client is missing: pip install 'eccos-aios[metrics]'"}, 501)
    return Response(content, media_type=media_type)


async def _feedback(request: Any) -> Any:
    """``{"call": number, "quality": 0..1}``: what an answer was really worth."""
    if SEAT.ours is None:
        return _json({"error": SHADOW}, 409)
    try:
        body = json.loads(await request.body())
    except ValueError:
        return _json({"error": 'the body must be JSON: {"call": number, "quality": 0 to 1}'}, 422)
    call, quality = (body.get("call"), body.get("quality")) if isinstance(body, dict) else (None, None)
    if not isinstance(call, int) or isinstance(call, bool):
        return _json({"error": f"call: {call!r}: must be the number of a call in /eccos/decisions"}, 422)
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        return _json({"error": f"quality: {quality!r}: must be a number from 0 to 1"}, 422)
    if not _scheduler().clockwork.give_quality(call, float(quality)):
        return _json({"error": f"call: {call}: is not among the last decisions"}, 404)
    return _json({"call": call, "quality": quality})


def _scheduler() -> Any:
    return SEAT.ours


def _json(content: object, status_code: int = 200) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status_code)
