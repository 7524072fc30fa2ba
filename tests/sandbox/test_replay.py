"""A replayed core gives what the history recorded, and nothing that it did not."""

from __future__ import annotations

from typing import Any

import pytest

from eccos_aios.history import Record
from eccos_aios.sandbox import Replay

RECORDS = [
    Record.model_validate(record)
    for record in (
        {
            "query": "Capital of France?",
            "outputs": [
                {"model_name": "small", "correctness": False, "prediction": "Lyon"},
                {
                    "model_name": "large",
                    "correctness": True,
                    "prediction": "Paris",
                    "input_token_length": 7,
                    "output_token_length": 3,
                    "latency_s": 0.5,
                },
            ],
        },
        {
            "query": "Weather there?",
            "tools": [{"name": "a/weather"}],
            "outputs": [
                {
                    "model_name": "large",
                    "correctness": True,
                    "prediction": [{"name": "a/weather", "arguments": {}}],
                }
            ],
        },
        {
            "query": "Weather there?",
            "tools": [{"name": "forecast"}],
            "outputs": [{"model_name": "large", "correctness": True, "prediction": {"name": "forecast"}}],
        },
        {"query": "Unkept", "outputs": [{"model_name": "large", "quality": 0.5}]},
    )
]


def request(text: str, *tools: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        "tools": [{"type": "function", "function": {"name": tool}} for tool in tools],
    }


def test_text_tokens_and_latency_are_replayed() -> None:
    reply = Replay(RECORDS, "large")(request("Capital of France?"))
    assert reply.text == "Paris"
    assert (reply.input_tokens, reply.output_tokens, reply.latency_s) == (7, 3, 0.5)


def test_each_core_replays_its_own_answer() -> None:
    assert Replay(RECORDS, "small")(request("Capital of France?")).text == "Lyon"


def test_tools_tell_apart_records_of_the_same_query() -> None:
    replay = Replay(RECORDS, "large")
    for tool, name in (("a__weather", "a/weather"), ("forecast", "forecast")):
        [call] = replay(request("Weather there?", tool)).tool_calls or ()
        assert call["name"] == name


def test_an_answer_that_was_not_kept_is_said_as_such() -> None:
    assert "no text" in str(Replay(RECORDS, "large")(request("Unkept")).text)


def test_what_the_history_does_not_hold_is_not_invented() -> None:
    replay = Replay(RECORDS, "small")
    assert len(replay) == 1
    with pytest.raises(LookupError, match="'small'"):
        replay(request("Unkept"))
