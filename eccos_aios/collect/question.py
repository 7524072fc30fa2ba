"""A question with its true answer and grader, and the quality of an answer to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from eccos_aios.collect import grade

Grader = Literal["multiple_choice", "numeric", "exact", "f1", "contains", "json_schema", "tool_call"]
GRADERS: tuple[Grader, ...] = get_args(Grader)

ID_LENGTH = 16  # hexadecimal digits of the content's hash, for a question without an id


def _text_or_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("must be text or a whole number")
    return str(value)


class Question(BaseModel):
    """One question of a set.

    Attributes
    ----------
    question : str
    answer : object
        The truth, in the grader's form: a number (``numeric``); a text or a list of texts, one of which has
        to match (``exact``, ``f1``, ``contains``); a choice's letter, its place from 0 on, or its text
        (``multiple_choice``); calls (``tool_call``); a value that the JSON must equal, if any
        (``json_schema``).
    grader : str
        One of `GRADERS`. Default: ``multiple_choice`` if there are choices.
    choices : list of str or None
        Two to 26, for ``multiple_choice``.
    id : str
        Unique in the set. Default: a hash of the content.
    context : str or None
        A passage that precedes the question.
    category : str or None
        Recorded with the outcomes.
    tools : list of dict or None
        Offered with the question, in OpenAI's format, with or without its ``function`` wrapper.
    json_schema : dict or None
        For the grader of that name; ``schema`` is the same.
    tolerance : float
        Relative, for ``numeric``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    question: Annotated[str, Field(min_length=1)]
    answer: Any = None
    grader: Grader
    choices: Annotated[list[str], Field(min_length=2, max_length=len(grade.LETTERS))] | None = None
    id: Annotated[str, BeforeValidator(_text_or_number)] = ""
    context: str | None = None
    category: str | None = None
    tools: list[dict[str, Any]] | None = None
    json_schema: Annotated[Any, Field(alias="schema")] = None
    tolerance: Annotated[float, Field(strict=True, ge=0, lt=1)] = 1e-6

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        filled = dict(content)
        if filled.get("id") is None:
            text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str)
            filled["id"] = hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
        if filled.get("grader") is None:
            # null where it is absent, so that the error lists the graders
            filled["grader"] = "multiple_choice" if filled.get("choices") else None
        if "json_schema" in filled and "schema" not in filled:
            filled["schema"] = filled.pop("json_schema")
        return filled

    @model_validator(mode="after")
    def _can_be_graded(self) -> Question:
        _CHECKS[self.grader](self)
        return self

    @property
    def query(self) -> str:
        """The user message, and the query of the record: passage, question, choices."""
        lettered = zip(grade.LETTERS, self.choices or (), strict=False)
        choices = "\n".join(f"{letter}. {choice}" for letter, choice in lettered)
        return "\n\n".join(part for part in (self.context, self.question, choices) if part)

    @property
    def truths(self) -> list[Any]:
        """The answers, one of which has to match."""
        return list(self.answer) if isinstance(self.answer, list) else [self.answer]

    @property
    def right_choice(self) -> int:
        """Index of the right choice."""
        return _place(self.answer, self.choices or ())


def grade_answer(
    question: Question, text: str, tool_calls: Sequence[Mapping[str, Any]] | None = None
) -> float:
    """The quality of an answer, 0 to 1; the thoughts of a reasoning model are ignored.

    Parameters
    ----------
    question : Question
    text : str
        The core's answer; empty if it only called tools.
    tool_calls : sequence of mapping, optional
        In OpenAI's format.
    """
    text = grade.without_thinking(text)
    if question.grader == "multiple_choice":
        return grade.multiple_choice(text, question.choices or (), question.right_choice)
    if question.grader == "numeric":
        return grade.numeric(text, question.truths, question.tolerance)
    if question.grader == "json_schema":
        return grade.json_schema(text, question.json_schema, question.answer)
    if question.grader == "tool_call":
        calls = grade.given_calls(tool_calls, text)
        return grade.tool_call(calls, grade.expected_calls(question.answer), question.tools or ())
    by_text = {"exact": grade.exact, "contains": grade.contains, "f1": grade.f1}
    return by_text[question.grader](text, question.truths)


def _place(answer: Any, choices: Sequence[str]) -> int:
    if isinstance(answer, str):
        if answer in choices:
            return choices.index(answer)
        letter = answer.strip().upper()
        if len(letter) == 1 and letter in grade.LETTERS[: len(choices)]:
            return grade.LETTERS.index(letter)
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise ValueError(
        f"answer {answer!r} is not one of the choices; give a letter, an index from 0, or the text"
    )


def _check_choice(question: Question) -> None:
    if question.choices is None:
        raise ValueError("multiple_choice needs choices")
    _place(question.answer, question.choices)


def _check_number(question: Question) -> None:
    if not question.truths:
        raise ValueError("numeric needs an answer")
    for truth in question.truths:
        if isinstance(truth, bool) or not isinstance(truth, (str, int, float)):
            raise ValueError(f"numeric needs a number as answer, not {truth!r}")
        try:
            grade.truth_number(truth)
        except ValueError as error:
            raise ValueError(f"numeric needs a number as answer: {truth!r} {error}") from error


def _check_text(question: Question) -> None:
    if not question.truths or not all(isinstance(truth, str) for truth in question.truths):
        raise ValueError(f"{question.grader} needs a text or a list of texts as answer")
    if question.grader != "f1" and not all(truth.strip() for truth in question.truths):
        raise ValueError(f"{question.grader} needs an answer that is not empty")


def _check_schema(question: Question) -> None:
    if question.json_schema is None:
        raise ValueError("json_schema needs a schema")
    grade.check_schema(question.json_schema)


def _check_calls(question: Question) -> None:
    if not question.tools:
        raise ValueError("tool_call needs tools")
    grade.expected_calls(question.answer)


_CHECKS: dict[Grader, Callable[[Question], None]] = {
    "multiple_choice": _check_choice,
    "numeric": _check_number,
    "exact": _check_text,
    "f1": _check_text,
    "contains": _check_text,
    "json_schema": _check_schema,
    "tool_call": _check_calls,
}
