"""Plans of several cores on the embedded kernel: a history's answers, stages, one response, the store."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.config import EccosConfig
from eccos_aios.history import CallOutcome, HistoryStore, Outcome, Record
from eccos_aios.hooks import EccosScheduler
from eccos_aios.hooks.question import question_of
from eccos_aios.runtime.prometheus import exposition
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, SandboxCore, error_response
from eccos_aios.sandbox.reply import Reply, last_user_text

WAIT_S = 20.0
RECORDS = 240
PRICES = {"one": 1.0, "two": 1.2, "three": 40.0}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def right(city: str) -> list[dict[str, Any]]:
    return [{"name": "weather", "arguments": {"city": city}}]


def answer_of(core: str, city: str) -> list[dict[str, Any]]:
    """Two cheap cores err often, each in its own way, whatever the question looks like."""
    draw = random.Random(f"{core} {city}").random()
    return right(city) if core == "three" or draw < 0.7 else right(f"{core} of {city}")


def text_of(city: str) -> str:
    return f"What is the weather in {city}?"


def history(path: Path, store: bool = False) -> Path:
    records = []
    for number in range(RECORDS):
        city = f"town {number}"
        outputs = []
        for core in PRICES:
            given = answer_of(core, city)
            outputs.append(
                Outcome(
                    model_name=core,
                    quality=float(given == right(city)),
                    prediction=given,
                    input_token_length=20,
                    output_token_length=20,
                )
            )
        records.append(Record(query=text_of(city), tools=[TOOL], outputs=tuple(outputs)))
    if store:
        with HistoryStore(path) as opened:
            opened.extend(records)
    else:
        path.write_text("".join(record.model_dump_json() + "\n" for record in records))
    return path


def replying(core: str) -> SandboxCore:
    def reply(request: dict[str, Any]) -> Reply:
        city = last_user_text(request["messages"]).removeprefix("What is the weather in ").rstrip("?")
        return Reply(None, answer_of(core, city))

    return SandboxCore(core, reply)


@pytest.fixture
def cores() -> Iterator[list[SandboxCore]]:
    with replying("one") as one, replying("two") as two, replying("three") as three:
        yield [one, two, three]


@pytest.fixture
def config(tmp_path: Path) -> EccosConfig:
    manifest = [
        {"name": name, "quota": 2, "price": {"input": price, "output": price}}
        for name, price in PRICES.items()
    ]
    (tmp_path / "cores.yaml").write_text(json.dumps({"cores": manifest}))
    return EccosConfig(
        manifest=tmp_path / "cores.yaml",
        history=history(tmp_path / "history.jsonl"),
        quality_target=0.9,
        plans="agree",
        max_calls_per_query=3.0,
        grace_s=0.2,
        call_timeout_s=10.0,
    )


def kernel_of(cores: list[SandboxCore], config: EccosConfig) -> EmbeddedKernel:
    def make(**params: Any) -> EccosScheduler:
        return EccosScheduler(**params, config=config, response=error_response)

    return EmbeddedKernel(cores, make, query_threads=32)


def ask(kernel: EmbeddedKernel, cities: list[str]) -> list[Any]:
    queries = [
        LLMQuery(messages=[{"role": "user", "content": text_of(city)}], tools=[json.loads(json.dumps(TOOL))])
        for city in cities
    ]
    futures = [kernel.query("agent", query) for query in queries]
    return [future.result(WAIT_S)["response"] for future in futures]


CITIES = [f"new town {number}" for number in range(40)]


def test_agents_get_one_answer_each_where_two_cores_agree_or_a_third_decides(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    with kernel_of(cores, config) as kernel:
        responses = ask(kernel, CITIES)
        scheduler: Any = kernel.scheduler
        service = scheduler.service
        decisions = service.scheduler.decisions()
        status = service.status()
        metrics = exposition(status, service.scheduler.histograms())[0].decode()
    assert not any(response.error for response in responses)
    given = [response.tool_calls[0]["parameters"]["city"] for response in responses]
    agreed = sum(got == city for got, city in zip(given, CITIES, strict=True)) / len(CITIES)
    alone = sum(answer_of("one", city) == right(city) for city in CITIES) / len(CITIES)
    assert agreed > alone + 0.1
    staged = [decision for decision in decisions if len(decision.stages) > 1]
    assert staged
    for decision in staged:
        assert decision.plan["kind"] in ("check", "agree")
        assert all(stage["passes"] and stage["cost"] > 0 for stage in decision.stages)
    totals: Any = status["totals"]
    assert totals["completed"] == len(CITIES)
    assert totals["plans"]["agree"] > 0
    assert totals["extra_calls"] == sum(core.requests for core in cores) - len(CITIES)
    assert all(core.max_in_flight <= 2 for core in cores)
    assert 'eccos_plans_total{kind="agree"}' in metrics
    assert f"eccos_extra_calls_total {float(totals['extra_calls'])}" in metrics


@pytest.mark.parametrize("changed", [{"plans": "off"}, {"max_calls_per_query": 1.0}], ids=str)
def test_without_plans_every_call_has_one_core(
    cores: list[SandboxCore], config: EccosConfig, changed: dict[str, Any]
) -> None:
    with kernel_of(cores, config.model_copy(update=changed)) as kernel:
        responses = ask(kernel, CITIES[:6])
    assert not any(response.error for response in responses)
    assert sum(core.requests for core in cores) == 6


def test_calls_that_may_be_suspended_have_one_core(cores: list[SandboxCore], config: EccosConfig) -> None:
    with kernel_of(cores, config) as kernel:
        kernel.llm.use_context_manager = True  # type: ignore[attr-defined]
        ask(kernel, CITIES[:4])
        scheduler: Any = kernel.scheduler
        decisions = scheduler.service.scheduler.decisions()
    assert [decision.plan["kind"] for decision in decisions] == ["single"] * 4
    assert sum(core.requests for core in cores) == 4


def test_every_stage_is_in_the_store_and_a_grade_goes_to_the_answer_that_was_given(
    cores: list[SandboxCore], config: EccosConfig, tmp_path: Path
) -> None:
    config = config.model_copy(update={"history": history(tmp_path / "history.db", store=True)})
    with kernel_of(cores, config) as kernel:
        ask(kernel, CITIES[:12])
        scheduler: Any = kernel.scheduler
        decisions = scheduler.service.scheduler.decisions()
        staged = next(decision for decision in decisions if len(decision.stages) > 1)
        scheduler.give_quality(0.25, call=staged.id)
        learner = scheduler.service.learner
        assert learner.settle(WAIT_S)
    with HistoryStore(tmp_path / "history.db", read_only=True) as store:
        outcomes: list[CallOutcome] = list(store.outcomes())
    mine = [outcome for outcome in outcomes if outcome.call_id.split("/")[0] == staged.id]
    assert sorted(outcome.core for outcome in mine) == sorted(stage["core"] for stage in staged.stages)
    (given,) = (outcome for outcome in mine if outcome.call_id == staged.id)
    assert (given.core, given.quality) == (staged.core, 0.25)
    for outcome in mine:  # an equal answer is as good; of others the grade tells nothing
        same = outcome.answer_key == given.answer_key is not None
        assert outcome.quality == (0.25 if same else 0.0 if not outcome.answer_passes else None)
    assert all(outcome.answer_passes and outcome.answer_key and outcome.cost_usd for outcome in mine)


def test_a_question_is_what_the_user_asked_last() -> None:
    asked = LLMQuery(messages=[{"role": "user", "content": "first"}, {"role": "user", "content": "last"}])
    found = question_of(asked, (TOOL,), call_expected=True)
    assert found is not None
    assert (found.text, found.tools, found.call_expected) == ("last", (TOOL,), True)
    after_a_tool = LLMQuery(
        messages=[{"role": "user", "content": "go"}, {"role": "tool", "content": "12 degrees"}]
    )
    found = question_of(after_a_tool, (TOOL,), call_expected=True)
    assert found is not None
    assert not found.call_expected
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    assert question_of(LLMQuery(messages=[{"role": "user", "content": picture}]), ()) is None
    as_json = LLMQuery(messages=[{"role": "user", "content": "go"}], message_return_type="json")
    found = question_of(as_json, ())
    assert found is not None
    assert found.response_format == {"type": "json_object"}
