"""Where an answer states its result: the passages that graders look at, the most reliable first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_UNOPENED_THINKING = re.compile(r"\A.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_CUE = re.compile(
    r"(?:\b(?:answer|result|solution|option|choice)\b[*_\s]*(?:(?:is|are|was|be|of|would be)\b|[:=])"
    r"|####)[*_\s:]*",
    re.IGNORECASE,
)
_STATEMENT = re.compile(r"(?:\b(?:is|are|was|were|be|equals|becomes)\b|[:=→])[*_\s:]*", re.IGNORECASE)
_EMPHASISED = re.compile(r"(?<![*\w])(\*{1,3})([^*\n]+?)\1(?![*\w])|“([^”\n]+)”|`([^`\n]+)`")
_FENCE = re.compile(r"```[\w-]*[^\S\n]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_END_OF_SENTENCE = re.compile(r"[.!?][*_”\"')\]]*\s")


def without_thinking(text: str) -> str:
    """The answer, without the thoughts that reasoning models write before it."""
    return _UNOPENED_THINKING.sub("", _THINKING.sub("", text), count=1).strip()


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{…}``, inner braces included; None if there is none."""
    for start in reversed([match.end() for match in _BOXED.finditer(text)]):
        depth = 1
        for place in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[start:place].strip()
    return None


def after_cue(text: str) -> str | None:
    """The text after the last “the answer is”, “Result:” or ``####``, to the end of its line."""
    cues = [match for match in _CUE.finditer(text) if text[match.end() :].strip()]
    return _rest_of_line(text, cues[-1].end()) if cues else None


def passages(text: str) -> Iterator[str]:
    """Every passage that may be the answer alone: the whole text, marked parts, the last statement."""
    yield text
    lines = [line for line in text.splitlines() if line.strip()]
    marked = (boxed(text), after_cue(text), lines[-1] if lines else None)
    for passage in marked:
        if passage is not None:
            yield passage
            yield first_sentence(passage)
    emphasised = [match for line in lines[-1:] for match in _EMPHASISED.finditer(line)]
    if emphasised:
        yield next(group for group in emphasised[-1].groups()[1:] if group)
    if lines and (statements := list(_STATEMENT.finditer(lines[-1]))):
        yield lines[-1][statements[-1].end() :]


def first_sentence(text: str) -> str:
    """The text up to the first end of a sentence; a decimal point does not end one."""
    found = _END_OF_SENTENCE.search(text)
    return text[: found.start()] if found else text


def find_json(text: str) -> Any:
    """The JSON of an answer: all of it, in a fenced code block, or the first object or array in prose.

    Raises
    ------
    ValueError
        There is none.
    """
    for candidate in (text, *(match[1] for match in _FENCE.finditer(text))):
        with suppress(ValueError):
            return strict_json(candidate)
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    for start in re.finditer(r"[{\[]", text):
        with suppress(ValueError, RecursionError):
            return decoder.raw_decode(text, start.start())[0]
    raise ValueError("holds no JSON")


def strict_json(text: str) -> Any:
    """JSON as its standard defines it, without NaN and Infinity; ValueError on anything else."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _rest_of_line(text: str, start: int) -> str:
    end = text.find("\n", start)
    return text[start:].strip() if end < 0 else text[start:end].strip()
