"""The ``numeric`` grader: the number that an answer states as its result."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eccos_aios.collect.grade.final import after_cue, boxed, first_sentence

TOLERANCE = 1e-6  # relative; an error of rounding in the sixth decimal

_DIGITS = r"(?:\d{1,3}(?:[,_\u00a0\u2009\u202f']\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)\]])[-+]\s?(?=[$€£¥\\\d.]))?
    [$€£¥]?\s?
    (?:
      (?:(?P<whole>\d+)[\s-]*)?\\[dt]?frac\{{\s*(?P<top>-?\d+)\s*\}}\{{\s*(?P<bottom>\d+)\s*\}}
      | (?:(?P<mixed>\d+)\s+)?(?<![\d./,])(?P<over>\d+)\s?/\s?(?P<under>\d+)(?![\d/])(?!\.\d)
      | (?P<digits>{_DIGITS})
        (?:\s?(?:[×x*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{{?(?P<power>[-+]?\d+)\}}?|[eE](?P<e>[-+]?\d+)(?!\w))?
    )
    (?P<percent>\s?\\?%|\s?percent\b)?
    """,
    re.VERBOSE,
)
_SEPARATORS = re.compile(r"[,_\u00a0\u2009\u202f']")
_SIGNS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-"})
_LATEX_SPACE = re.compile(r"\\[,;:! ]|\{,\}|~")
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT = re.compile(r"(?<=10)[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")


@dataclass(frozen=True)
class Number:
    """A number as it was written: its value, and whether a percent sign follows it."""

    value: float
    percent: bool = False

    @property
    def readings(self) -> tuple[float, ...]:
        """50 % may mean 50 or 0.5: benchmarks use both."""
        return (self.value, self.value / 100) if self.percent else (self.value,)


def numbers(text: str) -> list[Number]:
    r"""Every number in a text, in order.

    Thousands separators (comma, underscore, thin space, apostrophe), currency signs, decimals,
    exponents, ``3 × 10^4``, ``3/4``, ``1 1/2``, ``\frac{3}{4}`` and percentages are read; units are not.
    """
    text = _LATEX_SPACE.sub(lambda found: "," if found[0] == "{,}" else " ", text.translate(_SIGNS))
    text = _SUPERSCRIPT.sub(lambda found: "^" + found[0].translate(_POWERS), text)
    return [number for match in _NUMBER.finditer(text) if (number := _read(match)) is not None]


def numeric(answer: str, truths: Sequence[str | float], tolerance: float = TOLERANCE) -> float:
    r"""1 if the answer's result equals a truth, else 0.

    The result is the content of ``\boxed{…}``, else the text after “the answer is” or ``####`` (after its
    last equals sign, if it has one), else the last number of the answer.

    Parameters
    ----------
    answer : str
    truths : sequence of str or float
        The accepted results.
    tolerance : float
        Relative.
    """
    given = final_number(answer)
    if given is None:
        return 0.0
    return float(
        any(
            math.isclose(reading, wanted, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
            for truth in truths
            for wanted in truth_number(truth).readings
            for reading in given.readings
        )
    )


def final_number(answer: str) -> Number | None:
    """The number that the answer states as its result; None if it states none."""
    for passage in _results(answer):
        found = numbers(passage.rpartition("=")[2])
        if found:
            return found[0]
    every = numbers(answer)
    return every[-1] if every else None


def truth_number(truth: str | float) -> Number:
    """A truth as a number; ValueError if it is not one."""
    if not isinstance(truth, str):
        return Number(float(truth))
    found = numbers(truth)
    if len(found) != 1:
        raise ValueError(f"must hold one number, not {len(found)}")
    return found[0]


def _results(answer: str) -> Iterator[str]:
    for passage in (boxed(answer), after_cue(answer)):
        if passage is not None:
            yield first_sentence(passage)


def _read(match: re.Match[str]) -> Number | None:
    part = match.groupdict()
    if part["top"] is not None:
        value = _fraction(part["whole"], part["top"], part["bottom"])
    elif part["over"] is not None:
        value = _fraction(part["mixed"], part["over"], part["under"])
    else:
        value = float(_SEPARATORS.sub("", part["digits"]))
        power = part["power"] or part["e"]
        try:
            value *= 10.0 ** int(power) if power else 1.0
        except (OverflowError, ValueError):
            return None
    if not math.isfinite(value):
        return None
    negative = (part["sign"] or "").startswith("-")
    return Number(-value if negative else value, part["percent"] is not None)


def _fraction(whole: str | None, top: str, bottom: str) -> float:
    divisor = float(bottom)
    return float(whole or 0) + float(top) / divisor if divisor else math.nan
