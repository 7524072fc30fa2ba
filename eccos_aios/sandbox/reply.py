"""The replies of a sandbox core, and their format on the wire (OpenAI's chat completions)."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English, where a reply does not say its tokens


@dataclass(frozen=True)
class Reply:
    """One answer of a core.

    Attributes
    ----------
    text : str or None
        The message; None if the answer is only tool calls.
    tool_calls : sequence of dict, optional
        ``{"name", "arguments"}`` or OpenAI's ``{"id", "type", "function"}`` each; arguments as a
        mapping or as JSON text. Sent only where the request has ``tools``, else they become text.
    output_tokens, input_tokens : int, optional
        The usage to report. Default: counted, four characters a token.
    latency_s : float, optional
        Seconds until the answer, before the core's ``time_scale``. Default: the core's own.
    cut_short : bool
        The tokens ran out before a word was said: content null, finish_reason ``length``.
    """

    text: str | None
    tool_calls: Sequence[dict[str, Any]] | None = None
    output_tokens: int | None = None
    input_tokens: int | None = None
    latency_s: float | None = None
    cut_short: bool = False


def canned_reply(request: dict[str, Any]) -> Reply:
    """The reply of a core without recorded answers: one sentence, or a call of the first tool offered."""
    tools = request.get("tools")
    if tools:
        return Reply(None, [{"name": tools[0]["function"]["name"], "arguments": {}}])
    return Reply(f"{request.get('model')} has read: {last_user_text(request['messages'])}")


def last_user_text(messages: Sequence[dict[str, Any]]) -> str:
    """Text of the last user message; empty if there is none."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return _content_text(message.get("content"))
    return ""


def usage(request: dict[str, Any], reply: Reply) -> dict[str, int]:
    """Tokens of `request` and of `reply` to it, as OpenAI reports them."""
    message, _ = _message(request, reply)
    asked = sum(_tokens(_content_text(m.get("content"))) for m in request["messages"])
    calls = [call["function"] for call in message.get("tool_calls", ())]
    answered = _tokens((message["content"] or "") + (json.dumps(calls) if calls else ""))
    prompt = asked if reply.input_tokens is None else reply.input_tokens
    output = answered if reply.output_tokens is None else reply.output_tokens
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def completion(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """The body that answers `request` with `reply`."""
    message, finish_reason = _message(request, reply)
    return {
        **_head(request, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}],
        "usage": usage(request, reply),
    }


def completion_chunks(request: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    """The bodies that answer `request` with `reply` piece by piece, for ``stream: true``."""
    message, finish_reason = _message(request, reply)
    head = _head(request, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant"})
    for position, call in enumerate(message.get("tool_calls", ())):
        yield chunk({"tool_calls": [{"index": position, **call}]})
    for piece in (message["content"] or "").splitlines(keepends=True):
        yield chunk({"content": piece})
    yield chunk({}, finish_reason)
    if (request.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": usage(request, reply)}


def error_body(kind: str, message: str) -> dict[str, Any]:
    """An error in OpenAI's format."""
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


def _head(request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": request.get("model"),
    }


def _message(request: dict[str, Any], reply: Reply) -> tuple[dict[str, Any], str]:
    if reply.cut_short:
        return {"role": "assistant", "content": None}, "length"
    calls = [_openai_tool_call(call) for call in reply.tool_calls or ()]
    if calls and request.get("tools"):
        return {"role": "assistant", "content": reply.text, "tool_calls": calls}, "tool_calls"
    text = reply.text
    if text is None:
        text = json.dumps([call["function"] for call in calls])
    if (request.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        text = _as_json(text)
    return {"role": "assistant", "content": text}, "stop"


def _openai_tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    return {
        "id": call.get("id") or f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {
            "name": function["name"],
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
        },
    }


def _as_json(text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return json.dumps({"answer": text})
    return text


def _tokens(text: str) -> int:
    return max(1, len(text) // CHARACTERS_PER_TOKEN)


def _content_text(content: Any) -> str:
    if isinstance(content, list):  # parts: text, images
        return "\n".join(part["text"] for part in content if part.get("type") == "text")
    return content if isinstance(content, str) else ""
