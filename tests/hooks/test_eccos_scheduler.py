"""EccosScheduler on the embedded kernel, which queues and waits as AIOS does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.config import EccosConfig
from eccos_aios.errors import ConfigError
from eccos_aios.hooks import EccosRouting, EccosScheduler
from eccos_aios.hooks.clients import Client
from eccos_aios.hooks.shadow import ShadowRouting
from eccos_aios.sandbox import (
    EmbeddedKernel,
    LLMQuery,
    LLMResponse,
    MemoryQuery,
    SandboxCore,
    StorageQuery,
    ToolQuery,
    error_response,
)
from eccos_aios.sandbox.syscall import LLMSyscall
from eccos_aios.schedule import OverloadedError

EASY, HARD = "What is two plus two?", "Prove the four colour theorem."
WAIT_S = 20.0


@pytest.fixture
def config(tmp_path: Path) -> EccosConfig:
    manifest = {
        "cores": [
            {"name": "small", "quota": 2, "price": {"input": 1, "output": 1}},
            {"name": "large", "quota": 2, "price": {"input": 9, "output": 9}},
        ]
    }
    (tmp_path / "cores.yaml").write_text(json.dumps(manifest))
    records = [
        {
            "query": query,
            "outputs": [
                {"model_name": name, "correctness": name == "large" or query == EASY}
                for name in ("small", "large")
            ],
        }
        for query in (EASY, HARD)
        for _ in range(30)
    ]
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, records)))
    return EccosConfig(
        manifest=tmp_path / "cores.yaml", history=tmp_path / "history.jsonl", grace_s=0.2, call_timeout_s=5.0
    )


def kernel_of(cores: list[SandboxCore], config: EccosConfig, **more: Any) -> EmbeddedKernel:
    def make(**params: Any) -> EccosScheduler:
        return EccosScheduler(**params, config=config, response=error_response, **more)

    return EmbeddedKernel(cores, make, query_threads=32)


@pytest.fixture
def kernel(cores: list[SandboxCore], config: EccosConfig) -> Iterator[EmbeddedKernel]:
    with kernel_of(cores, config) as started:
        yield started


def ask(kernel: EmbeddedKernel, text: str, **query: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return kernel.query("agent", LLMQuery(messages=messages, **query)).result(WAIT_S)["response"]


def test_calls_go_where_history_says(kernel: EmbeddedKernel, cores: list[SandboxCore]) -> None:
    assert ask(kernel, EASY).error is None
    assert ask(kernel, HARD).error is None
    assert [core.requests for core in cores] == [1, 1]
    status = kernel.scheduler.status()  # type: ignore[attr-defined]
    assert {name: core["completed"] for name, core in status["cores"].items()} == {"small": 1, "large": 1}


def test_a_failing_core_answers_with_an_error_and_counts_as_failed(
    kernel: EmbeddedKernel, cores: list[SandboxCore]
) -> None:
    cores[0].fail("500")
    failed = ask(kernel, EASY, llms=[{"name": "small"}])
    assert failed.status_code == 502
    assert "small: HTTP 500 server_error" in failed.error
    status = kernel.scheduler.status()  # type: ignore[attr-defined]
    assert status["totals"]["failed"] == 1
    assert status["cores"]["small"]["failed"] == 3
    assert status["cores"]["small"]["in_flight"] == 0


def test_what_every_core_refuses_alike_is_the_calls_own_and_held_against_none(
    kernel: EmbeddedKernel, cores: list[SandboxCore]
) -> None:
    for core in cores:
        core.fail("400")
    for _ in range(8):
        assert ask(kernel, EASY).status_code == 400
    status = kernel.scheduler.status()  # type: ignore[attr-defined]
    assert {core["state"] for core in status["cores"].values()} == {"ok"}
    assert [core.requests for core in cores] == [8, 8]


def test_an_adapter_that_raises_still_answers(
    kernel: EmbeddedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*_: Any) -> Any:
        raise AttributeError("module 'litellm.exceptions' has no attribute 'NotFound'")

    monkeypatch.setattr(kernel.llm, "execute_llm_syscall", raising)
    answer = ask(kernel, EASY)
    assert (answer.finished, answer.status_code) == (True, 500)
    assert "NotFound" in answer.error


@pytest.mark.parametrize("query", [MemoryQuery, StorageQuery, ToolQuery])
def test_other_syscalls_are_answered_and_survive_an_exception(kernel: EmbeddedKernel, query: Any) -> None:
    kind = query.__name__.removesuffix("Query").lower()
    stand_in = getattr(kernel, f"{kind}_manager")
    asked = {"operation_type": "any"} if kind != "tool" else {"tool_calls": []}
    assert kernel.query("agent", query(**asked)).result(WAIT_S)["response"].error is None
    stand_in.fault = KeyError("memory_id")
    failed = kernel.query("agent", query(**asked)).result(WAIT_S)["response"]
    assert "KeyError" in failed.error
    stand_in.fault = None
    assert kernel.query("agent", query(**asked)).result(WAIT_S)["response"].error is None


def test_a_suspended_call_goes_on_at_the_core_that_holds_its_context(
    kernel: EmbeddedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[str] = []
    execute = kernel.llm.execute_llm_syscall

    def sliced(model_idx: int, syscall: Any, temperature: float = 0.0) -> Any:
        served.append(kernel.llm.llm_configs[model_idx].name)
        if len(served) < 3:
            # From here on the other core would be the better choice.
            syscall.query.messages[0]["content"] = EASY
            return syscall, LLMResponse(response_message="half", finished=False)
        return execute(model_idx, syscall)

    monkeypatch.setattr(kernel.llm, "execute_llm_syscall", sliced)
    assert ask(kernel, HARD).error is None
    assert served == ["large", "large", "large"]


def test_cores_named_by_the_agent_are_kept_to(kernel: EmbeddedKernel, cores: list[SandboxCore]) -> None:
    assert ask(kernel, EASY, llms=[{"name": "large"}]).error is None
    assert [core.requests for core in cores] == [0, 1]
    assert "not all available" in ask(kernel, EASY, llms=[{"name": "absent"}]).error


def test_an_ollama_model_that_an_agent_names_is_registered(
    kernel: EmbeddedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(name: str) -> bool:
        kernel.llm.llm_configs.append(kernel.llm.llm_configs[0])
        kernel.llm.llms.append(kernel.llm.llms[0])
        kernel.llm._connections.append(kernel.llm._connections[0])
        kernel.llm.available_llm_names.append(name)
        return True

    monkeypatch.setattr(kernel.llm, "_dynamic_register_ollama_model", register, raising=False)
    assert ask(kernel, EASY, llms=[{"name": "qwen3:4b", "backend": "ollama"}]).error is None
    status = kernel.scheduler.status()  # type: ignore[attr-defined]
    assert status["cores"]["qwen3:4b"]["completed"] == 1


def test_a_core_that_aios_no_longer_has_leaves_and_its_call_goes_elsewhere(
    kernel: EmbeddedKernel, cores: list[SandboxCore]
) -> None:
    for listed in (kernel.llm.available_llm_names, kernel.llm.llms, kernel.llm.llm_configs):
        del listed[0]
    del kernel.llm._connections[0]
    assert ask(kernel, EASY).error is None
    assert [core.requests for core in cores] == [0, 1]
    status = kernel.scheduler.status()  # type: ignore[attr-defined]
    assert list(status["cores"]) == ["large"]
    assert status["totals"]["retries"] == 1


def test_quotas_hold_under_load(kernel: EmbeddedKernel, cores: list[SandboxCore]) -> None:
    with ThreadPoolExecutor(32) as agents:
        answers = list(agents.map(lambda number: ask(kernel, (EASY, HARD)[number % 2]), range(100)))
    assert {answer.error for answer in answers} == {None}
    assert all(core.max_in_flight <= 2 for core in cores)


def test_the_scheduler_of_a_refresh_takes_over_and_stopping_the_first_stops_it(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    before = set(threading.enumerate())
    cores[0].fail("hang")
    with kernel_of(cores, config) as kernel:
        first: Any = kernel.scheduler
        waiting = kernel.query("agent", LLMQuery(messages=[{"role": "user", "content": EASY}]))
        second = EccosScheduler(
            kernel.llm,
            kernel.memory_manager,
            kernel.storage_manager,
            kernel.tool_manager,
            "console",
            first.get_llm_syscall,
            first.get_memory_syscall,
            first.get_storage_syscall,
            first.get_tool_syscall,
            config=config,
            response=error_response,
            service=first.service,
        )
        second.start()
        readers = [thread.name for thread in threading.enumerate() if thread.name.startswith("eccos-process")]
        assert len(readers) == 4
        cores[0].heal()
        assert waiting.result(WAIT_S)["response"].error is None
        assert ask(kernel, HARD).error is None
        first.stop()
        assert second.service.stopped
        first.refuse_queued()
        assert [t for t in set(threading.enumerate()) - before if t.name.startswith("eccos-")] == []


def test_a_refresh_that_fails_or_is_never_started_leaves_the_running_scheduler_alone(
    kernel: EmbeddedKernel, config: EccosConfig, tmp_path: Path
) -> None:
    first: Any = kernel.scheduler
    managers = (kernel.memory_manager, kernel.storage_manager, kernel.tool_manager)
    queues = [getattr(first, f"get_{kind}_syscall") for kind in ("llm", "memory", "storage", "tool")]

    def refreshed(**update: Any) -> EccosScheduler:
        changed = config.model_copy(update=update)
        return EccosScheduler(
            kernel.llm,
            *managers,
            "console",
            *queues,
            config=changed,
            response=error_response,
            service=first.service,
        )

    (tmp_path / "wrong.yaml").write_text("cores: [{name: small, quota: 0}]")
    with pytest.raises(ConfigError, match=r"wrong\.yaml: cores\[0\]\.quota: 0"):
        refreshed(manifest=tmp_path / "wrong.yaml")
    never_started = refreshed(quality_target=0.1)
    assert never_started.service is first.service
    assert first.active
    assert not never_started.active
    assert first.status()["quality_target"] == config.quality_target
    assert ask(kernel, EASY).error is None


def test_what_is_queued_after_the_stop_is_refused(kernel: EmbeddedKernel) -> None:
    scheduler: Any = kernel.scheduler
    scheduler.stop()
    waiting = kernel.query("agent", LLMQuery(messages=[{"role": "user", "content": EASY}]))
    while not waiting.done():
        scheduler.refuse_queued()
    assert waiting.result()["response"].status_code == 503


def test_a_call_beyond_the_schedulers_limit_is_refused_to_its_http_client_and_counted_once(
    cores: list[SandboxCore], config: EccosConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for core in cores:
        core.fail("hang")
    clients: list[Client] = []
    limited = config.model_copy(update={"max_pending": 1, "call_timeout_s": 1.0})
    with kernel_of(cores, limited) as kernel:
        add = kernel._executor.queues[LLMSyscall].add

        def add_with_client(syscall: Any) -> None:
            syscall.eccos_client = Client()
            clients.append(syscall.eccos_client)
            add(syscall)

        monkeypatch.setattr(kernel._executor.queues[LLMSyscall], "add", add_with_client)
        named = LLMQuery(messages=[{"role": "user", "content": EASY}], llms=[{"name": "small"}])
        for each in [kernel.query("agent", named) for _ in range(6)]:
            each.result(WAIT_S)
        refused = [client for client in clients if client.refusal is not None]
        assert refused
        assert all(isinstance(client.refusal, OverloadedError) for client in refused)
        assert all(client.refusal_counted for client in refused)
        status: Any = kernel.scheduler.status()  # type: ignore[attr-defined]
        assert status["totals"]["refused"] == len(refused)


def test_a_call_that_waits_goes_with_its_client(
    cores: list[SandboxCore], config: EccosConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for core in cores:
        core.fail("hang")
    client = Client()
    with kernel_of(cores, config.model_copy(update={"call_timeout_s": 1.0})) as kernel:
        queues = kernel._executor.queues
        add = queues[LLMSyscall].add

        def add_with_client(syscall: Any) -> None:
            syscall.eccos_client = client
            add(syscall)

        monkeypatch.setattr(queues[LLMSyscall], "add", add_with_client)
        scheduler: Any = kernel.scheduler
        named = LLMQuery(messages=[{"role": "user", "content": EASY}], llms=[{"name": "small"}])
        asked = [kernel.query("agent", named) for _ in range(5)]
        while scheduler.service.scheduler.pending < 3 or cores[0].requests < 2:
            assert not any(each.done() for each in asked)
        client.leave()
        gone = [each for each in asked if each.result(WAIT_S)["response"].error]
        assert len(gone) == 5
        totals = scheduler.status()["totals"]
        assert totals["abandoned"] == 3
        assert cores[0].requests == 2


def test_a_manifest_without_any_of_the_kernels_cores_is_refused(config: EccosConfig) -> None:
    with SandboxCore("other") as other, pytest.raises(ConfigError, match=r"cores.yaml: cores: .*'other'"):
        kernel_of([other], config)


class Llm:
    def __init__(self, name: str) -> None:
        self.name = name


def test_the_router_strategy_routes_by_quality_and_price(config: EccosConfig) -> None:
    router = EccosRouting([Llm("small"), Llm("large")], config.model_copy(update={"quality_target": 0.95}))
    everything = [{"name": "small"}, {"name": "large"}]
    messages = [[{"role": "user", "content": text}] for text in (EASY, HARD)]
    assert router.get_model_idxs([everything, everything], messages) == [0, 1]
    assert router.get_model_idxs([[{"name": "large"}], everything], messages) == [1, 1]
    assert router.get_model_idxs([], []) == []


def test_the_router_strategy_heeds_the_slack_of_a_target_out_of_reach(config: EccosConfig) -> None:
    target = config.model_copy(update={"quality_target": 1.0, "reach_slack": 1.0})
    everything = [{"name": "small"}, {"name": "large"}]
    messages = [[{"role": "user", "content": text}] for text in (EASY, HARD)]
    router = EccosRouting([Llm("small"), Llm("large")], target)
    assert router.get_model_idxs([everything, everything], messages) == [0, 0]


class FirstCore:
    """A router of AIOS's own."""

    def __init__(self, llm_configs: list[Any]) -> None:
        self.llm_configs = llm_configs

    def get_model_idxs(self, selected: list[Any], queries: list[Any]) -> list[int]:
        return [0] * len(queries)


def test_shadow_mode_leaves_the_decision_and_tells_what_eccos_would_do(config: EccosConfig) -> None:
    target = config.model_copy(update={"quality_target": 0.95})
    shadow = ShadowRouting(FirstCore([Llm("small"), Llm("large")]), target)
    everything = [{"name": "small"}, {"name": "large"}]
    messages = [[{"role": "user", "content": text}] for text in (EASY, HARD)]
    assert shadow.get_model_idxs([everything, everything], messages) == [0, 0]
    status: Any = shadow.status()
    assert status["cores"] == {"small": {"aios": 2, "eccos": 1}, "large": {"aios": 0, "eccos": 1}}
    assert status["totals"]["eccos"]["predicted_quality"] > status["totals"]["aios"]["predicted_quality"]
    assert {(each["core"], each["aios_core"]) for each in shadow.decisions()} == {
        ("small", "small"),
        ("large", "small"),
    }


def test_shadow_mode_never_disturbs(config: EccosConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = ShadowRouting(FirstCore([Llm("small"), Llm("large")]), config)
    monkeypatch.setattr("eccos_aios.hooks.routing.solve", lambda _: 1 / 0)
    assert shadow.get_model_idxs([[{"name": "large"}]], [[{"role": "user", "content": EASY}]]) == [0]
    status: Any = shadow.status()
    assert status["totals"]["failed"] == 1


def test_the_router_never_raises(config: EccosConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    router = EccosRouting([Llm("small"), Llm("large")], config)
    monkeypatch.setattr("eccos_aios.hooks.routing.solve", lambda _: 1 / 0)
    assert router.get_model_idxs([[{"name": "large"}]], [[{"role": "user", "content": EASY}]]) == [1]
