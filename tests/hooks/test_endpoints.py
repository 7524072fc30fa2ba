"""Who may ask the /eccos endpoints, what they take, and that they answer whatever they are asked."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asgi_client import Exchange, ask, scope_of

from eccos_aios.config import EccosConfig
from eccos_aios.errors import EccosError, FeedbackLimitError, HistoryError, UnknownCallError
from eccos_aios.hooks import asgi, endpoints
from eccos_aios.hooks.asgi import json_bytes
from eccos_aios.hooks.endpoints import EccosEndpoints

TOKEN = "0123456789abcdef"
FEEDBACK = {"call": 1, "quality": 0.5}


@dataclass
class Decided:
    """As a decision, as far as it is shown."""

    call: int
    agent: Any
    quality: float
    estimates: dict[Any, Any] = field(default_factory=dict)


class Scheduled:
    """As EccosScheduler and its service, as far as the endpoints use them."""

    def __init__(self, config: EccosConfig) -> None:
        self.config = config
        self.told: dict[str, Any] = {"healthy": True, "reasons": []}
        self.listed: list[Decided] = [Decided(n, "agent", 0.5) for n in range(200)]
        self.scheduler = SimpleNamespace(decisions=lambda: self.listed)
        self.fault: Exception | None = None
        self.graded: list[dict[str, Any]] = []

    def status(self) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        return {"scheduler": "eccos", "pending": 0, "quality_owed": float("nan"), "totals": {"abandoned": 0}}

    def health(self) -> dict[str, Any]:
        return self.told

    def give_quality(self, quality: float, **meant: Any) -> str:
        if self.fault is not None:
            raise self.fault
        self.graded.append({"quality": quality, **meant})
        return "an id"


@pytest.fixture
def config(tmp_path: Path) -> EccosConfig:
    return EccosConfig(manifest=tmp_path / "cores.yaml")


@pytest.fixture
def seated(config: EccosConfig, monkeypatch: pytest.MonkeyPatch) -> Scheduled:
    scheduled = Scheduled(config)
    monkeypatch.setattr(
        endpoints, "ACTIVE", SimpleNamespace(scheduler=scheduled, service=scheduled, shadow=None)
    )
    return scheduled


@pytest.fixture
def app(seated: Scheduled) -> EccosEndpoints:
    """In front of an application that says of everything that it is AIOS's."""

    async def aios(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"access-control-allow-origin", b"*")]
        await send({"type": "http.response.start", "status": 299, "headers": headers})
        await send({"type": "http.response.body", "body": b"AIOS"})

    return EccosEndpoints(aios, lambda: frozenset({"kernel.local"}))


def with_token(seated: Scheduled) -> None:
    seated.config = EccosConfig.model_validate({"manifest": seated.config.manifest, "token": TOKEN})


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        (("127.0.0.1", 1), {}, 200),
        (("127.3.2.1", 1), {}, 200),
        (("::1", 1), {"Host": "[::1]:8000"}, 200),
        (("::ffff:127.0.0.1", 1), {"Host": "127.0.0.1"}, 200),
        (("127.0.0.1", 1), {"Host": "KERNEL.local:8000"}, 200),
        (("192.0.2.7", 1), {}, 403),
        (("::ffff:192.0.2.7", 1), {}, 403),
        (("unknown", 1), {}, 403),
        (None, {}, 403),
        (("127.0.0.1", 1), {"Host": "rebound.example"}, 403),
        (("127.0.0.1", 1), {"Host": "localhost.rebound.example"}, 403),
        (("127.0.0.1", 1), {"Host": "0.0.0.0:8000"}, 403),
        (("127.0.0.1", 1), {"Host": "localhost@rebound.example"}, 403),
        (("127.0.0.1", 1), {"Host": ""}, 403),
        (("127.0.0.1", 1), [("Host", "localhost"), ("Host", "localhost")], 403),
        (("127.0.0.1", 1), {"Origin": "http://localhost:8000"}, 200),
        (("127.0.0.1", 1), {"Host": "localhost", "Origin": "http://localhost:80"}, 200),
        (("127.0.0.1", 1), {"Origin": "https://localhost:8000"}, 403),
        (("127.0.0.1", 1), {"Origin": "http://localhost:3000"}, 403),
        (("127.0.0.1", 1), {"Origin": "http://page.example"}, 403),
        (("127.0.0.1", 1), {"Origin": "http://localhost:8000/path"}, 403),
        (("127.0.0.1", 1), {"Origin": "null"}, 403),
        (("127.0.0.1", 1), {"Origin": "http://localhost:eight"}, 403),
        (("127.0.0.1", 1), {"Sec-Fetch-Site": "none"}, 200),
        (("127.0.0.1", 1), {"Sec-Fetch-Site": "same-origin"}, 200),
        (("127.0.0.1", 1), {"Sec-Fetch-Site": "same-site"}, 403),
        (("127.0.0.1", 1), {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_without_a_token_this_machine_alone_may_ask(
    app: EccosEndpoints, client: Any, headers: Any, status: int
) -> None:
    answer = ask(app, path="/eccos/status", client=client, headers=headers)
    assert answer.status == status
    if status == 403:
        assert "scheduler.eccos.token" in answer.json["error"]


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X_Forwarded_For", "Forwarded", "Via",
        "X-Real-IP", "CF-Connecting-IP", "CF-Ray", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP",
        "Fastly-Client-IP", "X-Original-Forwarded-For", "X-Envoy-External-Address", "X-ProxyUser-Ip",
        "WL-Proxy-Client-IP", "X-Azure-ClientIP", "X-AppEngine-User-IP", "Fly-Client-IP", "CDN-Loop",
        "X-Remote-Addr", "X-Original-URL", "X-Amzn-Trace-Id", "Client-IP", "Proxy-Connection",
    ],
)  # fmt: skip
def test_without_a_token_no_proxy_may_ask(app: EccosEndpoints, header: str) -> None:
    assert ask(app, path="/eccos/status", headers={header: "203.0.113.9"}).status == 403


def test_what_programs_send_is_no_sign_of_a_proxy(app: EccosEndpoints) -> None:
    names = (
        "Accept Accept-Encoding Accept-Language Cache-Control Connection Content-Length Cookie DNT Pragma Priority "
        "Referer TE Traceparent User-Agent X-Request-Id X-Requested-With X-Prometheus-Scrape-Timeout-Seconds"
    )
    assert ask(app, path="/eccos/status", headers=dict.fromkeys(names.split(), "1")).status == 200


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("192.0.2.7", 1)])
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ([f"Bearer {TOKEN}"], 200),
        ([f"bearer   {TOKEN}"], 200),
        ([f"Bearer {TOKEN}x"], 401),
        ([f"Basic {TOKEN}"], 401),
        ([TOKEN], 401),
        ([""], 401),
        ([], 401),
        ([f"Bearer {TOKEN}", "Bearer another"], 401),
        (["Bearer ſecret"], 401),
    ],
)
def test_a_token_is_asked_of_everybody(
    app: EccosEndpoints, seated: Scheduled, client: Any, authorization: list[str], status: int
) -> None:
    with_token(seated)
    headers = [("Authorization", value) for value in authorization]
    for path in ("/eccos/status", "/eccos/health", "/eccos/nothing"):
        answer = ask(app, path=path, client=client, headers=headers)
        assert answer.status == (404 if status == 200 and "nothing" in path else status)
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "path",
    ["/eccos", "/eccos/", "/eccos/status", "/eccos/status/", "/eccos/nothing", "//eccos/status", "/./eccos/status",
     "/eccos/../status", "/docs/../eccos/status", "/ECCOS/status", "/eccos//status", "/eccos/../../eccos/status"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
def test_every_path_below_eccos_is_guarded_and_has_no_cors(
    app: EccosEndpoints, path: str, method: str
) -> None:
    foreign = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
    answer = ask(app, method, path, headers=foreign)
    assert answer.status == 403
    answer = ask(app, method, path)
    assert answer.status in (200, 308, 404, 405, 415)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/status", "/query", "/eccosystem", "/api/eccos", "/eccos.txt"])
def test_other_paths_are_the_kernels(app: EccosEndpoints, path: str) -> None:
    assert ask(app, path=path, client=("192.0.2.7", 1)).status == 299


def test_where_the_kernel_is_mounted_its_paths_are_guarded(app: EccosEndpoints) -> None:
    mounted = {"path": "/aios/eccos/status", "root_path": "/aios"}
    assert ask(app, **mounted).status == 200  # type: ignore[arg-type]
    assert ask(app, **mounted, client=("192.0.2.7", 1)).status == 403  # type: ignore[arg-type]


def test_a_websocket_is_refused(app: EccosEndpoints) -> None:
    async def opened() -> Any:
        exchange = Exchange()
        await app({**scope_of(path="/eccos/status"), "type": "websocket"}, exchange.receive, exchange.send)
        return exchange.sent

    assert [message["type"] for message in asyncio.run(opened())] == ["websocket.close"]


def test_head_is_answered_as_get_without_its_body(app: EccosEndpoints) -> None:
    got, head = ask(app, "GET", "/eccos/status"), ask(app, "HEAD", "/eccos/status")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == got.headers
    assert int(head.headers["content-length"]) == len(got.body)


def test_what_is_not_allowed_is_said(app: EccosEndpoints) -> None:
    assert ask(app, "POST", "/eccos/status", {}).headers["allow"] == "GET, HEAD"
    assert ask(app, "GET", "/eccos/feedback").headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"healthy": True, "reasons": []}, 200),
        ({"healthy": True, "reasons": [], "degraded": ["a thread was restarted"]}, 200),
        ({"healthy": False, "reasons": ["no core is open"]}, 503),
    ],
)
def test_health_is_told_by_the_status(
    app: EccosEndpoints, seated: Scheduled, told: dict[str, Any], status: int
) -> None:
    seated.told = told
    answer = ask(app, path="/eccos/health")
    assert (answer.status, answer.json) == (status, told)


def test_a_kernel_that_ends_is_not_healthy(seated: Scheduled) -> None:
    answer = ask(EccosEndpoints(ask, ending=lambda: True), path="/eccos/health")
    assert (answer.status, answer.json["reasons"]) == (503, ["the kernel is ending"])


def test_health_is_told_while_the_scheduler_hangs(
    app: EccosEndpoints, seated: Scheduled, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    monkeypatch.setattr(endpoints, "ANSWER_S", 0.05)
    monkeypatch.setattr(seated, "health", held.wait)
    answer = ask(app, path="/eccos/health")
    held.set()
    assert (answer.status, answer.json["healthy"]) == (503, False)


def test_shadow_mode_is_healthy_and_says_so(
    app: EccosEndpoints, config: EccosConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow = SimpleNamespace(config=config, status=dict, decisions=list)
    monkeypatch.setattr(endpoints, "ACTIVE", SimpleNamespace(scheduler=None, service=None, shadow=shadow))
    answer = ask(app, path="/eccos/health")
    assert (answer.status, answer.json["healthy"]) == (200, True)
    assert "shadow" in answer.json["note"]
    assert ask(app, "POST", "/eccos/feedback", FEEDBACK).status == 409
    assert ask(app, path="/eccos/metrics").status == 409


def test_a_kernel_that_is_not_ours_is_said_to_be_none(
    app: EccosEndpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "ACTIVE", SimpleNamespace(scheduler=None, service=None, shadow=None))
    assert ask(app, path="/eccos/health").status == 503


@pytest.mark.parametrize(
    ("query", "status", "shown"),
    [
        ("", 200, 100),
        ("?limit=7", 200, 7),
        ("?limit=1000&other=1", 200, 200),
        ("?limit=0", 422, None),
        ("?limit=-1", 422, None),
        ("?limit=+1", 422, None),
        ("?limit=1001", 422, None),
        ("?limit=%C2%B2", 422, None),  # ²
        ("?limit=%D9%A1", 422, None),  # an Arabic one
        ("?limit=1_0", 422, None),
        ("?limit=", 422, None),
        ("?limit=" + "9" * 5000, 422, None),
        ("?limit=1&limit=2", 422, None),
        ("?" + "&".join(f"a{n}=1" for n in range(100)), 422, None),
        ("?limit=%ff", 422, None),
    ],
)
def test_the_number_of_decisions_is_bounded(
    app: EccosEndpoints, query: str, status: int, shown: int | None
) -> None:
    answer = ask(app, path=f"/eccos/decisions{query}")
    assert answer.status == status
    assert shown is None or len(answer.json["decisions"]) == shown


@pytest.mark.parametrize(
    "agent", ["half a pair \ud800", None, 7, float("inf"), b"\xff", ["a", "list"], object()]
)
def test_decisions_are_shown_whoever_was_served(app: EccosEndpoints, seated: Scheduled, agent: Any) -> None:
    seated.listed = [Decided(1, agent, float("nan"), {"core": {"quality": float("-inf")}})]
    answer = ask(app, path="/eccos/decisions")
    assert answer.status == 200
    (decision,) = answer.json["decisions"]
    assert (decision["quality"], decision["estimates"]) == (None, {"core": {"quality": None}})


def test_any_content_becomes_json() -> None:
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    odd = {
        1: {"a", 2},
        None: b"x",
        ("t",): 10**5000,
        "pair \U0001f600": "half \udfff",
        "n": nested,
        "e": Path("p"),
    }
    read = json.loads(json_bytes(odd))
    assert read["pair \U0001f600"] == "half �"
    assert (read["('t',)"], read["null"] if "null" in read else read["None"], read["e"]) == (
        None,
        "b'x'",
        "p",
    )


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=application/json", 415),
        ("application/jsonp", 415),
        ("", 415),
    ],
)
def test_feedback_is_json_and_says_so(app: EccosEndpoints, content_type: str, status: int) -> None:
    answer = ask(app, "POST", "/eccos/feedback", FEEDBACK, headers={"Content-Type": content_type})
    assert answer.status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"call": 1, "quality": NaN}', 422),
        (b'{"call": 1, "quality": Infinity}', 422),
        (b'{"call": 1, "quality": 1e999}', 422),
        (b'{"call": 1, "quality": true}', 422),
        (b'{"call": 1, "quality": ' + b"9" * 4000 + b"}", 422),
        (b'{"call": 1, "quality": ' + b"9" * 40000 + b"}", 422),
        (b'{"call": ' + b"9" * 4000 + b', "quality": 1}', 422),
        (b'{"call": 1.0, "quality": 1}', 422),
        (b'{"call": [1], "quality": 1}', 422),
        (b'{"call": "", "quality": 1}', 422),
        (b'{"agent": 7, "quality": 1}', 422),
        (b'{"agent": "\\ud800", "quality": 1}', 404),
        (b'{"call": "\\ud800", "quality": 1}', 404),
        (b'{"call": 1, "quality": 1, "\\ud800": 1}', 422),
        (b"[" * 60_000, 422),
        (b'{"agent":' * 7_000, 422),
        (b"\xff\xfe\xfd", 422),
        (b"", 422),
        (b"null", 422),
        (json.dumps(FEEDBACK).encode(), 200),
    ],
)  # fmt: skip
def test_whatever_feedback_holds_is_answered(app: EccosEndpoints, body: bytes, status: int) -> None:
    answer = ask(app, "POST", "/eccos/feedback", body)
    assert answer.status == status
    assert "error" in answer.json or status == 200


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (UnknownCallError("call: 1: is not among the last decisions"), 404),
        (HistoryError("history.db", "", None, "cannot be written"), 503),
        (FeedbackLimitError("too many", 7.4), 429),
        (EccosError("the scheduler has not been started"), 503),
        (KeyError("a fault of ours"), 500),
    ],
)
def test_what_feedback_meets_is_told_by_the_status(
    app: EccosEndpoints, seated: Scheduled, fault: Exception, status: int
) -> None:
    seated.fault = fault
    answer = ask(app, "POST", "/eccos/feedback", FEEDBACK)
    assert answer.status == status
    assert (answer.headers.get("retry-after") == "7") is (status == 429)


def test_feedback_knows_who_tells_it(app: EccosEndpoints, seated: Scheduled) -> None:
    ask(app, "POST", "/eccos/feedback", {"agent": "a", "quality": 1}, client=("127.0.0.9", 1))
    assert seated.graded == [{"quality": 1.0, "agent": "a", "grader": "127.0.0.9"}]


def posted(app: EccosEndpoints, exchange: Exchange, **headers: str) -> Any:
    listed = {"Content-Type": "application/json", **headers}

    async def ended() -> None:
        await app(scope_of("POST", "/eccos/feedback", listed), exchange.receive, exchange.send)

    asyncio.run(ended())
    return exchange


@pytest.mark.parametrize("length", ["65537", "9" * 30, "-1", "ten"])
def test_a_body_that_says_it_is_too_long_is_never_read(app: EccosEndpoints, length: str) -> None:
    exchange = posted(app, Exchange([b"x"]), **{"Content-Length": length})
    assert (exchange.answered.status, exchange.asked_for) == (413, 0)


def test_a_body_that_turns_out_too_long_is_not_read_on(app: EccosEndpoints) -> None:
    exchange = posted(app, Exchange([b"x" * 20_000] * 100), **{"Transfer-Encoding": "chunked"})
    assert (exchange.answered.status, exchange.asked_for) == (413, 4)


def test_a_body_of_just_the_limit_is_read(app: EccosEndpoints) -> None:
    body = json.dumps(FEEDBACK).encode().ljust(asgi.LONGEST_BODY)
    assert posted(app, Exchange([body[:30_000], body[30_000:]])).answered.status == 200


def test_a_body_that_stops_half_way_is_not_waited_for(
    app: EccosEndpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi.read_body, "__defaults__", (asgi.LONGEST_BODY, 0.05))

    async def half() -> Exchange:
        exchange = Exchange()
        exchange.left = []
        await app(
            scope_of("POST", "/eccos/feedback", {"Content-Type": "application/json"}),
            exchange.receive,
            exchange.send,
        )
        return exchange

    answered = asyncio.run(half()).answered
    assert (answered.status, answered.headers["connection"]) == (408, "close")


def test_a_client_that_has_gone_is_not_answered(app: EccosEndpoints) -> None:
    async def gone() -> Exchange:
        exchange = Exchange()
        exchange.left = []
        exchange.gone.set()
        await app(
            scope_of("POST", "/eccos/feedback", {"Content-Type": "application/json"}),
            exchange.receive,
            exchange.send,
        )
        return exchange

    assert asyncio.run(gone()).sent == []
