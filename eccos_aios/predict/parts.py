"""The contents of a call's messages: texts, and the images, audio and files that come with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eccos_aios.core import ABILITIES, Ability

DEPTH = 8  # of parts within parts; deeper ones are counted as JSON
SHORT = 256  # characters up to which data that is no URL is an id, not base64
HEADER = 128  # maximum characters before the data of a ``data:`` URL
BASE64 = 3 / 4  # bytes per character

# Kinds of parts by the ``type`` of OpenAI's two formats, of Anthropic's and of vLLM's.
KINDS = {
    **dict.fromkeys(("image", "image_url", "input_image", "image_file"), "image"),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), "audio"),
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
    **dict.fromkeys(("file", "input_file", "document", "file_url"), "file"),
    **dict.fromkeys(
        ("tool_use", "tool_result", "tool_call", "function_call", "function_call_output"), "tool"
    ),
    **dict.fromkeys(("thinking", "redacted_thinking", "reasoning", "refusal"), "assistant"),
}
NEEDED: Mapping[str, frozenset[Ability]] = {
    "image": frozenset({"vision"}),
    "audio": frozenset({"audio"}),
    "video": ABILITIES,
    "file": frozenset({"files"}),
    "tool": frozenset({"tools"}),
    "assistant": frozenset(),
}
LABELS = frozenset({  # keys of a part that are not its content
    "type", "detail", "format", "filename", "media_type", "mime_type", "cache_control", "title", "name",
})  # fmt: skip
UNCOUNTED = frozenset({"role", "content", "cache_control", "provider_specific_fields"})  # keys of a message
CALLS = frozenset({"tool_calls", "function_call"})
TEXT_TYPES = frozenset({None, "text", "input_text", "output_text"})
TEXT_FILE_LABEL = re.compile(r"\btext/|[./+](json|xml|csv|ya?ml|txt|md|html?|py|js|log)\b", re.IGNORECASE)
WAVE_LABEL = re.compile(r"\b(wav|x-wav|wave|pcm16|pcm)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Rate:
    """Tokens of a kind of content, per page or second; pairs are the expected and the upper estimate.

    Attributes
    ----------
    bytes_each : tuple of float
        Bytes per page or second.
    tokens_each : tuple of float
        Tokens that providers charge per page or second.
    unknown : float
        Pages or seconds assumed for a URL or an id.
    at_most : float
        Maximum pages or seconds: a scan has few pages of many bytes.
    """

    bytes_each: tuple[float, float]
    tokens_each: tuple[float, float]
    unknown: float
    at_most: float = float("inf")

    def tokens(self, size: float | None) -> tuple[float, float]:
        """Expected tokens and upper estimate for a size in bytes; None: unknown."""
        each = [self.unknown if size is None else max(1.0, size / one) for one in self.bytes_each]
        expected, most = (
            min(many, self.at_most) * tokens for many, tokens in zip(each, self.tokens_each, strict=True)
        )
        return expected, max(expected, most)


# OpenAI charges 765 tokens for 1024 x 1024 in high detail, Anthropic up to 1,600.
IMAGE = Rate((float("inf"), float("inf")), (765.0, 1600.0), 1.0)
# Anthropic: 1,500 to 3,000 tokens per page, text and image.
PAGES = Rate((50_000.0, 20_000.0), (1500.0, 2500.0), 10.0, 40.0)
TEXT_FILE = Rate((1.0, 1.0), (0.25, 0.5), 20_000.0)
# OpenAI charges 10 tokens per second, Qwen 25, Gemini 32. At 48 and 32 kB/s; compressed 16 and 8.
WAVE = Rate((48_000.0, 32_000.0), (20.0, 32.0), 60.0)
SOUND = Rate((16_000.0, 8_000.0), (20.0, 32.0), 60.0)
# Gemini charges 263 tokens per second; at 250 and 100 kB/s.
VIDEO = Rate((250_000.0, 100_000.0), (263.0, 300.0), 60.0)


@dataclass
class Contents:
    """The contents of messages.

    Attributes
    ----------
    user_texts : list of str
        Texts of user messages.
    texts : list of str
        Texts of all messages.
    other_texts : list of str
        What else the core reads as text: names, reasoning, tool calls and their results.
    expected, most : float
        Tokens of the parts that are not text, as expected and at most.
    abilities : set of str
        What a core must support to read all of it.
    """

    user_texts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    other_texts: list[str] = field(default_factory=list)
    expected: float = 0.0
    most: float = 0.0
    abilities: set[Ability] = field(default_factory=set)

    def add_message(self, message: Mapping[str, Any]) -> None:
        """Add the contents of a message."""
        role = message.get("role")
        texts = list(self._texts(message.get("content"), DEPTH))
        self.texts += texts
        if role == "user":
            self.user_texts += texts
        elif role in ("tool", "function"):
            self.abilities.add("tools")
        for key, value in message.items():
            if key not in UNCOUNTED and value:
                self._add_field(key, value)

    def _add_field(self, key: str, value: Any) -> None:
        if (
            key == "images" and isinstance(value, Sequence) and not isinstance(value, str)
        ):  # as Ollama sends them
            for _ in value:
                self._add_medium("image", {})
        elif key == "audio" and isinstance(value, Mapping):
            self._add_medium("audio", value)
        else:
            self.other_texts.append(value if isinstance(value, str) else as_json(value))
            if key in CALLS:
                self.abilities.add("tools")

    def _texts(self, content: Any, depth: int) -> Iterator[str]:
        """Yield the texts of a message's content; add everything else."""
        for part in parts_of(content):
            if isinstance(part, str):
                yield part
            elif isinstance(part, Mapping):
                kind = kind_of(part)
                if kind == "text":
                    yield part["text"]
                else:
                    self._add_part(kind, part, depth)

    def _add_part(self, kind: str, part: Mapping[str, Any], depth: int) -> None:
        if kind in ("image", "audio", "video", "file"):
            self._add_medium(kind, part)
            return
        self.abilities |= NEEDED.get(kind, ABILITIES)
        if part.get("type") == "tool_result" and depth > 0:
            self.other_texts += list(self._texts(part.get("content"), depth - 1))
        else:
            self.other_texts.append(as_json(part))

    def _add_medium(self, kind: str, part: Mapping[str, Any]) -> None:
        self.abilities |= NEEDED[kind]
        content = payload(part)
        if kind == "file" and _is_plain_text(part):
            self.other_texts.append(content)
            return
        expected, most = _rate(kind, part, content).tokens(_size(content))
        self.expected += expected
        self.most += most


def contents_of(messages: Iterable[Any] | None) -> Contents:
    """The contents of a call's messages; anything that is not a mapping is ignored."""
    contents = Contents()
    for message in messages or ():
        if isinstance(message, Mapping):
            contents.add_message(message)
    return contents


def parts_of(content: Any) -> Sequence[Any]:
    """The parts of a message's content; a string or a mapping is one part."""
    if isinstance(content, str | Mapping):
        return (content,)
    return content if isinstance(content, Sequence) else ()


def kind_of(part: Mapping[str, Any]) -> str:
    """``text``, one of the values of `KINDS`, or ``unknown``."""
    named = part.get("type")
    if named is not None and not isinstance(named, str):
        return "unknown"
    if named in TEXT_TYPES and isinstance(part.get("text"), str):
        return "text"
    if named is None and "image_url" in part:
        return "image"
    return "assistant" if not part or (named and named in TEXT_TYPES) else KINDS.get(named or "", "unknown")


def payload(part: Any, depth: int = DEPTH) -> str:
    """The longest string in a part that is not a label: its data, URL or id; empty if there is none."""
    if isinstance(part, str):
        return part
    if depth <= 0:
        return ""
    if isinstance(part, Mapping):
        found = (payload(value, depth - 1) for key, value in part.items() if key not in LABELS)
    elif isinstance(part, Sequence):
        found = (payload(value, depth - 1) for value in part)
    else:
        return ""
    return max(found, key=len, default="")


def is_empty(part: Mapping[str, Any]) -> bool:
    """Whether a part is an image, audio, video or file without a URL or data."""
    if kind_of(part) not in ("image", "audio", "video", "file"):
        return False
    content = payload(part)
    return not content.strip() or (content.startswith("data:") and _size(content) == 0)


def as_json(value: Any) -> str:
    """A value as JSON; empty if that is impossible."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    except (ValueError, RecursionError):
        return ""


def _rate(kind: str, part: Mapping[str, Any], content: str) -> Rate:
    if kind in ("image", "video"):
        return IMAGE if kind == "image" else VIDEO
    labels = " ".join([content[:HEADER] if content.startswith("data:") else "", *_labels(part, DEPTH)])
    if kind == "audio":
        return WAVE if WAVE_LABEL.search(labels) else SOUND
    return TEXT_FILE if TEXT_FILE_LABEL.search(labels) else PAGES


def _labels(part: Any, depth: int) -> Iterator[str]:
    """The labels of a part: its media type, its file name."""
    if isinstance(part, Mapping) and depth > 0:
        for key, value in part.items():
            if key in LABELS and isinstance(value, str):
                yield value[:SHORT]
            else:
                yield from _labels(value, depth - 1)


def _is_plain_text(part: Mapping[str, Any]) -> bool:
    """Whether a document's source is its text (Anthropic's format)."""
    source = part.get("source")
    return isinstance(source, Mapping) and source.get("type") in ("text", "content")


def _size(content: str) -> float | None:
    """Size in bytes; None for a URL or an id."""
    if content.startswith("data:"):
        comma = content.find(",", 0, HEADER)
        return (len(content) - comma - 1) * BASE64
    if len(content) <= SHORT or "://" in content[:16]:
        return None
    return len(content) * BASE64
