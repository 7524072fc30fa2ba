"""A reply function that replays the recorded answers of one core."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from eccos_aios.history import Outcome, Record
from eccos_aios.sandbox.reply import Reply, last_user_text

NOT_RECORDED = "(the history holds no text of this answer)"


class Replay:
    """Replays one core's recorded outcomes: text or tool calls, tokens and latency.

    A request is looked up by its last user message, and among records of the same query by the names
    of its tools.

    Parameters
    ----------
    records : iterable of Record
        The history; records without an outcome of `core` are left out.
    core : str
        The core to replay.
    """

    def __init__(self, records: Iterable[Record], core: str) -> None:
        self.core = core
        self._outcomes: dict[str, list[tuple[frozenset[str], Outcome]]] = {}
        for record in records:
            for outcome in record.outputs:
                if outcome.model_name == core:
                    variants = self._outcomes.setdefault(record.query.strip(), [])
                    variants.append((tool_names(record.tools), outcome))

    def __len__(self) -> int:
        """Number of outcomes that it can replay."""
        return sum(map(len, self._outcomes.values()))

    def outcome(self, request: dict[str, Any]) -> Outcome:
        """The recorded outcome of `request`.

        Raises
        ------
        LookupError
            The history has no outcome of this core for that query.
        """
        variants = self._outcomes.get(last_user_text(request["messages"]).strip())
        if not variants:
            raise LookupError(f"no recorded answer of {self.core!r} to this query")
        tools = tool_names(request.get("tools"))
        return next((outcome for names, outcome in variants if names == tools), variants[0][1])

    def __call__(self, request: dict[str, Any]) -> Reply:
        """The recorded reply to `request`; raises as `outcome` does."""
        outcome = self.outcome(request)
        text, tool_calls = _text_or_tool_calls(outcome.prediction)
        return Reply(
            text,
            tool_calls,
            output_tokens=outcome.output_token_length,
            input_tokens=outcome.input_token_length,
            latency_s=outcome.latency_s,
        )


def tool_names(tools: list[dict[str, Any]] | None) -> frozenset[str]:
    """The names of tools in OpenAI's format, with or without its ``function`` wrapper."""
    names = (str(tool.get("function", tool).get("name")) for tool in tools or ())
    return frozenset(name.replace("/", "__") for name in names)  # AIOS sends "/" so; OpenAI forbids it


def _text_or_tool_calls(prediction: Any) -> tuple[str | None, list[dict[str, Any]] | None]:
    if prediction is None:
        return NOT_RECORDED, None
    if isinstance(prediction, str):
        return prediction, None
    calls = prediction if isinstance(prediction, list) else [prediction]
    if calls and all(isinstance(call, dict) and "name" in call.get("function", call) for call in calls):
        return None, calls
    return json.dumps(prediction), None
