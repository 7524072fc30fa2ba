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
from eccos_aios.sandbox.aios import START_TIMEOUT_S, AiosKernel
from eccos_aios.sandbox.server import SandboxCore

QUOTAS = {"first": 4, "second": 3, "third": 2}
CALLS, CALLERS = 400, 32
WAIT_S = 60.0
# A call that two cores blame is answered with their error; these faults blame the core.
CORES_OWN = tuple(kind for kind in MENDABLE if kind not in ("413", "filter", "window"))
# So is a call that every core refuses. With these at all three cores that would be one in 5,600 calls.
REFUSALS = ("401", "402", "403", "404")


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
        # One attempt in five fails, so that no call runs out of attempts or of time.
        "max_attempts": 30,
        "unavailable_after_s": 60.0,
        "shared": redis_server.url,
    }
    return {"scheduler_type": "eccos", "eccos": section}


def until(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> None:
    end_s = time.monotonic() + wait_s
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
            refuses = core is not cores[-1]
            core.fail([kind for kind in CORES_OWN if refuses or kind not in REFUSALS], 0.2, seed=number)
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


def workers(_: Path, port: int) -> list[str]:
    return ["-m", "uvicorn", "runtime.launch:app", "--port", str(port), "--workers", "4"]


@pytest.mark.aios_long
def test_four_workers_serve_as_one_kernel(
    aios: Aios, cores: list[SandboxCore], scheduler: dict[str, Any]
) -> None:
    with aios.kernel(cores, scheduler, arguments=workers) as kernel:
        until(lambda: kernel.text.count("startup complete") == 4, "not all workers serve", START_TIMEOUT_S)
        until(lambda: kernel.request("/eccos/status")["shared"]["kernels"] == 4, "a worker is alone")
        answers = ask_in_turn([kernel], 200)
        assert [answer["error"] for answer in answers] == [None] * 200
        assert over_quota(cores) == {}

        served: dict[int, int] = {}  # calls by worker, whichever answers

        def all_workers_have_answered() -> bool:
            status = kernel.request("/eccos/status")
            served[status["shared"]["process"]] = status["totals"]["completed"]
            return len(served) == 4 and status["shared"]["all"]["totals"]["completed"] == 200

        until(all_workers_have_answered, "a worker does not answer")
        assert sum(served.values()) == 200
        assert min(served.values()) > 0

        until(lambda: len(outcomes(scheduler)) == 200, "outcomes are missing")
        graded = {each.call_id: number / 20 for number, each in enumerate(outcomes(scheduler)[:20])}
        for call, quality in graded.items():
            assert kernel.request("/eccos/feedback", {"call": call, "quality": quality})["id"] == call
        until(
            lambda: (
                {each.call_id: each.quality for each in outcomes(scheduler) if each.quality is not None}
                == graded
            ),
            "grades are missing",
        )


@pytest.mark.aios_long
def test_without_shared_a_second_server_on_the_manifest_ends_with_one_line_that_names_the_key(
    aios: Aios, cores: list[SandboxCore], scheduler: dict[str, Any]
) -> None:
    alone = {key: value for key, value in scheduler["eccos"].items() if key != "shared"}
    unshared = {**scheduler, "eccos": alone}
    with aios.kernel(cores, unshared) as first:
        with aios.kernel(cores, unshared) as second:
            assert second.process.wait(WAIT_S) != 0
            (line,) = [line for line in second.output if "eccos-aios:" in line]
            assert "another kernel process" in line
            assert "scheduler.eccos.shared" in line
        with aios.kernel(cores, unshared, arguments=workers) as second:
            second.process.wait(START_TIMEOUT_S)
            told = {line for line in second.output if "eccos-aios:" in line}
            assert len(told) == 1
            assert "scheduler.eccos.shared" in told.pop()
        with aios.kernel(cores, scheduler) as second:
            assert second.process.wait(WAIT_S) != 0
            assert "schedules with this manifest alone" in second.text
        assert first.query("who serves?")["error"] is None
