"""The interfaces of answer checking: the question, the answer, what a check finds, and `Check` itself."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEY_DIGITS = 16  # hexadecimal digits of SHA-256: two answers of a history collide with probability 1e-13


@dataclass(frozen=True)
class Question:
    """What was asked of a core, as far as an answer can be checked against it without the right one.

    Attributes
    ----------
    text : str
        The user's last message.
    tools : sequence of mapping
        Offered tools, in OpenAI's format or as ``{"name", "parameters"}``.
    tool_choice : object
        OpenAI's ``tool_choice``: ``"none"``, ``"auto"``, ``"required"``, or a mapping that names a tool.
    response_format : mapping or None
        OpenAI's ``response_format``, or a JSON schema.
    call_expected : bool
        Whether an answer without a tool call fails, although `tool_choice` does not require one: the
        history of the question's category says that such answers are wrong.
    """

    text: str
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None
    response_format: Mapping[str, Any] | None = None
    call_expected: bool = False


@dataclass(frozen=True)
class Answer:
    """What a core answered.

    Attributes
    ----------
    text : str or None
    tool_calls : sequence or None
        Each ``{"name", "arguments"}`` or in OpenAI's format; arguments as a mapping or as JSON text.
    finish_reason : str or None
        As the provider reported it; ``length``: the answer was cut.
    """

    text: str | None = None
    tool_calls: Sequence[Any] | None = None
    finish_reason: str | None = None


@dataclass(frozen=True)
class AnswerCheck:
    """What the checks found in an answer.

    Attributes
    ----------
    passes : bool
    key : str or None
        Equal for answers that mean the same; None where the answer cannot be compared, as in free chat, or
        does not pass.
    reason : str
        Why the answer fails; empty where it passes.
    """

    passes: bool
    key: str | None = None
    reason: str = ""


PASSES = AnswerCheck(passes=True)


class Check(ABC):
    """A check of answers that needs no right answer.

    Subclass it and declare the class in the entry-point group ``eccos_aios.checks``, or pass an instance to
    `check_answer`. Any thread may call it.
    """

    @abstractmethod
    def check(self, question: Question, answer: Answer) -> AnswerCheck:
        """Check one answer. A check that does not concern the question returns `PASSES`."""


def fails(reason: str) -> AnswerCheck:
    """The verdict on a wrong answer."""
    return AnswerCheck(passes=False, reason=reason)


def key_of(kind: str, normalised: str) -> str:
    """The key of a normalised answer; answers of different kinds never share one."""
    return hashlib.sha256(f"{kind}\x1f{normalised}".encode()).hexdigest()[:KEY_DIGITS]
