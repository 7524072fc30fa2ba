"""A real AIOS kernel with a store as its history: what calls gave, feedback, refresh, and a clean end."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from eccos_aios.history import CallOutcome, HistoryStore
from eccos_aios.sandbox.aios import AiosKernel
from eccos_aios.sandbox.reply import Reply
from eccos_aios.sandbox.server import SandboxCore

PRICES = {"small": 1.0, "large": 10.0}
INPUT_TOKENS, OUTPUT_TOKENS = 93, 21  # as the cores report them; no count on this side gives these
MANIFEST = json.dumps(
    {
        "cores": [
            {"name": name, "quota": 3, "price": {"input": price, "output": price}}
            for name, price in PRICES.items()
        ]
    }
)
SECTION = {"manifest": "cores.yaml", "history": "history.db", "quality_target": 0.0}
TOKEN = "eight or more"
JSON = "application/json"
HEADERS = {"Content-Type": JSON, "Authorization": f"Bearer {TOKEN}"}
TOOL = {
    "type": "function",
    "function": {"name": "author/lookup", "description": "Look a word up.", "parameters": {"type": "object"}},
}


def reply(request: dict[str, Any]) -> Reply:
    calls = [{"name": "author__lookup", "arguments": {"word": "core"}}] if request.get("tools") else None
    text = None if calls else str(request["model"])
    return Reply(text, calls, output_tokens=OUTPUT_TOKENS, input_tokens=INPUT_TOKENS)


@pytest.fixture(scope="module")
def cores() -> Iterator[dict[str, SandboxCore]]:
    started = {name: SandboxCore(name, reply, latency_s=0.05).start() for name in PRICES}
    yield started
    for core in started.values():
        core.stop()


@pytest.fixture(scope="module")
def kernel(aios: Any, cores: dict[str, SandboxCore]) -> Iterator[AiosKernel]:
    scheduler = {"scheduler_type": "eccos", "eccos": {**SECTION, "token": TOKEN}}

    def open_to_others(_: Path, port: int) -> list[str]:
        return ["-m", "uvicorn", "runtime.launch:app", "--host", "0.0.0.0", "--port", str(port)]

    # One core through OpenAI's client, the other through litellm.
    backends = {"large": "hosted_vllm"}
    with aios.kernel(
        list(cores.values()), scheduler, {"cores.yaml": MANIFEST}, backends=backends, arguments=open_to_others
    ) as running:
        assert running.process.poll() is None, running.text[-3000:]
        yield running


@pytest.fixture(autouse=True)
def _healthy(cores: dict[str, SandboxCore]) -> Iterator[None]:
    yield
    for core in cores.values():
        core.heal()


def path_of(kernel: AiosKernel, name: str = "history.db") -> Path:
    return kernel.folder / "aios" / "config" / name


def outcomes(kernel: AiosKernel, name: str = "history.db") -> list[CallOutcome]:
    return list(HistoryStore(path_of(kernel, name), read_only=True).outcomes())


def outcome_of(kernel: AiosKernel, agent: str) -> CallOutcome:
    """The agent's outcome, on disk; feedback is answered once it is there."""
    kernel.request("/eccos/feedback", {"agent": agent, "quality": 0.5})
    return [outcome for outcome in outcomes(kernel) if outcome.agent == agent][-1]


def refused(kernel: AiosKernel, body: Any) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        kernel.request("/eccos/feedback", body)
    assert json.load(error.value)["error"]
    return error.value.code


@pytest.mark.parametrize(("core", "backend"), [("small", "vllm"), ("large", "hosted_vllm")])
def test_a_call_is_in_the_store_with_the_tokens_of_its_provider(
    kernel: AiosKernel, core: str, backend: str
) -> None:
    answer = kernel.query("what is a core?", agent=f"of {core}", llms=[{"name": core, "backend": backend}])
    assert answer["response_message"] == core
    kept = outcome_of(kernel, f"of {core}")
    assert (kept.core, kept.query, kept.error) == (core, "what is a core?", None)
    assert (kept.input_token_length, kept.output_token_length) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert kept.token_source == "provider"
    assert kept.cost_usd == pytest.approx((INPUT_TOKENS + OUTPUT_TOKENS) * PRICES[core] / 1e6)
    assert kept.latency_s is not None
    assert kept.latency_s >= 0.05
    assert kept.call_id in {decision["id"] for decision in kernel.request("/eccos/decisions")["decisions"]}


def test_feedback_changes_what_is_expected_of_the_core(kernel: AiosKernel) -> None:
    def expected() -> float:
        kernel.query("what is a slot?", agent="learner", llms=[{"name": "small"}])
        newest = kernel.request("/eccos/decisions?limit=1")["decisions"][0]
        return float(newest["estimates"]["small"]["quality"])

    before = expected()
    for _ in range(12):
        kernel.request("/eccos/feedback", {"agent": "learner", "quality": 0.0})
        kernel.query("what is a slot?", agent="learner", llms=[{"name": "small"}])
    learned = kernel.request("/eccos/status")["learning"]["learned"]
    assert learned >= 12
    assert expected() < before - 0.1


def test_tools_are_kept_as_the_agent_wrote_them(kernel: AiosKernel) -> None:
    answer = kernel.query(
        "look it up", agent="with tools", tools=[TOOL], llms=[{"name": "large", "backend": "hosted_vllm"}]
    )
    assert answer["tool_calls"][0]["name"] == "author/lookup"
    kept = outcome_of(kernel, "with tools")
    assert kept.tools == [TOOL]
    assert (kept.output_token_length, kept.token_source) == (OUTPUT_TOKENS, "provider")


def test_a_call_that_failed_has_one_outcome(kernel: AiosKernel, cores: dict[str, SandboxCore]) -> None:
    cores["small"].fail("400")
    answer = kernel.query("bad", agent="unlucky", llms=[{"name": "small", "backend": "vllm"}])
    assert answer["status_code"] == 400
    kept = outcome_of(kernel, "unlucky")
    assert (kept.core, kept.error, kept.cost_usd, kept.token_source) == ("small", "http_400", None, "counted")


def test_feedback_by_id_number_and_agent_lands_in_the_store(kernel: AiosKernel) -> None:
    for number in range(3):
        kernel.query(f"rate me {number}", agent=f"rated {number}")
    ids = {each["agent"]: each for each in kernel.request("/eccos/decisions?limit=3")["decisions"]}
    assert kernel.request("/eccos/feedback", {"call": ids["rated 0"]["id"], "quality": 0.1})["quality"] == 0.1
    assert kernel.request("/eccos/feedback", {"call": ids["rated 1"]["call"], "quality": 0.2}) == {
        "call": ids["rated 1"]["call"],
        "id": ids["rated 1"]["id"],
        "quality": 0.2,
    }
    kernel.request("/eccos/feedback", {"agent": "rated 2", "quality": 0.9})
    kernel.request("/eccos/feedback", {"agent": "rated 2", "quality": 0.3})
    learned = HistoryStore(path_of(kernel), read_only=True).records()
    qualities = {record.query: record.outputs[0].quality for record in learned}
    assert [qualities[f"rate me {number}"] for number in range(3)] == [0.1, 0.2, 0.3]
    assert {each["quality"] for each in kernel.request("/eccos/decisions?limit=3")["decisions"]} == {
        0.1,
        0.2,
        0.3,
    }


def test_wrong_feedback_is_refused(kernel: AiosKernel) -> None:
    kernel.query("rate me", agent="rated")
    for body, status in (
        ({"call": "no-such-id", "quality": 1}, 404),
        ({"call": "\ud800", "quality": 1}, 404),
        ({"call": 10**9, "quality": 1}, 404),
        ({"agent": "nobody", "quality": 1}, 404),
        ({"agent": "rated", "quality": 2}, 422),
        ({"agent": "rated", "quality": "1"}, 422),
        ({"agent": "rated"}, 422),
        ({"agent": "rated", "call": 1, "quality": 1}, 422),
        ({"quality": 1}, 422),
    ):
        assert refused(kernel, body) == status
    broken = urllib.request.Request(kernel.url + "/eccos/feedback", b'{"call": ', HEADERS)
    assert status_of(broken) == 422


def test_feedback_needs_the_token_wherever_it_comes_from(kernel: AiosKernel) -> None:
    kernel.query("rate me", agent="from afar")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's own address
        address = probe.getsockname()[0]
    body = json.dumps({"agent": "from afar", "quality": 1}).encode()
    for host in (address, "127.0.0.1"):
        url = f"http://{host}:{kernel.url.rpartition(':')[2]}/eccos/feedback"
        for token, status in ((None, 401), ("another token", 401), (TOKEN, 200)):
            headers = {**HEADERS, "Authorization": f"Bearer {token}"} if token else {"Content-Type": JSON}
            assert status_of(urllib.request.Request(url, body, headers)) == status


def status_of(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_refresh_and_cleanup_under_load_lose_no_outcome(aios: Any, cores: dict[str, SandboxCore]) -> None:
    scheduler = {"scheduler_type": "eccos", "eccos": SECTION}
    calls = 90

    def settle(kernel: AiosKernel, **changed: Any) -> None:
        path = path_of(kernel, "config.yaml")
        content = yaml.safe_load(path.read_text())
        content["scheduler"]["eccos"].update(changed)
        path.write_text(yaml.safe_dump(content))
        kernel.request("/core/refresh", {})

    router = {"strategy": "eccos"}
    with aios.kernel(list(cores.values()), scheduler, {"cores.yaml": MANIFEST}, router=router) as kernel:
        # The scheduler alone learns from the history: where it runs, AIOS asks no router.
        assert kernel.text.count("learning from") == 1
        with ThreadPoolExecutor(30) as agents:
            answers = [agents.submit(kernel.query, f"question {n}", f"agent {n}") for n in range(calls)]
            answers[10].result()
            kernel.request("/core/refresh", {})
            answers[30].result()
            settle(kernel, history="other.db")
            answers[50].result()
            settle(kernel, history="history.db", store_text=False)
            assert {answer.result()["status_code"] for answer in answers} == {200}
        kernel.request("/core/cleanup", {})
        assert kernel.request("/eccos/status")["history"] == {
            "path": "history.db",
            "recorded": calls,
            "dropped": 0,
        }
        # SQLite takes its log away when the last connection closes.
        assert not path_of(kernel, "history.db-wal").exists()
        assert not path_of(kernel, "other.db-wal").exists()
        kept = [*outcomes(kernel), *outcomes(kernel, "other.db")]
        assert len({outcome.call_id for outcome in kept}) == len(kept) == calls

        settle(kernel, store_text=True)
        assert kernel.query("once more", agent="later")["status_code"] == 200
        assert outcome_of(kernel, "later").query == "once more"
        kernel.stop()
        assert not path_of(kernel, "history.db-wal").exists()


def test_a_store_that_cannot_be_opened_stops_the_start_with_one_line(
    aios: Any, cores: dict[str, SandboxCore]
) -> None:
    scheduler = {"scheduler_type": "eccos", "eccos": SECTION}
    files = {"cores.yaml": MANIFEST, "history.db": "no database at all " * 100}
    with aios.kernel(list(cores.values()), scheduler, files) as kernel:
        assert kernel.process.wait(60) != 0
        (line,) = [line for line in kernel.output if "eccos-aios:" in line]
        assert "history.db: is not a history store" in line
        assert "Traceback" not in kernel.text
