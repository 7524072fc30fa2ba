"""Messages and tools -> the text that is embedded, and its token count."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eccos_aios.history import Record
from eccos_aios.predict.packed import own_tokens, unpacked

CHARACTERS_PER_TOKEN = 4.0  # of English prose in the common tokenizers
TOKENS_PER_IMAGE = 765.0  # what OpenAI counts for one of 1024 x 1024 in high detail
EMBEDDED_CHARACTERS = 4_000  # of the messages, and as many of the tools: enough to tell what is asked
TOOL_MARK = "\n\x1f "  # before every tool in the embedded text; a control character, no user writes it
IMAGE_TYPES = frozenset({"image", "image_url", "input_image"})


@dataclass(frozen=True)
class CallText:
    """What stage 1 sees of a call.

    Attributes
    ----------
    text : str
        What is embedded; empty where a history left it out.
    input_tokens : float
    query_hash : str or None
        Of a text that was left out; tells calls that ask the same.
    embedding : bytes or None
        What stands for a text that was left out, see `packed`.
    """

    text: str
    input_tokens: float
    query_hash: str | None = None
    embedding: bytes | None = None


def call_text(
    messages: Sequence[Mapping[str, Any]] | None, tools: Sequence[Mapping[str, Any]] | None = None
) -> CallText:
    """The text of a call in OpenAI's message format.

    What the users wrote is embedded, and the tools' names and descriptions; a system prompt is the same
    for all calls of an agent and tells them apart badly, so it is embedded only where no user wrote
    anything. Tokens are counted over everything.

    Parameters
    ----------
    messages : sequence of mapping
        ``role`` and ``content``; the content a string, None, or a list of parts, images among them.
    tools : sequence of mapping, optional
        In OpenAI's format, with or without its ``function`` wrapper.
    """
    messages = messages or ()
    tools = tools or ()
    spoken = [text for message in messages if message.get("role") == "user" for text in _texts(message)]
    everything = [text for message in messages for text in _texts(message)]
    embedded = spoken if any(text.strip() for text in spoken) else everything
    images = sum(1 for message in messages for part in _parts(message) if _is_image(part))
    characters = sum(map(len, everything)) + _json_length(tools) + _tool_call_length(messages)
    return CallText(
        text=_shortened("\n".join(embedded).strip()) + _shortened("".join(_tool_texts(tools))),
        input_tokens=characters / CHARACTERS_PER_TOKEN + images * TOKENS_PER_IMAGE,
    )


def query_text(query: str, tools: Sequence[Mapping[str, Any]] | None = None) -> CallText:
    """The text of a query, the same as that of one user message."""
    return call_text([{"role": "user", "content": query}], tools)


def record_text(record: Record) -> CallText:
    """The text of a past call, or what was kept instead; its own token count, or else the estimate."""
    if record.query_hash is not None:
        embedding = unpacked(record.embedding)
        text = CallText("", own_tokens(embedding), record.query_hash, embedding)
    else:
        text = query_text(record.query, record.tools)
    if record.input_token_length is None:
        return text
    return replace(text, input_tokens=float(record.input_token_length))


def split_tools(text: str) -> tuple[str, str]:
    """The query's part and the tools' part of a call's text."""
    query, _, tools = text.partition(TOOL_MARK)
    return query, tools


def has_images(messages: Iterable[Mapping[str, Any]] | None) -> bool:
    """Whether any message holds an image."""
    return any(_is_image(part) for message in messages or () for part in _parts(message))


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    if isinstance(content, str):
        return (content,)
    if isinstance(content, Mapping):
        return (content,)
    return content if isinstance(content, Sequence) else ()


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    for part in _parts(message):
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield part["text"]


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and (part.get("type") in IMAGE_TYPES or "image_url" in part)


def _tool_texts(tools: Iterable[Any]) -> Iterator[str]:
    for tool in tools:
        if not isinstance(tool, Mapping):
            continue
        inner = tool.get("function")
        function = inner if isinstance(inner, Mapping) else tool
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        names = " ".join(map(str, properties)) if isinstance(properties, Mapping) else ""
        yield f"{TOOL_MARK}{function.get('name', '')} {function.get('description', '')} {names}"


def _tool_call_length(messages: Iterable[Mapping[str, Any]]) -> int:
    return sum(_json_length(message["tool_calls"]) for message in messages if message.get("tool_calls"))


def _json_length(content: Any) -> int:
    return len(json.dumps(content, ensure_ascii=False, default=str)) if content else 0


def _shortened(text: str) -> str:
    """Head and tail of a long text: instructions stand at the start or at the end."""
    if len(text) <= EMBEDDED_CHARACTERS:
        return text
    half = EMBEDDED_CHARACTERS // 2
    return text[:half] + "\n" + text[-half:]
