"""Grading: whether the text of an answer ends in the truth."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_MINUS_SIGN = "−"


def is_right(answer: str | None, truth: str) -> bool:
    """Whether `answer` gives `truth` as its result.

    A number is compared with the last number of the answer, a word or a date with its last words; case,
    thousands separators and closing punctuation do not count.

    Parameters
    ----------
    answer : str or None
        What a core answered; None where it did not.
    truth : str
        The right result.
    """
    if answer is None:
        return False
    text = answer.replace(_MINUS_SIGN, "-")
    if _NUMBER.fullmatch(truth):
        numbers = _NUMBER.findall(text)
        return bool(numbers) and _value(numbers[-1]) == _value(truth)
    last_words = re.sub(r"[^\w]+", " ", text).strip().casefold()
    return f" {last_words}".endswith(f" {truth.casefold()}")


def _value(number: str) -> float:
    return float(number.replace(",", ""))
