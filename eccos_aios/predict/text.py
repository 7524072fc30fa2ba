"""Messages and tools -> the text that is embedded, and its token count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.core import Ability
from eccos_aios.history import Record
from eccos_aios.predict.parts import Contents, as_json, contents_of
from eccos_aios.predict.text_free import own_tokens, unpacked
from eccos_aios.predict.tokens import count_tokens

EMBEDDED_CHARACTERS = 4_000  # of the messages, and as many of the tools: enough to tell what is asked
TOOL_MARK = "\n\x1f "  # before every tool in the embedded text; a control character, no user writes it
MESSAGE_TOKENS = 8.0  # at most, that a chat template puts around a message


@dataclass(frozen=True)
class CallText:
    """What stage 1 sees of a call.

    Attributes
    ----------
    text : str
        What is embedded; empty where a history left it out.
    input_tokens : float
        As many as are expected: what it costs.
    query_hash : str or None
        Of a text that was left out; tells calls that ask the same.
    embedding : bytes or None
        What stands for a text that was left out, see `packed`.
    most_tokens : float
        As many as it may be in a common tokenizer: what is held against a context window. Default:
        `input_tokens`, where those are known and not estimated.
    abilities : frozenset of str
        What a core must support to read it: of ``tools``, ``vision``, ``audio``, ``files``; all that there
        is, where it holds parts of an unknown kind.
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
        """The same, where the number of its tokens is known."""
        return CallText(
            self.text, float(input_tokens), self.query_hash, self.embedding, abilities=self.abilities
        )


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
        ``role`` and ``content``; the content a string, None, or a list of parts: texts, images, sounds,
        files, tools' results, in the formats of OpenAI, Anthropic and Ollama.
    tools : sequence of mapping, optional
        In OpenAI's format, with or without its ``function`` wrapper.
    """
    contents = contents_of(messages)
    texts = [*contents.written, *contents.beside, *([as_json(tools)] if tools else ())]
    count = count_tokens("\n".join(texts))
    around = MESSAGE_TOKENS * len(messages or ())
    return CallText(
        text=_embedded(contents, tools or ()),
        input_tokens=count.expected + contents.expected,
        most_tokens=count.most + contents.most + around,
        abilities=frozenset(contents.abilities | ({"tools"} if tools else set())),
    )


def query_text(query: str, tools: Sequence[Mapping[str, Any]] | None = None) -> CallText:
    """The text of a query, the same as that of one user message."""
    return call_text([{"role": "user", "content": query}], tools)


def record_text(record: Record) -> CallText:
    """The text of a past call, or what was kept instead; its own token count, or else the estimate."""
    known = record.input_token_length
    if record.query_hash is not None:
        embedding = unpacked(record.embedding)
        own = own_tokens(embedding) if known is None else float(known)
        return CallText("", own, record.query_hash, embedding)
    if known is None:
        return query_text(record.query, record.tools)
    contents = Contents(spoken=[record.query], written=[record.query])
    return CallText(_embedded(contents, record.tools or ()), float(known))


def split_tools(text: str) -> tuple[str, str]:
    """The query's part and the tools' part of a call's text."""
    query, _, tools = text.partition(TOOL_MARK)
    return query, tools


def _embedded(contents: Contents, tools: Iterable[Any]) -> str:
    spoken = any(text.strip() for text in contents.spoken)
    asked = "\n".join(contents.spoken if spoken else contents.written).strip()
    return _shortened(asked) + _shortened("".join(_tool_texts(tools)))


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
    """Head and tail of a long text: instructions stand at the start or at the end."""
    if len(text) <= EMBEDDED_CHARACTERS:
        return text
    half = EMBEDDED_CHARACTERS // 2
    return text[:half] + "\n" + text[-half:]
