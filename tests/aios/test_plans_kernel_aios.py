"""A real AIOS kernel: three cores that give recorded tool calls, two of which must agree or a third decides."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from eccos_aios.history import HistoryStore, Outcome, Record
from eccos_aios.sandbox.reply import Reply, last_user_text
from eccos_aios.sandbox.server import SandboxCore

RECORDS, CALLS = 240, 30
GRADED = 60  # records without answers
PATIENCE_S = 300.0  # a fit has a low priority, and the machine may be busy
PRICES = {"one": 1.0, "two": 1.2, "three": 40.0}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather/today",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
ASKED = "What is the weather in "


def answer_of(core: str, city: str) -> dict[str, Any]:
    """Two cheap cores err often, each in its own way, whatever the question looks like."""
    knows = core == "three" or random.Random(f"{core} {city}").random() < 0.7
    return {"name": "weather/today", "arguments": {"city": city if knows else f"{core} of {city}"}}


def replying(core: str, answer: Callable[[str, str], dict[str, Any]] = answer_of) -> SandboxCore:
    def reply(request: dict[str, Any]) -> Reply:
        city = last_user_text(request["messages"]).removeprefix(ASKED).rstrip("?")
        call = answer(core, city)
        # as AIOS renames the tools that it sends
        return Reply(None, [{**call, "name": request["tools"][0]["function"]["name"]}])

    return SandboxCore(core, reply)


def manifest() -> str:
    cores = [
        {"name": name, "quota": 3, "price": {"input": price, "output": price}}
        for name, price in PRICES.items()
    ]
    return json.dumps({"cores": cores})


def history() -> str:
    lines = []
    for number in range(RECORDS):
        city = f"town {number}"
        outputs = [
            {
                "model_name": core,
                "correctness": answer_of(core, city) == answer_of("three", city),
                "prediction": [answer_of(core, city)],
                "input_token_length": 20,
                "output_token_length": 20,
            }
            for core in PRICES
        ]
        lines.append(json.dumps({"query": f"{ASKED}{city}?", "tools": [TOOL], "outputs": outputs}))
    return "\n".join(lines)


def test_every_agent_gets_one_answer_and_the_decision_shows_the_stages(aios: Any) -> None:
    section = {
        "manifest": "cores.yaml",
        "history": "history.jsonl",
        "quality_target": 0.9,
        "plans": "agree",
        "max_calls_per_query": 3.0,
    }
    files = {"cores.yaml": manifest(), "history.jsonl": history()}
    cities = [f"new town {number}" for number in range(CALLS)]
    cores = [replying(name).start() for name in PRICES]

    def ask(kernel: Any, city: str) -> Any:
        messages = [{"role": "user", "content": f"{ASKED}{city}?"}]
        return kernel.query("", messages=messages, tools=[TOOL])

    try:
        with (
            aios.kernel(
                cores,
                {"scheduler_type": "eccos", "eccos": section},
                files,
                # AIOS decodes no tool calls of its OpenAI client, which ``vllm`` uses
                backends=dict.fromkeys(PRICES, "hosted_vllm"),
            ) as kernel,
            ThreadPoolExecutor(8) as agents,
        ):
            responses = list(agents.map(lambda city: ask(kernel, city), cities))
            decisions = kernel.request(f"/eccos/decisions?limit={CALLS}")["decisions"]
            totals = kernel.request("/eccos/status")["totals"]
    finally:
        for core in cores:
            core.stop()
    assert [response["error"] for response in responses] == [None] * CALLS
    given = [response["tool_calls"][0] for response in responses]
    right = sum(got["parameters"]["city"] == city for got, city in zip(given, cities, strict=True)) / CALLS
    alone = sum(answer_of("one", city) == answer_of("three", city) for city in cities) / CALLS
    assert right > alone
    staged = [decision for decision in decisions if decision["plan"]["kind"] == "agree"]
    assert staged
    for decision in staged:
        assert next(stage["core"] for stage in decision["stages"]) in decision["plan"]["cores"]
        assert all(stage["passes"] and stage["cost"] and stage["seconds"] for stage in decision["stages"])
        assert decision["core"] in {stage["core"] for stage in decision["stages"]}
    assert totals["completed"] == CALLS
    assert sum(core.requests for core in cores) == CALLS + totals["extra_calls"]
    assert all(core.max_in_flight <= 3 for core in cores)


def nearly_right(core: str, city: str) -> dict[str, Any]:
    """The cheap cores err one time in ten, each in its own way."""
    knows = core == "three" or random.Random(f"{core} {city}").random() < 0.9
    return {"name": "weather/today", "arguments": {"city": city if knows else f"{core} of {city}"}}


def grades() -> list[Record]:
    """A history as a kernel without plans leaves it: who was right, and no answers."""
    cities = [f"town {number}" for number in range(GRADED)]
    return [
        Record(
            query=f"{ASKED}{city}?",
            tools=[TOOL],
            outputs=tuple(
                Outcome(
                    model_name=core,
                    correctness=nearly_right(core, city)["arguments"]["city"] == city,
                    input_token_length=20,
                    output_token_length=20,
                )
                for core in PRICES
            ),
        )
        for city in cities
    ]


def test_without_recorded_answers_plans_are_explored_learned_and_used(aios: Any) -> None:
    section = {
        "manifest": "cores.yaml",
        "history": "history.db",
        "quality_target": 0.97,
        "plans": "agree",
        "explore_plans": 0.5,
        "max_calls_per_query": 3.0,
    }
    cores = [replying(name, nearly_right).start() for name in PRICES]

    def remember(folder: Path) -> None:
        with HistoryStore(folder / "aios" / "config" / "history.db") as store:
            store.extend(grades())

    def ask_and_grade(kernel: Any, city: str) -> None:
        response = kernel.query(f"{ASKED}{city}?", city, tools=[TOOL])
        right = response["tool_calls"][0]["parameters"]["city"] == city
        kernel.request("/eccos/feedback", {"agent": city, "quality": float(right)})

    try:
        with (
            aios.kernel(
                cores,
                {"scheduler_type": "eccos", "eccos": section},
                {"cores.yaml": manifest()},
                change=remember,
                backends=dict.fromkeys(PRICES, "hosted_vllm"),
            ) as kernel,
            ThreadPoolExecutor(4) as agents,
        ):
            chosen, give_up = 0, time.monotonic() + PATIENCE_S
            for batch in count():
                cities = [f"new town {batch} {number}" for number in range(CALLS)]
                list(agents.map(partial(ask_and_grade, kernel), cities))
                totals = kernel.request("/eccos/status")["totals"]
                several = totals["plans"]["check"] + totals["plans"]["agree"]
                chosen = several - totals["reasons"].get("exploration", 0)
                if chosen >= CALLS // 3 or time.monotonic() > give_up:
                    break
    finally:
        for core in cores:
            core.stop()
    assert totals["reasons"]["exploration"] > 0
    assert chosen >= CALLS // 3  # by the optimiser
    assert all(core.max_in_flight <= 3 for core in cores)
