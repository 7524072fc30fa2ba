"""A real AIOS kernel: start, refresh, cleanup, refusal of a wrong config, and AIOS left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from eccos_aios.sandbox.server import SandboxCore

CORES = ("first", "second")
MANIFEST = "cores: [{name: first, quota: 2}, {name: second, quota: 2}]"
ECCOS = {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml", "quality_target": 0.5}}


@pytest.fixture
def cores() -> Iterator[list[SandboxCore]]:
    started = [SandboxCore(name, latency_s=0.2).start() for name in CORES]
    yield started
    for core in started:
        core.stop()


def settle(kernel: Any, config: dict[str, Any]) -> None:
    path = kernel.folder / "aios" / "config" / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["scheduler"] = {"log_mode": "console", **config}
    path.write_text(yaml.safe_dump(content))


def ask(kernel: Any, calls: int) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(calls) as agents:
        return list(agents.map(lambda number: kernel.query(f"question {number}"), range(calls)))


def test_refresh_and_cleanup_leave_no_second_scheduler(aios: Any, cores: list[SandboxCore]) -> None:
    with aios.kernel(cores, ECCOS, {"cores.yaml": MANIFEST}) as kernel:
        with ThreadPoolExecutor(1) as operator:
            load = operator.submit(ask, kernel, 24)
            for _ in range(3):
                kernel.request("/core/refresh", {})
            answers = load.result()
        assert [answer["status_code"] for answer in answers] == [200] * 24
        assert [core.max_in_flight <= 2 for core in cores] == [True, True]

        kernel.request("/core/cleanup", {})
        refused = kernel.query("after the cleanup")
        assert (refused["status_code"], refused["finished"]) == (503, True)

        kernel.request("/core/refresh", {})
        assert kernel.query("after the refresh")["status_code"] == 200

        settle(kernel, {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml", "quality_target": 7}})
        with pytest.raises(Exception, match="500"):
            kernel.request("/core/refresh", {})
        assert kernel.query("after a refresh that failed")["status_code"] == 200

        for core in cores:
            core.reset_counts()
        settle(kernel, {})
        kernel.request("/core/refresh", {})
        answers = ask(kernel, 6)
        assert [answer["status_code"] for answer in answers] == [200] * 6
        assert [core.requests for core in cores] == [6, 0]  # AIOS's own: all to the first


def test_without_the_config_aios_is_as_it_was(aios: Any, cores: list[SandboxCore]) -> None:
    with aios.kernel(cores, {}) as kernel:
        with pytest.raises(Exception, match="404"):
            kernel.request("/eccos/status")
        answers = ask(kernel, 4)
        assert [answer["status_code"] for answer in answers] == [200] * 4
        assert [core.requests for core in cores] == [4, 0]

        # A refresh that asks for ECCOS gets it, and the FIFO scheduler ends.
        (kernel.folder / "aios" / "config" / "cores.yaml").write_text(MANIFEST)
        settle(kernel, ECCOS)
        kernel.request("/core/refresh", {})
        for core in cores:
            core.reset_counts()
        ask(kernel, 2)
        assert kernel.request("/eccos/status")["totals"]["submitted"] <= 2
        answers = ask(kernel, 12)
        assert [answer["status_code"] for answer in answers] == [200] * 12
        assert cores[1].requests > 0


@pytest.mark.parametrize(
    ("scheduler", "manifest", "told"),
    [
        (ECCOS, "cores: [{name: first, quota: 0}]", "cores.yaml: cores[0].quota: 0:"),
        ({**ECCOS, "scheduler_type": "ecos"}, MANIFEST, "scheduler.scheduler_type: 'ecos':"),
    ],
    ids=["bad quota", "misspelt type"],
)
def test_a_wrong_config_stops_the_start_with_one_line(
    aios: Any, cores: list[SandboxCore], scheduler: Any, manifest: str, told: str
) -> None:
    with aios.kernel(cores, scheduler, {"cores.yaml": manifest}) as kernel:
        assert kernel.process.wait(60) != 0
        lines = [line for line in kernel.output if "eccos-aios:" in line]
        assert len(lines) == 1
        assert told in lines[0]
        assert "Traceback" not in kernel.text


def test_shadow_mode_watches_aios_own_scheduler(aios: Any, cores: list[SandboxCore]) -> None:
    manifest = (
        "cores: [{name: first, price: {input: 9, output: 9}}, {name: second, price: {input: 1, output: 1}}]"
    )
    section = {"manifest": "cores.yaml", "quality_target": 0.0, "mode": "shadow"}
    with aios.kernel(
        cores, {"scheduler_type": "eccos", "eccos": section}, {"cores.yaml": manifest}
    ) as kernel:
        answers = ask(kernel, 3)
        assert [answer["status_code"] for answer in answers] == [200] * 3
        assert [core.requests for core in cores] == [3, 0]
        status = kernel.request("/eccos/status")
        assert status["cores"] == {"first": {"aios": 3, "eccos": 0}, "second": {"aios": 0, "eccos": 3}}
        assert status["totals"]["eccos"]["cost_usd"] < status["totals"]["aios"]["cost_usd"]
        assert len(kernel.request("/eccos/decisions")["decisions"]) == 3


def test_the_kernel_starts_under_uvicorn_and_under_serve(aios: Any, cores: list[SandboxCore]) -> None:
    def uvicorn(_: Path, port: int) -> list[str]:
        return ["-m", "uvicorn", "runtime.launch:app", "--port", str(port)]

    def serve(folder: Path, port: int) -> list[str]:
        return ["-c", SERVE, "serve", "--aios", str(folder), "--port", str(port)]

    for command, hooked in ((uvicorn, True), (serve, False)):
        with aios.kernel(cores, ECCOS, {"cores.yaml": MANIFEST}, arguments=command, hooked=hooked) as kernel:
            assert kernel.request("/eccos/status")["scheduler"] == "eccos"
            assert kernel.query("who are you?")["status_code"] == 200


SERVE = "from eccos_aios.cli.main import main; main()"


def test_the_router_strategy_works_under_aios_own_scheduler(aios: Any, cores: list[SandboxCore]) -> None:
    manifest = (
        "cores: [{name: first, price: {input: 9, output: 9}}, {name: second, price: {input: 1, output: 1}}]"
    )
    scheduler = {"eccos": {"manifest": "cores.yaml", "quality_target": 0.0}}
    with aios.kernel(cores, scheduler, {"cores.yaml": manifest}, router={"strategy": "eccos"}) as kernel:
        answers = ask(kernel, 4)
        assert [answer["status_code"] for answer in answers] == [200] * 4
        assert [core.requests for core in cores] == [0, 4]
        named = kernel.query("which?", llms=[{"name": "first", "backend": "vllm"}])
        assert named["status_code"] == 200
        assert cores[0].requests == 1
