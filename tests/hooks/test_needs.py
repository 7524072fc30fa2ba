"""A kernel sends a call to no core that cannot take it, and a call that no core can be sent to none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.config import EccosConfig
from eccos_aios.hooks import EccosScheduler
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, LLMResponse, SandboxCore, error_response

WAIT_S = 20.0


@contextmanager
def kernel(
    folder: Path, cores: list[SandboxCore], cheap: dict[str, Any], **config: Any
) -> Iterator[EmbeddedKernel]:
    """The first core the cheap one, with this manifest entry; the second dear and without limits."""
    manifest = [
        {"name": cores[0].name, "price": {"input": 0.1, "output": 0.1}, **cheap},
        {"name": cores[1].name, "price": {"input": 5, "output": 5}},
    ]
    (folder / "cores.yaml").write_text(json.dumps({"cores": manifest}))
    made = EccosConfig(manifest=folder / "cores.yaml", quality_target=0.0, grace_s=0.2, **config)
    with EmbeddedKernel(cores, partial(EccosScheduler, config=made, response=error_response)) as started:
        yield started


def ask(started: EmbeddedKernel, content: Any, **query: Any) -> LLMResponse:
    asked = LLMQuery(messages=[{"role": "user", "content": content}], **query)
    response: LLMResponse = started.query("agent", asked).result(WAIT_S)["response"]
    return response


FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "JVBERi0x" * 50_000}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}


@pytest.mark.parametrize(
    ("content", "query", "cheap"),
    [
        ("请把这份租房合同逐条改写成普通人能看懂的话并指出对租客不利的地方。" * 200, {}, {"context_window": 4096}),
        ("3f9a0c7e" * 800, {"max_new_tokens": 100}, {"context_window": 4096}),
        ("word " * 3100, {"max_new_tokens": 2000}, {"context_window": 4096}),
        ("hello", {}, {"context_window": 1000}),
        ([FILE, {"type": "text", "text": "summarise"}], {}, {"supports": ["tools", "json", "vision"]}),
        ([FILE, {"type": "text", "text": "summarise"}], {}, {"context_window": 2048}),
        ([SOUND], {}, {"supports": ["tools", "json", "vision", "files"]}),
        ([{"type": "hologram"}], {}, {"supports": ["tools", "json", "vision", "audio"]}),
    ],
)  # fmt: skip
def test_a_call_that_a_core_cannot_take_goes_to_the_one_that_can(
    tmp_path: Path, cores: list[SandboxCore], content: Any, query: dict[str, Any], cheap: dict[str, Any]
) -> None:
    with kernel(tmp_path, cores, cheap) as started:
        assert ask(started, content, **query).error is None
        assert ask(started, "hello", max_new_tokens=5).error is None  # which the cheap core can take
    assert [core.requests for core in cores] == [1, 1]


def test_a_call_that_fits_nowhere_is_told_what_room_it_wants(
    tmp_path: Path, cores: list[SandboxCore]
) -> None:
    with kernel(tmp_path, cores, {"context_window": 1024}) as started:
        response = ask(started, "word " * 100, llms=[{"name": "small"}])
    assert response.status_code == 400
    assert "and an answer of 1000 exceed its context window of 1024" in str(response.error)


@pytest.mark.parametrize(
    "content",
    [
        "half \ud83d a pair",
        [{"type": "image_url", "image_url": {}}],
        [{"type": "text", "text": {"a", "set"}}],
    ],
)
def test_what_cannot_be_sent_is_answered_at_once_and_no_core_is_asked(
    tmp_path: Path, cores: list[SandboxCore], content: Any
) -> None:
    with kernel(tmp_path, cores, {}) as started:
        responses = [ask(started, content) for _ in range(6)]
        assert ask(started, "a plain call of another agent").error is None
        status: Any = started.scheduler.status()  # type: ignore[attr-defined]
    assert {response.status_code for response in responses} == {400}
    assert "messages[0].content" in str(responses[0].error)
    assert [core.requests for core in cores] == [1, 0]
    assert {core["state"] for core in status["cores"].values()} == {"ok"}


def test_unrelated_first_turns_are_not_bound_to_one_core(tmp_path: Path, cores: list[SandboxCore]) -> None:
    for core in cores:
        core.latency_s = 0.1
    alike = {"price": {"input": 5, "output": 5}, "quota": 2}
    with kernel(tmp_path, cores, alike, affinity="strict", max_wait_s=0.0) as started:
        ask(started, "hi")
        with ThreadPoolExecutor(8) as agents:
            assert {answer.error for answer in agents.map(lambda _: ask(started, "hi"), range(8))} == {None}
    assert min(core.requests for core in cores) > 1


def test_a_conversation_keeps_to_its_core_from_the_second_turn_on(
    tmp_path: Path, cores: list[SandboxCore]
) -> None:
    messages = [{"role": "user", "content": "hi"}]
    with kernel(tmp_path, cores, {}, affinity="strict") as started:
        for turn in range(5):
            # The second turn is sent to the dear core; what follows stays there, although the other is cheaper.
            named = [{"name": "large"}] if turn == 1 else None
            query = LLMQuery(messages=messages, llms=named)
            response = started.query("agent", query).result(WAIT_S)["response"]
            messages = [
                *messages,
                {"role": "assistant", "content": response.response_message},
                {"role": "user", "content": f"question {turn}"},
            ]
    assert [core.requests for core in cores] == [1, 4]


def test_many_calls_over_one_core_degrade_no_round(tmp_path: Path) -> None:
    with SandboxCore("only") as only:
        (tmp_path / "cores.yaml").write_text("cores: [{name: only, quota: 4}]")
        config = EccosConfig(manifest=tmp_path / "cores.yaml", quality_target=0.0, grace_s=0.2)
        made = partial(EccosScheduler, config=config, response=error_response)
        only.latency_s = 0.02
        with EmbeddedKernel([only], made, 100) as started, ThreadPoolExecutor(90) as agents:
            assert {answer.error for answer in agents.map(lambda n: ask(started, f"q {n}"), range(90))} == {
                None
            }
            status: Any = started.scheduler.status()  # type: ignore[attr-defined]
    assert status["totals"]["degraded_rounds"] == 0
