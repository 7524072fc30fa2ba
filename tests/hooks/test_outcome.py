"""What the history keeps of a finished call."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from eccos_aios.core import Core, Price
from eccos_aios.history import CallOutcome
from eccos_aios.hooks import usage
from eccos_aios.hooks.outcome import Answer, SyscallPayload, attempt_outcome, outcome_of
from eccos_aios.hooks.syscall import text_of
from eccos_aios.hooks.usage import listen_to_providers
from eccos_aios.predict import query_text
from eccos_aios.sandbox import LLMQuery, LLMResponse
from eccos_aios.schedule import (
    ANSWERED,
    Attempt,
    Call,
    CallResult,
    CallTimeoutError,
    OutcomeKind,
    Requirements,
    Usage,
)

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
    return Call(
        text_of(query), Requirements(1.0), SyscallPayload.of(syscall), lambda *_: None, agent="tester"
    )


def outcome(query: LLMQuery, result: CallResult) -> CallOutcome:
    return outcome_of(call_of(query), result, CORE, finished_s=7.0)


def answered(message: str, reported: Usage | None = None) -> CallResult:
    return CallResult(
        "small", Answer(LLMResponse(finished=True, response_message=message), reported), service_s=0.5
    )


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


def test_a_call_whose_time_slice_is_over_has_no_outcome_yet() -> None:
    half = Answer(LLMResponse(response_message="half", finished=False))
    call = call_of(LLMQuery(messages=[user("x")]))
    assert outcome_of(call, CallResult("small", half), CORE, finished_s=7.0) is None


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
    response = LLMResponse(finished=True, tool_calls=[{"name": "lookup", "parameters": {"word": "core"}}])
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
        (
            CallResult(
                "small", Answer(LLMResponse(finished=True, error="secret", status_code=503)), failed=True
            ),
            "http_503",
        ),
        (
            CallResult(
                "small",
                Answer(LLMResponse(finished=True, error="Tool call decoding error: x", status_code=500)),
                failed=True,
            ),
            "undecoded",
        ),
        (
            CallResult(
                "small",
                Answer(LLMResponse(finished=True, error="Warning: odd", status_code=200)),
                failed=True,
            ),
            "undecoded",
        ),
    ],
)
def test_an_error_is_kept_as_one_word_and_its_cost_is_unknown(result: CallResult, word: str) -> None:
    kept = outcome(LLMQuery(messages=[user("x")]), result)
    assert kept.error == word
    assert (kept.output_token_length, kept.cost_usd) == (None, None)
    assert "secret" not in repr(kept)


def client(monkeypatch: pytest.MonkeyPatch, completion: Any) -> Any:
    """Stands where AIOS has litellm."""
    module: Any = ModuleType("litellm")
    module.completion = completion
    monkeypatch.setitem(sys.modules, "litellm", module)
    for absent in ("openai", "httpx"):
        monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.setattr(usage, "_wrapped", set())
    listen_to_providers()
    listen_to_providers()
    return module


def message(content: Any = None, finish_reason: str = "stop", **fields: Any) -> SimpleNamespace:
    choice = SimpleNamespace(message=SimpleNamespace(content=content, **fields), finish_reason=finish_reason)
    return SimpleNamespace(choices=[choice], usage=None)


def test_what_a_provider_reports_is_heard_while_a_call_is_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = message("yes")
    answer.usage = SimpleNamespace(prompt_tokens=93, completion_tokens=21)
    litellm = client(monkeypatch, lambda **_: answer)
    assert litellm.completion(model="m") is answer  # nobody listens
    attempt = Attempt("core")
    with attempt.current():
        assert litellm.completion(model="m") is answer
    assert attempt.usage == Usage(93, 21)
    assert attempt.answer == ANSWERED


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (message("yes"), OutcomeKind.ANSWERED),
        (message(None, tool_calls=["a call"]), OutcomeKind.ANSWERED),
        (message(None, "length"), OutcomeKind.NO_ANSWER),
        (message("  \n"), OutcomeKind.NO_ANSWER),
        (message(None, "length", reasoning_content="hm"), OutcomeKind.NO_ANSWER),
        (SimpleNamespace(choices=[], usage=None), OutcomeKind.NO_ANSWER),
        (message("", "content_filter"), OutcomeKind.CORE_UNFIT),
        (message(None, refusal="I will not"), OutcomeKind.CORE_UNFIT),
    ],
)
def test_an_answer_with_nothing_in_it_is_none(
    monkeypatch: pytest.MonkeyPatch, answer: Any, kind: OutcomeKind
) -> None:
    litellm, attempt = client(monkeypatch, lambda **_: answer), Attempt("core")
    with attempt.current():
        litellm.completion()
    as_aios_reads = LLMResponse(
        response_message=str(answer), error=None if kind is ANSWERED.kind else "Warning"
    )
    assert attempt_outcome(attempt, as_aios_reads, with_tools=False).kind is kind


def test_what_a_client_raises_tells_more_than_what_aios_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def completion(**_: Any) -> Any:
        try:
            "\ud83c".encode()
        except UnicodeEncodeError as error:
            raise ConnectionError("litellm has its own words") from error

    litellm, attempt = client(monkeypatch, completion), Attempt("core")
    with attempt.current(), pytest.raises(ConnectionError):
        litellm.completion()
    as_aios_says = LLMResponse(finished=True, error="API Error from model 'core'.", status_code=502)
    assert attempt_outcome(attempt, as_aios_says, with_tools=False).kind is OutcomeKind.CALL_AT_FAULT


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (LLMResponse(finished=True, response_message="yes"), OutcomeKind.ANSWERED),
        (LLMResponse(finished=True, response_message=" "), OutcomeKind.NO_ANSWER),
        (LLMResponse(finished=True, error="Authentication Error", status_code=401), OutcomeKind.CORE_REFUSES),
        (LLMResponse(finished=True, error="Rate Limit Exceeded", status_code=429), OutcomeKind.CORE_BUSY),
        (LLMResponse(finished=True, error="Request Timed Out", status_code=408), OutcomeKind.CORE_SILENT),
        (LLMResponse(finished=True, error="Connection Error", status_code=503), OutcomeKind.CORE_FAILS),
        (
            LLMResponse(finished=True, error="must contain messages", status_code=400),
            OutcomeKind.CALL_AT_FAULT,
        ),
        (
            LLMResponse(finished=True, error="Tool call decoding error: x", status_code=500),
            OutcomeKind.CORE_UNFIT,
        ),
    ],
)
def test_where_no_client_was_seen_aios_words_have_to_do(response: Any, kind: OutcomeKind) -> None:
    assert attempt_outcome(Attempt("core"), response, with_tools=False).kind is kind
