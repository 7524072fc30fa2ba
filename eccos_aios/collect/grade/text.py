"""Graders of text: ``exact``, ``contains`` and ``f1``, normalised as SQuAD does."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from eccos_aios.collect.grade.final import passages

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TYPOGRAPHIC = str.maketrans(dict.fromkeys("“”„«»‘’‚…–—¿¡", " "))  # SQuAD's script handles only ASCII
_UNANSWERABLE = frozenset({"", "unanswerable", "no answer", "noanswer", "not answerable", "none"})


def normalised(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces.

    `normalize_answer` of SQuAD's evaluation script (v1.1 and v2.0), after whose rules typographic
    quotation marks and dashes become spaces.
    """
    text = text.lower().translate(_TYPOGRAPHIC).translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact(answer: str, truths: Sequence[str]) -> float:
    """1 where a passage of the answer that may be its result equals a truth once both are normalised.

    Passages: the whole answer, ``\\boxed{…}``, the text after “the answer is”, the last line, its emphasised
    part, and its last statement.
    """
    wanted = {_normalised_or_bare(truth) for truth in truths}
    return float(any(_normalised_or_bare(passage) in wanted for passage in passages(answer)))


def contains(answer: str, truths: Sequence[str]) -> float:
    """1 where the answer holds a truth as whole words, both normalised."""
    inside = f" {normalised(answer)} "
    return float(any(f" {normalised(truth)} " in inside for truth in truths))


def f1(answer: str, truths: Sequence[str]) -> float:
    """Overlap of words with the closest truth, as SQuAD scores it.

    2 × precision × recall / (precision + recall) over normalised words. Where the truth is empty (SQuAD
    2.0: the passage has no answer), an empty answer or one like “unanswerable” gives 1, any other 0.
    """
    return max(_f1(answer, truth) for truth in truths)


def _f1(answer: str, truth: str) -> float:
    wanted = normalised(truth).split()
    given = normalised(answer)
    if not wanted:
        return float(given in _UNANSWERABLE)
    words = given.split()
    common = sum((Counter(words) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _normalised_or_bare(text: str) -> str:
    """The normalised text; the text itself where that leaves nothing (“A”, “the”, “+”)."""
    return normalised(text) or text.strip(" \t\n.*_\"'“”`").lower()
