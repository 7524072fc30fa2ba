"""A real AIOS kernel with ``scheduler_type: eccos``: what agents and operators see."""

from __future__ import annotations

import json
import urllib.error
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eccos_aios.sandbox.aios import AiosKernel
from eccos_aios.sandbox.reply import Reply
from eccos_aios.sandbox.server import SandboxCore

QUOTAS = {"small": 2, "medium": 3, "large": 4}
PRICES = {"small": 0.1, "medium": 1.0, "large": 10.0}
EASY, HARD = "What is two plus two?", "Prove that every planar graph has a proper colouring in four colours."
CALL_TIMEOUT_S = 8.0
LARGE = {"name": "large", "backend": "hosted_vllm"}
TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}


def reply(request: dict[str, Any]) -> Reply:
    if request.get("tools"):
        return Reply(None, [{"name": "lookup", "arguments": {"word": "core"}}])
    if (request.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        return Reply(json.dumps({"core": request["model"]}))
    return Reply(request["model"])


def manifest(quotas: dict[str, int] = QUOTAS) -> str:
    cores = [
        {"name": name, "quota": quota, "price": {"input": PRICES[name], "output": PRICES[name]}}
        for name, quota in quotas.items()
    ]
    return json.dumps({"cores": cores})


def history() -> str:
    """Every core can do what is easy, only the large one what is hard."""
    lines = []
    for number in range(40):
        for query, able in ((EASY, set(QUOTAS)), (HARD, {"large"})):
            outputs = [
                {"model_name": name, "correctness": name in able, "output_token_length": 20}
                for name in QUOTAS
            ]
            lines.append(json.dumps({"id": f"{query[:4]}{number}", "query": query, "outputs": outputs}))
    return "\n".join(lines)


ECCOS = {
    "scheduler_type": "eccos",
    "eccos": {
        "manifest": "cores.yaml",
        "history": "history.jsonl",
        "quality_target": 0.8,
        "call_timeout_s": CALL_TIMEOUT_S,
    },
}


@pytest.fixture(scope="module")
def cores() -> Iterator[dict[str, SandboxCore]]:
    started = {name: SandboxCore(name, reply, latency_s=0.05).start() for name in QUOTAS}
    yield started
    for core in started.values():
        core.stop()


@pytest.fixture(scope="module")
def kernel(aios: Any, cores: dict[str, SandboxCore]) -> Iterator[AiosKernel]:
    """A kernel that is ECCOS's by its config alone."""
    files = {"cores.yaml": manifest(), "history.jsonl": history()}
    # AIOS's vllm backend cannot decode tool calls, with any scheduler; what goes through litellm can.
    with aios.kernel(list(cores.values()), ECCOS, files, backends={"large": "hosted_vllm"}) as running:
        assert running.process.poll() is None, running.text[-3000:]
        yield running


@pytest.fixture(autouse=True)
def _healthy(cores: dict[str, SandboxCore]) -> Iterator[None]:
    for core in cores.values():
        core.reset_counts()
    yield
    for core in cores.values():
        core.heal()


def test_the_config_alone_switches_eccos_on(kernel: AiosKernel) -> None:
    status = kernel.request("/eccos/status")
    assert status["scheduler"] == "eccos"
    assert {name: core["quota"] for name, core in status["cores"].items()} == QUOTAS


def test_easy_calls_go_to_the_cheap_core_and_hard_ones_to_the_able(kernel: AiosKernel) -> None:
    assert kernel.query(EASY)["response_message"] == "small"
    assert kernel.query(HARD)["response_message"] == "large"


def test_an_unmodified_cerebrum_agent_is_answered(aios: Any, kernel: AiosKernel) -> None:
    script = f"""
import json
from cerebrum.llm.apis import llm_chat, llm_chat_with_json_output, llm_chat_with_tool_call_output
message = [{{"role": "user", "content": {EASY!r}}}]
print(json.dumps([
    llm_chat("agent", message)["response"],
    llm_chat_with_json_output("agent", message)["response"],
    llm_chat_with_tool_call_output("agent", message, [{TOOL!r}], llms=[{LARGE}])["response"],
]))
"""
    chat, as_json, tool = json.loads(aios.run_agent(script, kernel).splitlines()[-1])
    assert (chat["response_message"], chat["status_code"], chat["finished"]) == ("small", 200, True)
    assert json.loads(as_json["response_message"]) == {"core": "small"}
    assert (tool["tool_calls"][0]["name"], tool["tool_calls"][0]["parameters"]) == (
        "lookup",
        {"word": "core"},
    )


def test_a_call_tool_request_reaches_the_tool(aios: Any, kernel: AiosKernel) -> None:
    script = f"""
import json
from cerebrum.llm.apis import llm_call_tool
message = [{{"role": "user", "content": {EASY!r}}}]
print(json.dumps(llm_call_tool("agent", message, [{TOOL!r}], llms=[{LARGE}])))
"""
    answer = json.loads(aios.run_agent(script, kernel).splitlines()[-1])
    # There is no such tool on this machine: that its manager says so shows that the call arrived there.
    assert "response" in answer, answer
    assert answer["response"]["response_class"] == "tool"


def test_the_agent_may_restrict_the_cores(kernel: AiosKernel) -> None:
    answer = kernel.query(EASY, llms=[{"name": "medium", "backend": "vllm"}])
    assert answer["response_message"] == "medium"


def test_a_core_that_is_not_there_is_refused_in_the_words_of_aios(kernel: AiosKernel) -> None:
    answer = kernel.query(EASY, llms=[{"name": "absent", "backend": "vllm"}])
    assert answer["error"] == "Selected LLMs are not all available. Please check the available LLMs."
    assert answer["finished"] is True


def test_memory_and_storage_calls_are_answered(kernel: AiosKernel) -> None:
    body = {
        "query_type": "storage",
        "agent_name": "tester",
        "query_data": {"operation_type": "no_such_operation", "params": {}},
    }
    answer = kernel.request("/query", body)
    assert answer["response"]["response_class"] == "storage"


def test_decisions_can_be_looked_at_and_rated(kernel: AiosKernel) -> None:
    kernel.query(EASY, agent="rated")
    decision = kernel.request("/eccos/decisions?limit=1")["decisions"][0]
    assert (decision["agent"], decision["core"], decision["outcome"]) == ("rated", "small", "completed")
    assert set(decision["estimates"]) == set(QUOTAS)
    assert decision["text"] is None  # what calls say is not shown unless asked for
    rated = kernel.request("/eccos/feedback", {"call": decision["call"], "quality": 0.5})
    assert rated == {"call": decision["call"], "id": decision["id"], "quality": 0.5}
    for wrong, status in (
        ({"call": 10**9, "quality": 1}, 404),
        ({"call": decision["call"], "quality": 2}, 422),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            kernel.request("/eccos/feedback", wrong)
        assert refused.value.code == status


def test_two_hundred_concurrent_calls_are_answered_within_the_quotas(
    kernel: AiosKernel, cores: dict[str, SandboxCore]
) -> None:
    queries = [EASY if number % 2 else HARD for number in range(200)]
    with ThreadPoolExecutor(200) as agents:
        answers = list(agents.map(lambda q: kernel.query(q), queries))
    assert [answer["status_code"] for answer in answers] == [200] * 200
    assert {
        name: core.max_in_flight for name, core in cores.items() if core.max_in_flight > QUOTAS[name]
    } == {}
    served = Counter(answer["response_message"] for answer in answers)
    assert set(served) == set(QUOTAS)
    assert sum(core.requests for core in cores.values()) == 200
    status = kernel.request("/eccos/status")
    assert status["pending"] == 0
    assert all(core["in_flight"] == 0 for core in status["cores"].values())
    totals = status["totals"]
    assert totals["submitted"] == totals["completed"] + totals["failed"]


def test_a_failing_core_is_made_up_for_by_another(kernel: AiosKernel, cores: dict[str, SandboxCore]) -> None:
    cores["small"].fail("500")
    answer = kernel.query(EASY)
    assert (answer["status_code"], answer["response_message"]) == (200, "medium")


@pytest.mark.aios_long
def test_every_agent_is_answered_when_one_core_fails_and_one_hangs(
    kernel: AiosKernel, cores: dict[str, SandboxCore]
) -> None:
    cores["small"].fail("500")
    cores["medium"].fail("hang")
    named = [[{"name": name, "backend": "vllm"}] for name in ("small", "medium", "large") for _ in range(4)]
    with ThreadPoolExecutor(len(named)) as agents:
        answers = list(agents.map(lambda llms: kernel.query(EASY, llms=llms), named))
    assert [answer["finished"] for answer in answers] == [True] * len(named)
    failing, hanging, healthy = answers[:4], answers[4:8], answers[8:]
    assert all(answer["error"] for answer in failing)
    assert all("call_timeout_s" in answer["error"] for answer in hanging)
    assert [answer["response_message"] for answer in healthy] == ["large"] * 4
    held = kernel.request("/eccos/status")["cores"]["medium"]["in_flight"]
    assert held == QUOTAS["medium"]  # a core that hangs keeps its slots honestly


def test_a_message_that_is_no_text_does_not_end_the_scheduler(kernel: AiosKernel) -> None:
    parts = [
        {"role": "user", "content": [{"type": "text", "text": EASY}, {"type": "image_url", "image_url": {}}]}
    ]
    answer = kernel.query("", messages=parts)
    assert answer["finished"] is True
    answer = kernel.query("", messages=[{"role": "user"}, {"odd": 1}])
    assert answer["finished"] is True
    assert kernel.query(EASY)["status_code"] == 200
