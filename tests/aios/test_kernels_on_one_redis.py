"""Real AIOS kernels that share their cores over a real Redis: two kernels, and one with four workers."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aios_overlay import Aios
from experiments.redis_server import RedisServer
from fault_drills import MENDABLE

from eccos_aios.history import CallOutcome, HistoryStore
from eccos_aios.sandbox.aios import AiosKernel
from eccos_aios.sandbox.server import SandboxCore

QUOTAS = {"first": 4, "second": 3, "third": 2}
CALLS, CALLERS = 400, 32
WAIT_S = 60.0


@pytest.fixture
def cores() -> Iterator[list[SandboxCore]]:
    started = [SandboxCore(name, latency_s=0.05).start() for name in QUOTAS]
    yield started
    for core in started:
        core.stop()


@pytest.fixture
def scheduler(aios: Aios, redis_server: RedisServer, tmp_path: Path) -> dict[str, Any]:
    """The section of kernels that share one manifest, one store and one Redis."""
    probe = [str(aios.python), "-c", "import redis"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("redis-py is not installed beside AIOS")
    manifest = tmp_path / "cores.yaml"
    cores = [{"name": name, "quota": quota} for name, quota in QUOTAS.items()]
    manifest.write_text(json.dumps({"cores": cores}))
    section = {
        "manifest": str(manifest),
        "history": str(tmp_path / "history.db"),
        "quality_target": 0.5,
        "attempt_timeout_s": 1.0,
        "max_attempts": 10,
        "shared": redis_server.url,
    }
    return {"scheduler_type": "eccos", "eccos": section}


def until(condition: Callable[[], Any], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.05)


def ask_in_turn(kernels: Sequence[AiosKernel], calls: int) -> list[dict[str, Any]]:
    """The answers to `calls` calls, in order; each kernel gets every so-manieth one."""
    with ThreadPoolExecutor(CALLERS) as agents:
        return list(
            agents.map(lambda n: kernels[n % len(kernels)].query(f"question {n}", f"agent {n}"), range(calls))
        )


def outcomes(scheduler: dict[str, Any]) -> list[CallOutcome]:
    with HistoryStore(Path(scheduler["eccos"]["history"]), read_only=True) as store:
        return list(store.outcomes())


def over_quota(cores: Sequence[SandboxCore]) -> dict[str, int]:
    return {core.name: core.max_in_flight for core in cores if core.max_in_flight > QUOTAS[core.name]}


@pytest.mark.aios_long
@pytest.mark.parametrize("count", [1, 2])
def test_kernels_over_failing_cores_answer_each_call_once_within_the_quotas(
    aios: Aios,
    cores: list[SandboxCore],
    scheduler: dict[str, Any],
    count: int,
    record_property: Callable[[str, object], None],
) -> None:
    with ExitStack() as started:
        kernels = [started.enter_context(aios.kernel(cores, scheduler)) for _ in range(count)]
        for kernel in kernels:
            assert kernel.process.poll() is None, kernel.text[-3000:]
            until(
                lambda k=kernel: k.request("/eccos/status")["shared"]["kernels"] == count, "kernels are alone"
            )
        for number, core in enumerate(cores):
            core.fail(MENDABLE, 0.2, seed=number)
        began_s = time.monotonic()
        answers = ask_in_turn(kernels, CALLS)
        seconds = time.monotonic() - began_s
        statuses = [kernel.request("/eccos/status") for kernel in kernels]
        until(lambda: len(outcomes(scheduler)) >= CALLS, "outcomes are missing")
    requests = sum(core.requests for core in cores)
    for name, figure in {
        "seconds": round(seconds, 2),
        "answered_well": sum(answer["error"] is None for answer in answers),
        "requests_per_call": requests / CALLS,
        "most_in_flight": {core.name: core.max_in_flight for core in cores},
        "calls_by_kernel": [status["totals"]["submitted"] for status in statuses],
    }.items():
        record_property(name, figure)

    assert [answer["finished"] for answer in answers] == [True] * CALLS
    assert [answer["error"] for answer in answers if answer["error"] is not None] == []
    assert [f"question {n}" in str(answer["response_message"]) for n, answer in enumerate(answers)] == [
        True
    ] * CALLS
    assert over_quota(cores) == {}
    assert [status["totals"]["submitted"] for status in statuses] == [CALLS // count] * count
    assert [status["totals"]["completed"] for status in statuses] == [CALLS // count] * count
    assert Counter(each.query for each in outcomes(scheduler)) == Counter(
        f"question {n}" for n in range(CALLS)
    )
