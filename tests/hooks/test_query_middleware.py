"""What happens to POST /query before AIOS sees it, and when its client goes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from asgi_client import Exchange, ask, scope_of

from eccos_aios.hooks import clients
from eccos_aios.hooks.asgi import App
from eccos_aios.hooks.clients import CLIENT, client_of, drop_if_client_gone
from eccos_aios.hooks.query_middleware import UNREAD_ALLOWANCE, QueryMiddleware
from eccos_aios.schedule import OverloadedError

WAIT_S = 20.0


class Kernel:
    """The middleware and the application behind it."""

    def __init__(self, app: App | None = None) -> None:
        self.free_places: int | None = 10
        self.ending = False
        self.refused = 0
        self.dropped = 0
        self.seen: list[Any] = []  # the clients of requests that came in
        self.middleware = QueryMiddleware(
            app or self.aios,
            free_places=lambda: self.free_places,
            ending=lambda: self.ending,
            retry_after_s=lambda: 6.5,
            on_refusal=self._refuse,
            on_dropped=self._drop,
        )

    async def aios(self, scope: Any, receive: Any, send: Any) -> None:
        more = scope["method"] == "POST"
        while more:
            message = await receive()
            more = message.get("more_body", False)
        self.seen.append(CLIENT.get())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"AIOS"})

    def _refuse(self) -> None:
        self.refused += 1

    def _drop(self, calls: int) -> None:
        self.dropped += calls


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/query"), ("POST", "/status"), ("POST", "/query/more")]
)
def test_other_requests_pass(kernel: Kernel, method: str, path: str) -> None:
    kernel.ending = True
    assert ask(kernel.middleware, method, path).body == b"AIOS"
    assert kernel.seen == [None]


def test_without_a_scheduler_of_ours_all_pass(kernel: Kernel) -> None:
    kernel.free_places, kernel.ending = None, True
    assert ask(kernel.middleware, "POST", "/query", {}).status == 200
    assert kernel.seen == [None]


def test_a_query_comes_in_with_its_client(kernel: Kernel) -> None:
    assert ask(kernel.middleware, "POST", "/query", [b"a", b"b"]).status == 200
    assert kernel.seen[0].gone  # now that it is answered
    assert CLIENT.get() is None


def test_a_kernel_that_ends_takes_no_more(kernel: Kernel) -> None:
    kernel.ending = True
    answer = ask(kernel.middleware, "POST", "/query", {})
    assert (answer.status, answer.headers["retry-after"], kernel.refused) == (503, "7", 1)
    assert kernel.seen == []


def test_beyond_the_allowance_no_body_is_read(kernel: Kernel) -> None:
    kernel.free_places = -UNREAD_ALLOWANCE

    async def refused() -> Exchange:
        exchange = Exchange([b"x"])
        await kernel.middleware(scope_of("POST", "/query"), exchange.receive, exchange.send)
        return exchange

    exchange = asyncio.run(refused())
    assert (exchange.answered.status, exchange.asked_for) == (503, 0)
    assert "detail" in exchange.answered.json
    assert int(exchange.answered.headers["retry-after"]) >= 1
    assert kernel.refused == 1


def test_the_allowance_bounds_the_requests_that_are_not_read(kernel: Kernel) -> None:
    kernel.free_places = 0

    async def crowd() -> list[int]:
        waiting = [Exchange() for _ in range(UNREAD_ALLOWANCE + 10)]
        for exchange in waiting:
            exchange.left = []  # their bodies have not come
        tasks = [
            asyncio.ensure_future(kernel.middleware(scope_of("POST", "/query"), e.receive, e.send))
            for e in waiting
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = [exchange.answered.status for exchange in waiting if exchange.sent]
        for exchange in waiting:
            exchange.gone.set()
        await asyncio.gather(*tasks)
        return refused

    assert asyncio.run(crowd()) == [503] * 10
    assert ask(kernel.middleware, "POST", "/query", {}).status == 200  # they have gone


@pytest.mark.parametrize("counted", [False, True])
def test_what_is_refused_further_inside_is_a_503_whatever_aios_says(counted: bool) -> None:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        client = CLIENT.get()
        assert client is not None
        client.refusal, client.refusal_counted = OverloadedError("too many", 2.2), counted
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await send({"type": "http.response.body", "body": b"half"})

    kernel = Kernel(refusing)
    answer = ask(kernel.middleware, "POST", "/query", {})
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert answer.json == {"detail": "too many"}
    assert kernel.refused == (0 if counted else 1)  # each refusal is counted once


class Held:
    """An application whose call is with a core until it is let go."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()
        self.client: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.client = CLIENT.get()
        while (await receive()).get("more_body"):
            pass
        self.asked.set()
        await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_a_client_that_goes_takes_its_call_along() -> None:
    async def gone() -> None:
        held, exchange, dropped = Held(), Exchange([b"a", b"b"]), asyncio.Event()
        kernel = Kernel(held)
        served = asyncio.ensure_future(
            kernel.middleware(scope_of("POST", "/query"), exchange.receive, exchange.send)
        )
        await held.asked.wait()
        held.client.when_gone(lambda: dropped.set() or True)
        assert not held.client.gone
        exchange.gone.set()
        await asyncio.wait_for(dropped.wait(), WAIT_S)
        held.let_go.set()
        await served

    asyncio.run(gone())


@pytest.mark.parametrize("by", ["signal", "server"])
def test_a_server_that_ends_has_not_lost_its_client(by: str) -> None:
    """uvicorn tells the application of a disconnect as soon as it shuts down."""

    class Cycle(Exchange):
        shutting_down = by == "server"
        disconnected = False

    async def ending() -> int:
        held, exchange = Held(), Cycle()
        kernel = Kernel(held)
        served = asyncio.ensure_future(
            kernel.middleware(scope_of("POST", "/query"), exchange.receive, exchange.send)
        )
        await held.asked.wait()
        kernel.ending = by == "signal"
        exchange.gone.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not held.client.gone
        held.let_go.set()
        await served
        return exchange.answered.status

    assert asyncio.run(ending()) == 200


def test_an_application_may_still_wait_for_the_disconnect() -> None:
    async def listening(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        assert (await receive())["type"] == "http.disconnect"

    async def gone() -> None:
        exchange = Exchange()
        served = asyncio.ensure_future(
            Kernel(listening).middleware(scope_of("POST", "/query"), exchange.receive, exchange.send)
        )
        await asyncio.sleep(0)
        exchange.gone.set()
        await asyncio.wait_for(served, WAIT_S)

    asyncio.run(gone())


class Syscall:
    """As AIOS's, as far as it is answered."""

    def __init__(self, **query: Any) -> None:
        self.query = SimpleNamespace(**query)
        self.response: Any = None
        self.event = SimpleNamespace(set=lambda: None)
        for name in ("start_time", "status", "end_time"):
            setattr(self, f"set_{name}", lambda _: None)

    def get_start_time(self) -> None: ...

    def set_response(self, response: Any) -> None:
        self.response = response


def test_the_next_steps_of_a_client_that_has_gone_ask_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eccos_aios.hooks.syscall.cerebrum_response", lambda *told: told)
    client = clients.Client()
    was = CLIENT.set(client)
    try:
        first = Syscall(messages=[])
        assert not drop_if_client_gone(first)
        assert client_of(first) is client
        client.leave()
        second, stored = Syscall(messages=[]), Syscall(operation_type="write")
        assert drop_if_client_gone(second)
        assert second.response[0] == "llm"
        assert not drop_if_client_gone(stored)
    finally:
        CLIENT.reset(was)
    assert client.dropped == 1
    assert not drop_if_client_gone(Syscall(messages=[]))
