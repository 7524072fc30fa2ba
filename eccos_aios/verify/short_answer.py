"""ShortAnswerCheck: the letter or the number that was asked for is there."""

from __future__ import annotations

import re
import string
from datetime import datetime
from typing import Literal

from eccos_aios.verify.base import PASSES, Answer, AnswerCheck, Check, Question, fails, key_of
from eccos_aios.verify.json_answer import asked_schema
from eccos_aios.verify.normalised import normalised, number_text

Form = Literal["letter", "number"]

LEAST_OPTIONS = 2
COMPARABLE_CHARACTERS = 40  # up to which an answer of no known form is compared as a whole

_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[.):][ \t]", re.MULTILINE)
_NUMBER_ASKED = re.compile(
    r"\b(?:answer|respond|reply|return|give|output)\b[^.\n]{0,40}"
    r"\b(?:only|just|single|as an?|with an?|the final)\b"
    r"[^.\n]{0,20}\b(?:number|integer|numeric)",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"(?:\banswer\b[*_\s]*(?:is|:|=)|####|\\boxed\{|\bresult\b[*_\s]*(?:is|:|=))[*_\s:$({\[]*", re.I
)
_LETTER = re.compile(r"(?:\\text\{)?([A-Z])(?![\w'’])")
_WHOLE_LETTER = re.compile(r"[\s(\[*_\"'`]*(?:option |choice |answer )?([A-Z])(?:[\s.):\]*_\"'`]|\Z)", re.I)
_NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d{1,2})?")
_DATES = ("%Y-%m-%d", "%d %B %Y", "%B %d, %Y", "%B %d %Y", "%d/%m/%Y", "%b %d, %Y", "%d %b %Y")


class ShortAnswerCheck(Check):
    """Where the text lists lettered options or asks for a number, the answer must state one.

    The key is of that letter or number, of a date in any common notation, and else of the whole answer if
    it is short; longer prose has none.
    """

    def check(self, question: Question, answer: Answer) -> AnswerCheck:
        text = (answer.text or "").strip()
        if answer.tool_calls or not text or asked_schema(question.response_format)[0] or question.tools:
            return PASSES
        options = lettered_options(question.text)
        if options:
            letter = stated_letter(text, options)
            if letter is not None:
                return AnswerCheck(passes=True, key=key_of("letter", letter))
            return fails(f"states none of the options {options[0]} to {options[-1]}")
        if _NUMBER_ASKED.search(question.text):
            number = stated_number(text)
            if number is not None:
                return AnswerCheck(passes=True, key=key_of("number", number_text(number)))
            return fails("states no number")
        if len(text) > COMPARABLE_CHARACTERS or "\n" in text:
            return PASSES
        return AnswerCheck(passes=True, key=key_of("short", short_form(text)))


def lettered_options(text: str) -> str:
    """The letters of the last list of options in a text, from A on; empty where there is none."""
    letters = "".join(_OPTION.findall(text))
    start = letters.rfind("A")
    if start < 0:
        return ""
    listed = letters[start:]
    count = next((n for n, letter in enumerate(listed) if letter != string.ascii_uppercase[n]), len(listed))
    return listed[:count] if count >= LEAST_OPTIONS else ""


def stated_letter(text: str, options: str) -> str | None:
    """The option that an answer states: after its last cue (“the answer is”), else at its head."""
    for cue in reversed(list(_CUE.finditer(text))):
        found = _LETTER.match(text, cue.end())
        if found and found[1] in options:
            return found[1]
    head = _WHOLE_LETTER.match(text)
    # “A dog” and “I think” begin with a word
    if head and head[1].upper() in options and not re.match(r"\s+[a-z]", text[head.end(1) :]):
        return head[1].upper()
    last = _WHOLE_LETTER.fullmatch(text.splitlines()[-1].strip())
    return last[1].upper() if last and last[1].upper() in options else None


def stated_number(text: str) -> float | None:
    """The number after an answer's last cue, else its last one."""
    cues = list(_CUE.finditer(text))
    found = _NUMBER.search(text, cues[-1].end()) if cues else None
    if found is None:
        every = list(_NUMBER.finditer(text))
        if not every:
            return None
        found = every[-1]
    return float(found[0].replace(",", "").replace("−", "-"))


def short_form(text: str) -> str:
    """A short answer in the form in which it is compared: dates as ISO 8601, else normalised."""
    bare = text.strip(" .*_`\"'")
    dates = (_date(bare, pattern) for pattern in _DATES)
    return next((date for date in dates if date is not None), None) or normalised(bare)


def _date(text: str, pattern: str) -> str | None:
    try:
        return datetime.strptime(text, pattern).date().isoformat()
    except ValueError:
        return None
