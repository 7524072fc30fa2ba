"""A real AIOS kernel: who may ask, fair queries, clients that go, and its end while cores hang."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.sandbox.aios import AiosKernel
from eccos_aios.sandbox.server import SandboxCore

MAX_PENDING = 60
GRACE_S = 2.0
SECTION = {"manifest": "cores.yaml", "quality_target": 0.0, "max_pending": MAX_PENDING, "grace_s": GRACE_S}
ECCOS = {"scheduler_type": "eccos", "eccos": SECTION}
QUOTA = 4
MANIFEST = f"cores: [{{name: first, quota: {QUOTA}}}, {{name: second, quota: {QUOTA}}}]"
WAIT_S = 60.0


@pytest.fixture(scope="module")
def cores() -> Iterator[list[SandboxCore]]:
    started = [SandboxCore(name, latency_s=0.2).start() for name in ("first", "second")]
    yield started
    for core in started:
        core.stop()


@pytest.fixture(autouse=True)
def _healthy(cores: list[SandboxCore]) -> Iterator[None]:
    for core in cores:
        core.reset_counts()
    yield
    for core in cores:
        core.heal()


@pytest.fixture(scope="module")
def kernel(aios: Any, cores: list[SandboxCore]) -> Iterator[AiosKernel]:
    with aios.kernel(cores, ECCOS, {"cores.yaml": MANIFEST}) as running:
        assert running.process.poll() is None, running.text[-3000:]
        yield running


def port_of(kernel: AiosKernel) -> int:
    return int(kernel.url.rpartition(":")[2])


def asked(kernel: AiosKernel, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(kernel), timeout=WAIT_S)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}


def outcome_of(kernel: AiosKernel, text: str, agent: str) -> tuple[int, str | None]:
    """The status of a query, AIOS's own where HTTP has nothing to say, and its Retry-After."""
    try:
        return kernel.query(text, agent)["status_code"], None
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Retry-After"]


def test_pages_and_proxies_are_refused_and_get_no_cors_headers(kernel: AiosKernel) -> None:
    foreign = {"Origin": "http://page.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        for path in ("/eccos/status", "/eccos/nothing", "//eccos/status"):
            status, headers = asked(kernel, method, path, **foreign)
            assert status == 403
            assert not [name for name in headers if name.startswith("access-control")]
    # uvicorn takes the client's address from this one, and does not hide that it was there.
    assert asked(kernel, "GET", "/eccos/status", **{"X-Forwarded-For": "127.0.0.1"})[0] == 403
    assert asked(kernel, "GET", "/eccos/status", Host="rebound.example")[0] == 403
    status, headers = asked(kernel, "GET", "/eccos/health")
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert "access-control-allow-origin" in asked(kernel, "GET", "/status", **foreign)[1]  # AIOS's own


def test_a_quiet_agent_is_served_beside_one_that_floods(kernel: AiosKernel) -> None:
    with ThreadPoolExecutor(200) as agents:
        flood = [agents.submit(outcome_of, kernel, f"flood {n}", "flood") for n in range(180)]
        deadline_s = time.monotonic() + WAIT_S
        while not kernel.request("/eccos/status")["totals"]["refused"]:  # so many have been pending
            assert time.monotonic() < deadline_s
        quiet = [agents.submit(outcome_of, kernel, f"quiet {n}", f"quiet {n}") for n in range(3)]
        assert {each.result()[0] for each in quiet} == {200}
        assert kernel.request("/eccos/status")["pending"] <= MAX_PENDING
        assert not all(each.done() for each in flood)
        told = [each.result() for each in flood]
    statuses = Counter(status for status, _ in told)
    assert set(statuses) == {200, 503}
    assert all(int(retry_after) >= 1 for status, retry_after in told if status == 503 and retry_after)
    assert all(retry_after for status, retry_after in told if status == 503)
    assert kernel.request("/eccos/status")["totals"]["refused"] == statuses[503]


def test_calls_whose_clients_have_gone_are_not_sent(kernel: AiosKernel, cores: list[SandboxCore]) -> None:
    before = kernel.request("/eccos/status")["totals"]["abandoned"]
    body = json.dumps(
        {
            "query_type": "llm",
            "agent_name": "gone",
            "query_data": {"messages": [{"role": "user", "content": "gone"}], "action_type": "chat"},
        }
    ).encode()
    head = f"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    for core in cores:
        core.fail("hang")
    with ThreadPoolExecutor(2 * QUOTA) as agents:
        held = [agents.submit(outcome_of, kernel, f"held {n}", "holds") for n in range(2 * QUOTA)]
        deadline_s = time.monotonic() + WAIT_S
        while sum(core.requests for core in cores) < 2 * QUOTA:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        clients = [socket.create_connection(("127.0.0.1", port_of(kernel)), WAIT_S) for _ in range(20)]
        for client in clients:
            client.sendall(head.encode() + b"\r\n\r\n" + body)
        while kernel.request("/eccos/status")["pending"] < len(clients):
            assert time.monotonic() < deadline_s
        for client in clients:
            client.close()
        while kernel.request("/eccos/status")["totals"]["abandoned"] < before + len(clients):
            assert time.monotonic() < deadline_s
        assert kernel.request("/eccos/status")["pending"] == 0
        for core in cores:
            core.heal()
        assert {each.result()[0] for each in held} == {200}
    assert kernel.query("still there?", "stays")["status_code"] == 200
    assert "Exception in ASGI application" not in kernel.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.aios_long
def test_a_kernel_whose_cores_hang_answers_all_and_ends_in_time(
    aios: Any, cores: list[SandboxCore], number: signal.Signals
) -> None:
    def serve(folder: Path, port: int) -> list[str]:
        return [
            "-c",
            "from eccos_aios.cli.main import main; main()",
            "serve",
            "--aios",
            str(folder),
            "--port",
            str(port),
        ]

    by_us = {"arguments": serve, "hooked": False} if number == signal.SIGINT else {}
    for core in cores:
        core.fail("hang")
    with aios.kernel(cores, ECCOS, {"cores.yaml": MANIFEST}, **by_us) as kernel:
        idle = http.client.HTTPConnection("127.0.0.1", port_of(kernel), timeout=WAIT_S)
        idle.request("GET", "/status")
        idle.getresponse().read()
        with ThreadPoolExecutor(12) as agents:
            asking = [agents.submit(outcome_of, kernel, f"question {n}", f"agent {n}") for n in range(12)]
            deadline_s = time.monotonic() + WAIT_S
            while sum(core.requests for core in cores) < 2 * QUOTA:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            asked_s = time.monotonic()
            os.kill(kernel.process.pid, number)
            assert [each.result()[0] for each in asking] == [503] * 12
        code = kernel.process.wait(WAIT_S)
        assert time.monotonic() - asked_s < GRACE_S + 2
        assert code == (-signal.SIGTERM if number == signal.SIGTERM else 0)
        assert "Application shutdown complete" in kernel.text
        idle.close()


@pytest.mark.aios_long
def test_a_second_worker_does_not_fill_the_quotas_again(aios: Any, cores: list[SandboxCore]) -> None:
    def workers(_: Path, port: int) -> list[str]:
        return ["-m", "uvicorn", "runtime.launch:app", "--port", str(port), "--workers", "2"]

    with aios.kernel(cores, ECCOS, {"cores.yaml": MANIFEST}, arguments=workers) as kernel:
        deadline_s = time.monotonic() + 3 * WAIT_S
        while not ("Application startup complete" in kernel.text and "another kernel process" in kernel.text):
            assert time.monotonic() < deadline_s, kernel.text[-3000:]
            time.sleep(0.1)
        (line,) = [line for line in kernel.output if "eccos-aios:" in line]
        assert "uvicorn --workers 1" in line
        with ThreadPoolExecutor(32) as agents:
            told = list(agents.map(lambda n: outcome_of(kernel, f"q {n}", "agent"), range(48)))
        assert {status for status, _ in told} == {200}
        assert all(core.max_in_flight <= QUOTA for core in cores)
        os.kill(kernel.process.pid, signal.SIGTERM)
        assert kernel.process.wait(WAIT_S) == 0
