"""What the history keeps of a finished call."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from eccos_aios.core import Core, Price
from eccos_aios.history import CallOutcome
from eccos_aios.hooks import usage
from eccos_aios.hooks.outcome import Answer, Asked, outcome_of
from eccos_aios.hooks.syscall import text_of
from eccos_aios.hooks.usage import Usage, listen_to_providers, provider_reports
from eccos_aios.predict import query_text
from eccos_aios.sandbox import LLMQuery, LLMResponse
from eccos_aios.schedule import Call, CallResult, CallTimeoutError, Needs

CORE = Core(name="small", price=Price(input=1, output=10))


def tool() -> dict[str, Any]:
    properties = {"word": {"type": "string"}}
    return {
        "type": "function",
        "function": {
            "name": "author/lookup",
            "description": "Look a word up.",
            "parameters": {"properties": properties},
        },
    }


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call_of(query: LLMQuery) -> Call:
    syscall: Any = SimpleNamespace(query=query)
    return Call(text_of(query), Needs(1.0), Asked.by(syscall), lambda *_: None, agent="tester")


def outcome(query: LLMQuery, result: CallResult) -> CallOutcome:
    return outcome_of(call_of(query), result, CORE, finished_s=7.0)


def answered(message: str, reported: Usage | None = None) -> CallResult:
    return CallResult("small", Answer(LLMResponse(response_message=message), reported), service_s=0.5)


@pytest.mark.parametrize(
    "messages",
    [
        [user("what is a core?")],
        [user("  first ")],
        [
            {"role": "system", "content": "be brief"},
            user("one"),
            {"role": "assistant", "content": "two"},
            user("three"),
        ],
        [user("long " * 3000)],
        [
            user(
                [
                    {"type": "text", "text": "parts"},
                    {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
                ]
            )
        ],
        [{"role": "system", "content": "no user at all"}],
        [user("a tool's mark \n\x1f in the text")],
        [user("")],
    ],
)
@pytest.mark.parametrize("tools", [[], [tool(), tool()]])
def test_what_is_kept_gives_stage_1_the_same_text_again(messages: Any, tools: Any) -> None:
    query = LLMQuery(messages=messages, tools=tools)
    call = call_of(query)
    for each in query.tools or ():
        each["function"]["name"] = each["function"]["name"].replace("/", "__")  # as AIOS does before it sends
    kept = outcome_of(call, answered("yes"), CORE, finished_s=7.0)
    assert query_text(kept.query, kept.tools).text == call.text.text


def test_tokens_that_nobody_reported_are_counted_and_marked() -> None:
    kept = outcome(LLMQuery(messages=[user("x" * 40)]), answered("y" * 10))
    assert (kept.input_token_length, kept.output_token_length, kept.token_source) == (11, 4, "counted")
    assert kept.cost_usd == pytest.approx((11 * 1 + 4 * 10) / 1e6)
    assert (kept.agent, kept.core, kept.latency_s, kept.finished_s, kept.error) == (
        "tester",
        "small",
        0.5,
        7.0,
        None,
    )


def test_the_tokens_of_a_tool_call_count() -> None:
    response = LLMResponse(tool_calls=[{"name": "lookup", "parameters": {"word": "core"}}])
    kept = outcome(LLMQuery(messages=[user("x")]), CallResult("small", Answer(response)))
    assert kept.output_token_length is not None
    assert kept.output_token_length > 5


def test_tokens_of_the_provider_count_and_cost() -> None:
    kept = outcome(LLMQuery(messages=[user("x" * 40)]), answered("y", Usage(93, 21)))
    assert (kept.input_token_length, kept.output_token_length, kept.token_source) == (93, 21, "provider")
    assert kept.cost_usd == pytest.approx((93 * 1 + 21 * 10) / 1e6)


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (CallResult("small", error=CallTimeoutError("secret"), failed=True), "CallTimeoutError"),
        (CallResult("small", error=TimeoutError("secret"), failed=True), "TimeoutError"),
        (CallResult("small", Answer(LLMResponse(error="secret", status_code=503)), failed=True), "http_503"),
        (
            CallResult(
                "small",
                Answer(LLMResponse(error="Tool call decoding error: x", status_code=500)),
                failed=True,
            ),
            "undecoded",
        ),
        (
            CallResult("small", Answer(LLMResponse(error="Warning: odd", status_code=200)), failed=True),
            "undecoded",
        ),
    ],
)
def test_an_error_is_kept_as_one_word_and_its_cost_is_unknown(result: CallResult, word: str) -> None:
    kept = outcome(LLMQuery(messages=[user("x")]), result)
    assert kept.error == word
    assert (kept.output_token_length, kept.cost_usd) == (None, None)
    assert "secret" not in repr(kept)


def client(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Any:
    """Stands where AIOS has litellm."""
    module: Any = ModuleType("litellm")
    module.completion = lambda **_: answer
    monkeypatch.setitem(sys.modules, "litellm", module)
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.setattr(usage, "_wrapped", set())
    listen_to_providers()
    listen_to_providers()
    return module


def test_what_a_provider_reports_is_heard_while_a_call_is_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = SimpleNamespace(usage=SimpleNamespace(prompt_tokens=93, completion_tokens=21))
    litellm = client(monkeypatch, reported)
    assert litellm.completion(model="m") is reported  # nobody listens
    with provider_reports() as reports:
        assert litellm.completion(model="m") is reported
    assert reports.last == Usage(93, 21)
    with provider_reports() as reports:
        pass
    assert reports.last is None


@pytest.mark.parametrize(
    "odd", [None, SimpleNamespace(prompt_tokens=5), SimpleNamespace(prompt_tokens="5", completion_tokens=-1)]
)
def test_a_report_that_makes_no_sense_is_none(monkeypatch: pytest.MonkeyPatch, odd: Any) -> None:
    litellm = client(monkeypatch, SimpleNamespace(usage=odd))
    with provider_reports() as reports:
        litellm.completion()
    assert reports.last is None
