"""Answers that cannot be right fail, and answers that mean the same have the same key."""

from __future__ import annotations

import builtins
import json
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_aios import plugins
from eccos_aios.verify import Answer, Check, Question, check_answer, fails, load_checks
from eccos_aios.verify.normalised import normalised

WEATHER = {
    "name": "weather.get",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 1},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "hours": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["city"],
    },
}
STOP = {"type": "function", "function": {"name": "stop", "parameters": {}}}
TOOLS = Question("What is the weather in Oslo?", (WEATHER, STOP))
CHOICE = Question("Which is the largest?\nA. Mars\nB. Jupiter\nC. Venus")
NUMBER = Question("How many days has a leap year? Answer with just a number.")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
JSON = Question("n?", response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}})


def call(name: str = "weather.get", **arguments: Any) -> Answer:
    return Answer(tool_calls=[{"name": name, "arguments": arguments}])


def key(question: Question, answer: Answer) -> str | None:
    check = check_answer(question, answer)
    assert check.passes, check.reason
    return check.key


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        (TOOLS, Answer(), "empty"),
        (TOOLS, Answer("  \n"), "empty"),
        (TOOLS, Answer("It is", finish_reason="length"), "cut: finish_reason length"),
        (TOOLS, Answer("", finish_reason="content_filter"), "withheld: finish_reason content_filter"),
        (TOOLS, call("climate", city="Oslo"), "tool 'climate' was not offered"),
        (TOOLS, call(days=2), "weather.get: parameter 'city' is missing"),
        (TOOLS, call(city="Oslo", when="now"), "weather.get: parameter 'when' is unknown"),
        (TOOLS, call(city="Oslo", days="two"), "weather.get: parameter 'days': must be of type integer"),
        (TOOLS, call(city="Oslo", days=True), "weather.get: parameter 'days': must be of type integer"),
        (TOOLS, call(city=["Oslo"]), "weather.get: parameter 'city': must be of type string"),
        (TOOLS, call(city="Oslo", unit="K"), "weather.get: parameter 'unit': 'K' is not among its values"),
        (TOOLS, Answer(tool_calls=["weather.get()"]), "a tool call cannot be parsed"),
        (
            TOOLS,
            Answer(tool_calls=[{"function": {"name": "stop", "arguments": "{"}}]),
            "a tool call cannot be parsed",
        ),
        (JSON, Answer('{"n": "one"}'), "does not fit the schema: 'one' is not of type 'integer'"),
        (CHOICE, Answer("I cannot tell."), "states none of the options A to C"),
        (CHOICE, Answer("D"), "states none of the options A to C"),
        (NUMBER, Answer("That depends."), "states no number"),
    ],
)
def test_an_answer_that_cannot_be_right_fails_and_says_why(
    question: Question, answer: Answer, reason: str
) -> None:
    found = check_answer(question, answer)
    assert not found.passes
    assert found.reason == reason
    assert found.key is None


@pytest.mark.parametrize("text", ["Sure: {}", "{'n': 1}", '{"n": NaN}', "[" * 100_000])
def test_json_must_be_all_of_the_answer(text: str) -> None:
    assert check_answer(JSON, Answer(text)).reason.startswith("not JSON")


@pytest.mark.parametrize(
    ("question", "one", "other"),
    [
        (TOOLS, call(city="Oslo"), call("weather_get", city="oslo ", days=1)),
        (TOOLS, call(city="Oslo"), call(city="Oslo", unit=None, hours=[])),
        (TOOLS, call(city="Oslo", days=2), call(city="Oslo", days="2")),
        (TOOLS, call(city="New York", hours=[1, 2]), call(city="new-york", hours=[1.0, 2.0])),
        (
            TOOLS,
            call(city="Oslo"),
            Answer(
                tool_calls=[{"id": "x", "function": {"name": "weather_get", "arguments": '{"city": "Oslo"}'}}]
            ),
        ),
        (
            TOOLS,
            Answer(tool_calls=[{"name": "stop"}, {"name": "weather.get", "arguments": {"city": "Oslo"}}]),
            Answer(tool_calls=[{"name": "weather.get", "arguments": {"city": "Oslo"}}, {"name": "stop"}]),
        ),
        (JSON, Answer('{"n": 1}'), Answer('```json\n{ "n": 1 }\n```')),
        (CHOICE, Answer("B"), Answer("Jupiter is by far the largest.\nThe answer is (B).")),
        (CHOICE, Answer("(b)"), Answer("**B. Jupiter**")),
        (CHOICE, Answer("Answer: B"), Answer(r"So \boxed{\text{B}}")),
        (NUMBER, Answer("366"), Answer("A leap year has 366 days.")),
        (NUMBER, Answer("1,366.0"), Answer("The answer is 1366, not 12.")),
        (Question("When?"), Answer("2024-03-01"), Answer("March 1, 2024.")),
        (Question("Capital of Norway?"), Answer("Oslo."), Answer("oslo")),
    ],
)
def test_answers_that_mean_the_same_agree(question: Question, one: Answer, other: Answer) -> None:
    assert key(question, one) is not None
    assert key(question, one) == key(question, other)


@pytest.mark.parametrize(
    ("question", "one", "other"),
    [
        (TOOLS, call(city="Oslo"), call(city="Bergen")),
        (TOOLS, call(city="Oslo", hours=[1, 2]), call(city="Oslo", hours=[2, 1])),
        (TOOLS, call(city="Oslo"), Answer(tool_calls=[{"name": "stop"}])),
        (JSON, Answer('{"n": 1}'), Answer('{"n": 2}')),
        (CHOICE, Answer("A"), Answer("B")),
        (NUMBER, Answer("0.001"), Answer("0.002")),
        (Question("x"), Answer("+"), Answer("-")),
    ],
)
def test_answers_that_differ_do_not(question: Question, one: Answer, other: Answer) -> None:
    assert key(question, one) != key(question, other)


def test_free_chat_passes_and_agrees_with_nothing() -> None:
    assert (
        key(Question("Tell me a story."), Answer("Once upon a time there was a core.\nIt was cheap.")) is None
    )


def test_an_article_is_no_option() -> None:
    assert not check_answer(CHOICE, Answer("A planet, certainly")).passes


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "stop"}}])
def test_text_fails_only_where_a_call_is_required(choice: Any) -> None:
    text = Answer("It is cold there, as it always is at this time of the year.")
    assert check_answer(TOOLS, text).passes
    assert check_answer(Question("", (WEATHER,), "none", call_expected=True), text).passes
    assert check_answer(Question("", (WEATHER,), choice), text).reason == "no tool call"
    assert check_answer(Question("", (WEATHER,), call_expected=True), text).reason == "no tool call"
    assert check_answer(Question("", call_expected=True), text).passes


def test_a_tool_that_takes_anything_is_not_checked_for_unknown_parameters() -> None:
    assert check_answer(TOOLS, call("stop", why="tired")).passes


@pytest.mark.parametrize("schema", [{"type": "no such type"}, {"$ref": "#/nowhere"}, {"$ref": "http://a/b"}])
def test_a_schema_that_cannot_be_checked_fails_no_answer(schema: dict[str, Any]) -> None:
    question = Question("", response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    assert check_answer(question, Answer("{}")).passes


def test_without_jsonschema_parsing_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *others: Any, **more: Any) -> Any:
        if name.startswith("jsonschema"):
            raise ModuleNotFoundError(name)
        return real(name, *others, **more)

    monkeypatch.delitem(sys.modules, "jsonschema", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert check_answer(JSON, Answer('{"n": "one"}')).passes
    assert not check_answer(JSON, Answer("one")).passes


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_values)
def test_every_value_has_one_form_and_keeps_it_through_json(value: Any) -> None:
    assert normalised(value) == normalised(json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_no_answer_breaks_a_check(value: Any, other: Any) -> None:
    answers = [Answer(tool_calls=[value]), Answer(json.dumps(value)), call(city=value, days=other)]
    questions = [TOOLS, JSON, CHOICE, NUMBER, Question("", ({"name": "weather.get", "parameters": value},))]
    for question in questions:
        for answer in answers:
            check_answer(question, answer)


class NoApology(Check):
    def check(self, question: Question, answer: Answer) -> Any:
        return fails("apologises") if "sorry" in (answer.text or "") else check_answer(question, answer, ())


def test_another_package_declares_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def declared(group: str) -> list[EntryPoint]:
        assert group == "eccos_aios.checks"
        return [EntryPoint("no_apology", f"{__name__}:NoApology", group)]

    monkeypatch.setattr(plugins, "entry_points", declared)
    assert plugins.names("checks")[-1] == "no_apology"
    checks = load_checks(["complete", "no_apology"])
    assert check_answer(Question(""), Answer("I am sorry"), checks).reason == "apologises"
