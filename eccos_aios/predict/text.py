"""Messages and tools -> the text that is embedded, its token count, and the abilities that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.core import Ability
from eccos_aios.history import Record
from eccos_aios.predict.parts import Contents, as_json, contents_of
from eccos_aios.predict.text_free import decode, own_tokens
from eccos_aios.predict.tokens import count_tokens

EMBEDDED_CHARACTERS = 4_000  # of the messages, and as many of the tools: enough to know the question
TOOL_MARK = "\n\x1f "  # before every tool in the embedded text; a control character that no user types
MESSAGE_TOKENS = 8.0  # maximum that a chat template adds to a message


@dataclass(frozen=True)
class CallText:
    """A call as stage 1 sees it.

    Attributes
    ----------
    text : str
        The embedded text; empty if the history does not store texts.
    input_tokens : float
        Expected input tokens, for the cost.
    query_hash : str or None
        Hash of a text that was not stored; equal for equal queries.
    embedding : bytes or None
        What was stored in place of the text, see `text_free`.
    most_tokens : float
        Upper estimate over common tokenizers, for the context window. Default: `input_tokens`, for a known
        count.
    abilities : frozenset of str
        What a core must support to read it: ``tools``, ``vision``, ``audio``, ``files``; all of them if it
        has parts of an unknown kind.
    """

    text: str
    input_tokens: float
    query_hash: str | None = None
    embedding: bytes | None = None
    most_tokens: float = -1.0
    abilities: frozenset[Ability] = frozenset()

    def __post_init__(self) -> None:
        if self.most_tokens < self.input_tokens:
            object.__setattr__(self, "most_tokens", self.input_tokens)

    def with_tokens(self, input_tokens: float) -> CallText:
        """The same with a known number of input tokens."""
        return CallText(
            self.text, float(input_tokens), self.query_hash, self.embedding, abilities=self.abilities
        )


def call_text(
    messages: Sequence[Mapping[str, Any]] | None, tools: Sequence[Mapping[str, Any]] | None = None
) -> CallText:
    """The text of a call in OpenAI's message format.

    The user messages and the tools' names and descriptions are embedded. A system prompt, which is the same
    for all calls of an agent and so says little, is embedded only if there is no user message. Tokens are
    counted over everything.

    Parameters
    ----------
    messages : sequence of mapping
        ``role`` and ``content``; the content is a string, None, or a list of parts (text, image, audio,
        file, tool result) in the formats of OpenAI, Anthropic and Ollama.
    tools : sequence of mapping, optional
        In OpenAI's format, with or without its ``function`` wrapper.
    """
    contents = contents_of(messages)
    texts = [*contents.texts, *contents.other_texts, *([as_json(tools)] if tools else ())]
    count = count_tokens("\n".join(texts))
    around = MESSAGE_TOKENS * len(messages or ())
    return CallText(
        text=_embedded(contents, tools or ()),
        input_tokens=count.expected + contents.expected,
        most_tokens=count.most + contents.most + around,
        abilities=frozenset(contents.abilities | ({"tools"} if tools else set())),
    )


def query_text(query: str, tools: Sequence[Mapping[str, Any]] | None = None) -> CallText:
    """The text of a query, as of a single user message."""
    return call_text([{"role": "user", "content": query}], tools)


def record_text(record: Record) -> CallText:
    """The text of a past call, or what was stored in its place; with its token count, else an estimate."""
    known = record.input_token_length
    if record.query_hash is not None:
        embedding = decode(record.embedding)
        own = own_tokens(embedding) if known is None else float(known)
        return CallText("", own, record.query_hash, embedding)
    if known is None:
        return query_text(record.query, record.tools)
    contents = Contents(user_texts=[record.query], texts=[record.query])
    return CallText(_embedded(contents, record.tools or ()), float(known))


def split_tools(text: str) -> tuple[str, str]:
    """The query's part and the tools' part of a call's text."""
    query, _, tools = text.partition(TOOL_MARK)
    return query, tools


def _embedded(contents: Contents, tools: Iterable[Any]) -> str:
    has_user_text = any(text.strip() for text in contents.user_texts)
    query = "\n".join(contents.user_texts if has_user_text else contents.texts).strip()
    return _shortened(query) + _shortened("".join(_tool_texts(tools)))


def _tool_texts(tools: Iterable[Any]) -> Iterable[str]:
    for tool in tools:
        if not isinstance(tool, Mapping):
            continue
        inner = tool.get("function")
        function = inner if isinstance(inner, Mapping) else tool
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        names = " ".join(map(str, properties)) if isinstance(properties, Mapping) else ""
        yield f"{TOOL_MARK}{function.get('name', '')} {function.get('description', '')} {names}"


def _shortened(text: str) -> str:
    """Start and end of a long text, where the instructions are."""
    if len(text) <= EMBEDDED_CHARACTERS:
        return text
    half = EMBEDDED_CHARACTERS // 2
    return text[:half] + "\n" + text[-half:]
