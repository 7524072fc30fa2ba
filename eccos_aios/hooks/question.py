"""What a syscall asks, and what the checks find in a core's answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eccos_aios.schedule import Call
from eccos_aios.verify import PASSES, Answer, AnswerCheck, Question, check_answer

JSON_ASKED = {"type": "json_object"}  # what AIOS sends where `message_return_type` is ``json``


def question_of(
    query: Any, tools: Sequence[Mapping[str, Any]], *, call_expected: bool = False
) -> Question | None:
    """What an LLM query's answers are checked against; None where they cannot be.

    That is where the last message of the user holds anything but text, since nothing is known of what the
    answer must state then, or where the query is no list of messages.

    Parameters
    ----------
    query : LLMQuery
    tools : sequence of mapping
        As the agent wrote them: AIOS renames those of the query when it sends them.
    call_expected : bool
        Whether an answer without a tool call is held to be wrong where tools are offered.
    """
    messages = query.messages
    if not isinstance(messages, list) or getattr(query, "stream", False):
        return None
    asked = next((message for message in reversed(messages) if _role(message) == "user"), None)
    text = None if asked is None else _text(asked.get("content"))
    if text is None:
        return None
    response_format = query.response_format or (JSON_ASKED if query.message_return_type == "json" else None)
    return Question(
        text,
        tuple(tools),
        getattr(query, "tool_choice", None),
        response_format if isinstance(response_format, Mapping) else None,
        # after a tool's result the next answer may well be text
        call_expected=call_expected and _role(messages[-1]) == "user",
    )


def checked(call: Call, value: Any) -> AnswerCheck:
    """What the checks find in an answer, which is an `eccos_aios.hooks.outcome.Answer`."""
    if call.question is None:
        return PASSES
    response = value.response
    answer = Answer(response.response_message, response.tool_calls, value.finish_reason)
    return check_answer(call.question, answer)


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None


def _text(content: Any) -> str | None:
    """A message's text; None where it holds something else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if texts and len(texts) == len(parts) else None
