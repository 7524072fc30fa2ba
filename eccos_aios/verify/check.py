"""check_answer: all checks on one answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from eccos_aios.plugins import Where, load, names
from eccos_aios.verify.base import Answer, AnswerCheck, Check, Question


def check_answer(question: Question, answer: Answer, checks: Sequence[Check] | None = None) -> AnswerCheck:
    """Check an answer. It fails where one check fails it; its key is the first that a check gives.

    Parameters
    ----------
    question : Question
    answer : Answer
    checks : sequence of Check, optional
        Default: the built-in ones, then those that installed packages declare.

    Returns
    -------
    AnswerCheck
        With the reason of the first check that fails it, and then without a key.
    """
    key = None
    for check in installed_checks() if checks is None else checks:
        found = check.check(question, answer)
        if not found.passes:
            return AnswerCheck(passes=False, reason=found.reason)
        key = key or found.key
    return AnswerCheck(passes=True, key=key)


def load_checks(chosen: Sequence[str], where: Where | None = None) -> tuple[Check, ...]:
    """Checks by name: built in, an entry point of ``eccos_aios.checks``, or ``module:Class``.

    Raises
    ------
    ConfigError
        There is no such check, or it cannot be made.
    """
    return tuple(load("checks", name, where=where) for name in chosen)


@cache
def installed_checks() -> tuple[Check, ...]:
    """The built-in checks, then those that installed packages declare by entry point."""
    return load_checks(names("checks"))
