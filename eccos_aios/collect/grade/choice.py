"""The ``multiple_choice`` grader: which of the lettered choices an answer selects."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from eccos_aios.collect.grade.final import after_cue, boxed, first_sentence
from eccos_aios.collect.grade.text import normalised

LETTERS = string.ascii_uppercase

_WRAPPED = r"[\s(\[{{*_\"'“`]*(?:\\text\{{)?(?P<letter>[{letters}])(?=$|[\s)\]}}*_\"'”`.,:;!?–—-])"
_PHRASE = re.compile(
    r"\b(?:choose|pick|select|go with|option|choice|answer)\b(?:\s+(?:is|would be|option|choice|answer))*"
    r"[\s:(*_\[]*(?-i:(?P<letter>[A-Z]))(?=$|[\s)\]*_.,:;!?])",
    re.IGNORECASE,
)
_WORDS_BEFORE = re.compile(r"^(?:\s*(?:option|choice|letter|answer|is|the|:))+\s*", re.IGNORECASE)
_A_WORD_FOLLOWS = re.compile(r"\s+[a-z]")  # “A dog” is an article, “I think” a pronoun


def multiple_choice(answer: str, choices: Sequence[str], right: int) -> float:
    """1 if the answer selects the right choice, else 0; see `selected_choice`.

    Parameters
    ----------
    answer : str
    choices : sequence of str
    right : int
        Position of the right choice, from 0.
    """
    return float(selected_choice(answer, choices) == right)


def selected_choice(answer: str, choices: Sequence[str]) -> int | None:
    r"""The choice that an answer selects; None if it selects none, or more than one.

    In this order: a letter in ``\boxed{…}``; a letter or a choice's text after “the answer is”; a letter
    at the head of the answer (``B``, ``(B)``, ``B. Paris``); the last “option B”; a letter that stands
    alone on the last line; a choice's text, where no other's occurs; the only lone letter.
    """
    letters = LETTERS[: len(choices)]
    box, cued = boxed(answer), after_cue(answer)
    for passage in (box, cued):
        if passage is not None and (found := _leading(passage, letters, choices)) is not None:
            return found
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if not lines:
        return None
    if (found := _letter(lines[0], letters, alone=len(lines[0]) > 3)) is not None:
        return found
    named = [match["letter"] for match in _PHRASE.finditer(answer) if match["letter"] in letters]
    if named:
        return letters.index(named[-1])
    if (found := _letter(lines[-1], letters, alone=len(lines[-1]) > 3)) is not None:
        return found
    if (found := _by_text(answer, choices)) is not None:
        return found
    lone = set(re.findall(rf"(?<![\w'’])([{letters}])(?=[\s.,:;)!?*]|$)(?!\s+[a-z])", answer))
    return letters.index(lone.pop()) if len(lone) == 1 else None


def _leading(passage: str, letters: str, choices: Sequence[str]) -> int | None:
    passage = _WORDS_BEFORE.sub("", passage)
    by_letter = _letter(passage, letters, alone=False)
    if by_letter is not None:
        return by_letter
    return _by_text(first_sentence(passage), choices)


def _letter(passage: str, letters: str, *, alone: bool) -> int | None:
    """The letter at the head of a passage; where `alone`, one with a bracket, a full stop or a colon."""
    match = re.match(_WRAPPED.format(letters=letters), passage) or re.match(
        _WRAPPED.format(letters=letters.lower()) + r"[)\]*_.]*\s*$", passage
    )
    if match is None:
        return None
    rest = passage[match.end() :]
    if match["letter"] in "AI" and _A_WORD_FOLLOWS.match(rest) and not match[0].startswith(("(", "*")):
        return None
    if alone and rest and rest[0] not in ")].:*–-" and not match[0].startswith(("(", "[", "*")):
        return None
    return letters.index(match["letter"].upper())


def _by_text(passage: str, choices: Sequence[str]) -> int | None:
    """The choice whose text occurs in the passage; where one text contains another, the longer."""
    inside = f" {normalised(passage)} "
    texts = [normalised(choice) for choice in choices]
    found = [place for place, text in enumerate(texts) if text and f" {text} " in inside]
    longest = [
        place
        for place in found
        if not any(other != place and f" {texts[place]} " in f" {texts[other]} " for other in found)
    ]
    return longest[0] if len(longest) == 1 else None
