"""What is read from AIOS's syscalls: conversations, needs, and what cannot be sent to any core."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from eccos_aios.errors import QueryError
from eccos_aios.hooks.syscall import answered_conversation, conversation_of, needs_of, status_code_of, text_of
from eccos_aios.sandbox import LLMQuery
from eccos_aios.schedule.affinity import Affinity

Messages = list[dict[str, Any]]
SYSTEM = {"role": "system", "content": "You are terse."}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def syscall(messages: Messages, agent: str = "agent") -> Any:
    return SimpleNamespace(agent_name=agent, query=LLMQuery(messages=messages))


def test_a_first_turn_belongs_to_no_conversation() -> None:
    for messages in ([user("hi")], [SYSTEM, user("hi")], [SYSTEM]):
        assert conversation_of(syscall(messages)) is None


def test_each_turn_from_the_third_finds_the_core_of_the_one_before() -> None:
    affinity, messages = Affinity(), [SYSTEM, user("hi")]
    found = []
    for turn in range(1, 6):
        call = syscall(messages)
        found.append(affinity.core_of(conversation_of(call)))
        affinity.served(conversation_of(call), f"core {turn}")
        messages = [*messages, assistant(f"answer {turn}"), user(f"question {turn}")]
    assert found == [None, None, "core 2", "core 3", "core 4"]


def test_a_second_turn_finds_the_core_of_the_first_where_its_answer_is_remembered() -> None:
    affinity = Affinity()
    for number in range(12):
        affinity.served(answered_conversation(syscall([user("hi")]), f"hello {number}"), f"core {number}")
    second = syscall([user("hi"), assistant("hello 7"), user("and now?")])
    assert affinity.core_of(conversation_of(second)) == "core 7"


def test_tool_calls_and_their_results_go_on_with_a_conversation() -> None:
    affinity = Affinity()
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "42"}
    messages = [user("what?"), called, result]
    affinity.served(conversation_of(syscall(messages)), "a")
    assert affinity.core_of(conversation_of(syscall([*messages, assistant("42"), user("sure?")]))) == "a"
    other = [user("what?"), called, {**result, "content": "43"}]
    assert affinity.core_of(conversation_of(syscall([*other, assistant("42"), user("sure?")]))) is None


@pytest.mark.parametrize(
    ("messages", "agent"),
    [
        ([{**SYSTEM, "content": "You are kind."}, user("hi"), assistant("a"), user("b")], "agent"),
        ([SYSTEM, user("hi"), assistant("a"), user("b")], "another agent"),
        ([SYSTEM, user("hi"), assistant("other"), user("b")], "agent"),
        ([user("hi"), assistant("a"), user("b")], "agent"),
    ],
)
def test_another_agent_system_prompt_or_answer_is_another_conversation(
    messages: Messages, agent: str
) -> None:
    affinity, known = Affinity(), [SYSTEM, user("hi"), assistant("a"), user("b")]
    affinity.served(conversation_of(syscall(known)), "a")
    grown = [assistant("c"), user("d")]
    assert affinity.core_of(conversation_of(syscall([*known, *grown]))) == "a"
    assert affinity.core_of(conversation_of(syscall([*messages, *grown], agent))) is None


def test_calls_with_the_same_examples_are_no_conversation() -> None:
    affinity, examples = Affinity(), [user("1+1"), assistant("2"), user("2+2"), assistant("4")]
    for number in range(5):
        call = syscall([*examples, user(f"{number}+{number}")])
        assert affinity.core_of(conversation_of(call)) is None
        affinity.served(conversation_of(call), "a")


def test_marks_for_a_cache_do_not_make_another_conversation() -> None:
    def marked(at: int) -> Messages:
        said = ["one", "two", "three", "four"]
        parts = [{"type": "text", "text": text} for text in said]
        parts[at]["cache_control"] = {"type": "ephemeral"}  # type: ignore[assignment]
        return [(user, assistant)[place % 2]([part]) for place, part in enumerate(parts)]

    affinity = Affinity()
    affinity.served(conversation_of(syscall(marked(2)[:3])), "a")
    assert affinity.core_of(conversation_of(syscall([*marked(0), user("five")]))) == "a"


def needs(query: LLMQuery) -> Any:
    return needs_of(query, text_of(query), frozenset({"a", "b"}))


def test_a_call_needs_room_for_its_answer() -> None:
    assert needs(LLMQuery(messages=[user("q")], max_new_tokens=2000)).answer_tokens == 2000
    assert needs(LLMQuery(messages=[user("q")])).answer_tokens == 1000  # what AIOS asks for by default
    assert needs(LLMQuery(messages=[user("q")], max_new_tokens=-5)).answer_tokens == 0


def test_a_call_needs_what_its_messages_tools_and_answer_ask_for() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://host/a.png"}}
    query = LLMQuery(messages=[user([picture])], tools=[{"type": "function", "function": {"name": "f"}}])
    assert needs(query).abilities == {"vision", "tools"}
    assert needs(LLMQuery(messages=[user("q")], message_return_type="json")).abilities == {"json"}
    named = LLMQuery(messages=[user("q")], llms=[{"name": "b"}])
    assert (needs(named).cores, needs(LLMQuery(messages=[user("q")])).cores) == ({"b"}, {"a", "b"})


def test_a_schema_of_the_answer_takes_room() -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"description": "word " * 500}}}
    query = {"messages": [user("q")], "message_return_type": "json"}
    plain, with_schema = needs(LLMQuery(**query)), needs(LLMQuery(**query, response_format=schema))
    assert with_schema.input_tokens > plain.input_tokens + 450
    assert with_schema.expected_tokens == plain.expected_tokens


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


HALF, SECRET = "\ud83d", "my secret"
TOOL = {"type": "function", "function": {"name": "f", "description": "Adds."}}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"messages": [user("hi"), user(f"{SECRET} {HALF}")]}, "messages[1].content: holds half a surrogate pair"),
        ({"messages": [user([{"type": "text", "text": HALF}])]}, "messages[0].content[0].text: holds half"),
        ({"messages": [{**user("hi"), "name": HALF}]}, "messages[0].name: holds half"),
        ({"messages": [{**user("hi"), HALF: 1}]}, "messages[0]: holds half"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": HALF}}]}]}, "messages[0].tool_calls[0].function.arguments: holds half"),
        ({"messages": [user("hi")], "tools": [{**TOOL, "function": {"name": "f", "description": HALF}}]}, "tools[0].function.description: holds half"),
        ({"messages": [user("hi")], "response_format": {"type": HALF}}, "response_format.type: holds half"),
        ({"messages": [user("hi")], "temperature": float("nan")}, "temperature: cannot be sent: Out of range"),
        ({"messages": [user([{"type": "text", "text": "a", "weight": float("inf")}])]}, "messages[0].content[0].weight: cannot be sent"),
        ({"messages": [user({SECRET})]}, "messages[0].content: cannot be sent: JSON has no set"),
        ({"messages": [user(SECRET.encode())]}, "messages[0].content: cannot be sent: JSON has no bytes"),
        ({"messages": [user(deep(100_000))]}, "is nested too deeply"),
        ({"messages": [user([{"type": "image_url"}])]}, "messages[0].content[0]: is a part of type 'image_url' without address or data"),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": None, "detail": "high"}}])]}, "'image_url' without address"),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": " "}}])]}, "'image_url' without address"),
        ({"messages": [user([{"type": "image_url", "image_url": "data:image/png;base64,"}])]}, "'image_url' without address"),
        ({"messages": [user([{"image_url": {}}])]}, "'image_url' without address"),
        ({"messages": [user([{"type": "image", "source": {"type": "base64", "media_type": "image/png"}}])]}, "type 'image' without address"),
        ({"messages": [user([{"type": "input_audio", "input_audio": {"format": "wav"}}])]}, "type 'input_audio' without address"),
        ({"messages": [user([{"type": "file", "file": {"filename": "a.pdf"}}])]}, "type 'file' without address"),
        ({"messages": [user([{"type": "tool_result", "content": [{"type": "image"}]}])]}, "messages[0].content[0].content[0]: is a part of type 'image'"),
        ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0]: is a text part without text"),
        ({"messages": [user([None])]}, "messages[0].content[0]: must be an object with a type"),
        ({"messages": [{**user("hi"), "images": [""]}]}, "messages[0].images[0]: is an image without data"),
    ],
)  # fmt: skip
def test_what_no_core_can_be_sent_is_the_calls_own_fault(query: dict[str, Any], told: str) -> None:
    fields = {"tools": [], "response_format": None, "temperature": 1.0, **query}
    with pytest.raises(QueryError) as caught:
        text_of(SimpleNamespace(**fields))
    assert told in str(caught.value)
    assert status_code_of(caught.value) == 400
    assert SECRET not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [user("")],
        [user("naïve 😀 你好")],
        [user(None)],
        [user(["plain", {"type": "text", "text": ""}])],
        [user([{"type": "image_url", "image_url": "https://host/a.png"}])],
        [user([{"type": "file", "file": {"file_id": "file-1"}}])],
        [{**user("hi"), "images": ["iVBORw0KGgo="]}],
        [user([{"type": "something new", "value": 1}])],
        [{**user("hi"), "at": datetime.datetime(2026, 1, 1)}],  # OpenAI's client sends it as text
    ],
)
def test_what_can_be_sent_passes(messages: Messages) -> None:
    text_of(LLMQuery(messages=messages, tools=[TOOL]))
