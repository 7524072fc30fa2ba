"""What of a call is embedded and counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.history import Record
from eccos_aios.predict import call_text, has_images, query_text, record_text

TOOL = {
    "name": "get_weather",
    "description": "Weather at a place.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@settings(max_examples=50, deadline=None)
@given(query=st.text(max_size=200), tools=st.sampled_from([None, [], [TOOL]]))
def test_a_past_query_and_the_same_call_are_embedded_alike(query: str, tools: list[dict] | None) -> None:
    record = Record(query=query, outputs=(), tools=tools)
    assert (
        record_text(record)
        == query_text(query, tools)
        == call_text([{"role": "user", "content": query}], tools)
    )


def test_openai_wrapper_around_a_tool_changes_nothing() -> None:
    wrapped = {"type": "function", "function": TOOL}
    assert query_text("rain?", [wrapped]).text == query_text("rain?", [TOOL]).text
    assert "get_weather" in query_text("rain?", [TOOL]).text


def test_a_list_of_parts_reads_like_the_string() -> None:
    parts = [{"type": "text", "text": "what is this?"}, IMAGE]
    call = call_text([{"role": "user", "content": parts}])
    assert call.text == query_text("what is this?").text
    assert call.input_tokens > query_text("what is this?").input_tokens + 100


def test_system_prompt_is_counted_but_embedded_only_where_no_user_wrote() -> None:
    system = {"role": "system", "content": "You are terse."}
    with_user = call_text([system, {"role": "user", "content": "hello"}])
    assert with_user.text == "hello"
    assert with_user.input_tokens == pytest.approx(len("You are terse.hello") / 4)
    assert call_text([system]).text == "You are terse."


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [{}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": [None, 3, {"type": "text"}]}],
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
    ],
)
def test_odd_messages_give_an_empty_text(messages: list[dict] | None) -> None:
    call = call_text(messages)
    assert call.text == ""
    assert call.input_tokens >= 0


def test_a_megabyte_is_counted_whole_and_embedded_in_part() -> None:
    call = query_text("start " + "x" * 1_000_000 + " end")
    assert call.input_tokens == pytest.approx(250_000, rel=0.01)
    assert len(call.text) < 10_000
    assert call.text.startswith("start") and call.text.endswith("end")


def test_images_are_seen() -> None:
    assert has_images([{"role": "user", "content": [IMAGE]}])
    assert not has_images([{"role": "user", "content": "image_url"}])
    assert not has_images(None)
