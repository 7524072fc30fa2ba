"""What of a call is embedded and counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.core import ABILITIES
from eccos_aios.history import Record
from eccos_aios.predict import CallText, call_text, count_tokens, query_text, record_text

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
    assert with_user.input_tokens > call_text([{"role": "user", "content": "hello"}]).input_tokens + 2
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


def test_a_record_whose_tokens_are_known_is_not_counted() -> None:
    record = Record(query="word " * 500, outputs=(), input_token_length=7)
    assert record_text(record) == CallText(query_text(record.query).text, 7.0)
    assert record_text(record).most_tokens == 7.0


BASE64 = "JVBERi0x" * 50_000  # 300 kB
FILE = {
    "type": "file",
    "file": {"filename": "bill.pdf", "file_data": f"data:application/pdf;base64,{BASE64}"},
}
DOCUMENT = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BASE64}}
SOUND = {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}
RESULT = {
    "type": "tool_result",
    "tool_use_id": "1",
    "content": [{"type": "text", "text": "word " * 500}, PICTURE],
}
LONG = "word " * 500


@pytest.mark.parametrize(
    ("message", "abilities", "least", "most"),
    [
        ({"content": [FILE]}, {"files"}, 2_000, 80_000),
        ({"content": [DOCUMENT]}, {"files"}, 2_000, 80_000),
        ({"content": [{"type": "file", "file": {"file_id": "file-abc"}}]}, {"files"}, 2_000, 80_000),
        ({"content": [{"type": "file", "file": {"filename": "log.txt", "file_data": "data:text/plain;base64," + BASE64}}]}, {"files"}, 70_000, 200_000),
        ({"content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": LONG}}]}, {"files"}, 450, 800),
        ({"content": [SOUND]}, {"audio"}, 60, 600),
        ({"content": [{"type": "audio_url", "audio_url": {"url": "https://host/a.mp3"}}]}, {"audio"}, 60, 4_000),
        ({"content": [{"type": "video_url", "video_url": {"url": "https://host/a.mp4"}}]}, ABILITIES, 2_000, 40_000),
        ({"content": [IMAGE]}, {"vision"}, 700, 2_000),
        ({"content": [PICTURE]}, {"vision"}, 700, 2_000),
        ({"content": [{"type": "input_image", "file_id": "file-abc"}]}, {"vision"}, 700, 2_000),
        ({"content": "what is this?", "images": [BASE64, BASE64]}, {"vision"}, 1_400, 4_000),
        ({"content": [RESULT]}, {"tools", "vision"}, 1_200, 3_000),
        ({"content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"text": LONG}}]}, {"tools"}, 450, 800),
        ({"content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": LONG}}]}, {"tools"}, 450, 800),
        ({"content": None, "function_call": {"name": "f", "arguments": LONG}}, {"tools"}, 450, 800),
        ({"role": "tool", "content": LONG, "tool_call_id": "1"}, {"tools"}, 450, 800),
        ({"role": "assistant", "content": "yes", "reasoning_content": LONG}, set(), 450, 800),
        ({"role": "assistant", "content": [{"type": "thinking", "thinking": LONG, "signature": "abc"}]}, set(), 450, 800),
        ({"content": [{"type": "hologram", "data": LONG}]}, ABILITIES, 450, 800),
        ({"content": [{"inline_data": {"mime_type": "audio/mp3", "data": LONG}}]}, ABILITIES, 450, 800),
        ({"content": LONG, "name": "Ada", "cache_control": {"type": "ephemeral"}}, set(), 450, 800),
    ],
)  # fmt: skip
def test_whatever_a_message_holds_weighs_something_and_says_what_a_core_needs(
    message: dict, abilities: set[str], least: float, most: float
) -> None:
    call = call_text([{"role": "user", **message}])
    assert call.abilities == abilities
    assert least <= call.input_tokens <= call.most_tokens <= most


def test_a_scan_is_not_believed_to_have_a_page_for_every_few_bytes() -> None:
    scan = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 20_000_000}}
    assert call_text([{"role": "user", "content": [scan]}]).input_tokens < 100_000


def test_a_call_asks_for_tools_where_it_brings_some() -> None:
    assert query_text("rain?", [TOOL]).abilities == {"tools"}
    assert query_text("image_url").abilities == call_text(None).abilities == frozenset()


def test_what_tools_and_messages_say_is_counted_once() -> None:
    both = call_text([{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three four"}])
    assert both.input_tokens == pytest.approx(count_tokens("one two\nthree four").expected)
