"""Reading question sets: JSON lines, the published files of four benchmarks, and the built-in set."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eccos_aios.collect import Format
from eccos_aios.collect.generated import grader_of, make_questions
from eccos_aios.collect.question import Question
from eccos_aios.errors import ABSENT, QuestionError, from_validation
from eccos_aios.history.lines import numbered_lines, read_content

BUILTIN = "builtin"
BUILTIN_QUESTIONS = 300
BUILTIN_SEED = 2502_20576  # arbitrary but fixed, so that everyone collects the same set

GSM8K_MARK = "####"  # precedes the result in GSM8K's answers
MMLU_COLUMNS = 6  # question, four choices, letter
MMLU_HEADER_END = "answer"  # the published files have no header, but copies may

# A question as read, not yet validated, with its place.
_RawQuestions = Iterator[tuple[str, dict[str, Any]]]


def read_questions(paths: Sequence[str | Path], form: Format | None = None) -> list[Question]:
    """Read question sets, in the order given; each question once.

    Parameters
    ----------
    paths : sequence of str or Path
        Files, plain or gzipped; ``builtin`` stands for `builtin_questions`.
    form : {"jsonl", "gsm8k", "mmlu", "squad", "hotpotqa"}, optional
        Of all files. Default: recognised by each file's content.

    Raises
    ------
    QuestionError
        A file cannot be read or a question in it is wrong or has another's id; names file, place, key
        and value.
    """
    questions: dict[str, Question] = {}
    for path in paths:
        for source, question in _questions(path, form):
            other = questions.setdefault(question.id, question)
            if other != question:
                raise QuestionError(source, "id", question.id, "is another question's too")
    if not questions:
        raise QuestionError(", ".join(map(str, paths)), "", ABSENT, "holds no questions")
    return list(questions.values())


def builtin_questions() -> list[Question]:
    """300 generated questions: arithmetic, units, dates, strings, sequences, stories; four levels each."""
    return [
        Question(
            id=f"builtin-{place:03}",
            question=made.text,
            answer=made.truth,
            grader=grader_of(made.truth),
            category=made.category,
        )
        for place, made in enumerate(make_questions(BUILTIN_QUESTIONS, BUILTIN_SEED))
    ]


def format_of(content: bytes) -> Format:
    """The format of a file, by its content."""
    head = content.lstrip()
    if head[:1] == b"[":
        return "hotpotqa"
    if head[:1] != b"{":
        return "mmlu"
    first_line = head.split(b"\n", 1)[0]
    try:
        first = json.loads(first_line)
    except ValueError:  # one JSON object over many lines
        return "squad" if re.search(rb'"data"\s*:\s*\[', head[:2000]) else "jsonl"
    if isinstance(first.get("data"), list):
        return "squad"
    answer = first.get("answer")
    return "gsm8k" if "grader" not in first and GSM8K_MARK in str(answer) else "jsonl"


def _questions(path: str | Path, form: Format | None) -> Iterator[tuple[str, Question]]:
    if str(path) == BUILTIN:
        for question in builtin_questions():
            yield BUILTIN, question
        return
    path = Path(path)
    content = read_content(path, QuestionError)
    for source, found in _READERS[form or format_of(content)](path, content):
        try:
            question = Question.model_validate(found)
        except ValidationError as error:
            raise from_validation(QuestionError, source, error, Question) from error
        yield source, question


def _json_lines(path: Path, content: bytes) -> _RawQuestions:
    for number, line in numbered_lines(content):
        source = f"{path}:{number}"
        found = _loaded(source, line)
        if not isinstance(found, dict):
            raise QuestionError(source, "", found, "must be a JSON object")
        yield source, found


def _gsm8k(path: Path, content: bytes) -> _RawQuestions:
    """``{"question", "answer"}``; the answer is a derivation, then ``#### result``."""
    for source, found in _json_lines(path, content):
        _, mark, result = str(_part(source, found, "answer")).rpartition(GSM8K_MARK)
        if not mark:
            raise QuestionError(source, "answer", found["answer"], f"holds no {GSM8K_MARK} before its result")
        yield (
            source,
            {
                "question": _part(source, found, "question"),
                "answer": result.strip(),
                "grader": "numeric",
                "category": "gsm8k",
            },
        )


def _mmlu(path: Path, content: bytes) -> _RawQuestions:
    """Rows of question, four choices, letter; the subject is in the file's name."""
    subject = re.sub(r"_(test|dev|val|auxiliary_train)$", "", path.name.split(".")[0])
    try:
        rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        for row in rows:
            source = f"{path}:{rows.line_num}"
            if not row or (rows.line_num == 1 and row[-1] == MMLU_HEADER_END):
                continue
            if len(row) != MMLU_COLUMNS:
                raise QuestionError(
                    source, "", row, f"must have {MMLU_COLUMNS} columns: question, four choices, letter"
                )
            if row[-1].strip() not in ("A", "B", "C", "D"):
                raise QuestionError(source, "answer", row[-1], "must be one of A, B, C, D")
            yield (
                source,
                {
                    "question": row[0],
                    "choices": row[1:5],
                    "answer": "ABCD".index(row[-1].strip()),
                    "category": f"mmlu {subject}",
                },
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise QuestionError(str(path), "", ABSENT, f"is not CSV: {error}") from error


def _squad(path: Path, content: bytes) -> _RawQuestions:
    """SQuAD 1.1 and 2.0; a question without an answer in its passage has the empty answer."""
    for article_place, article in enumerate(_items(str(path), _loaded(str(path), content), "data")):
        within = f"{path}: data[{article_place}]"
        for place, paragraph in enumerate(_items(within, article, "paragraphs")):
            passage = f"{within}.paragraphs[{place}]"
            for asked_place, asked in enumerate(_items(passage, paragraph, "qas")):
                source = f"{passage}.qas[{asked_place}]"
                answers = [_part(source, one, "text") for one in _items(source, asked, "answers")]
                yield (
                    source,
                    {
                        "id": asked.get("id"),
                        "question": _part(source, asked, "question"),
                        "context": _part(passage, paragraph, "context"),
                        "answer": list(dict.fromkeys(answers)) or [""],
                        "grader": "f1",
                        "category": "squad",
                    },
                )


def _hotpotqa(path: Path, content: bytes) -> _RawQuestions:
    """``{"_id", "question", "answer", "context": [[title, [sentence, …]], …]}`` in an array."""
    items = _loaded(str(path), content)
    if not isinstance(items, list):
        raise QuestionError(str(path), "", ABSENT, "must be a JSON array of HotpotQA's questions")
    for place, asked in enumerate(items):
        source = f"{path}[{place}]"
        paragraphs = _items(source, asked, "context")
        try:
            passages = [f"{title}: {''.join(sentences).strip()}" for title, sentences in paragraphs]
        except (TypeError, ValueError) as error:
            raise QuestionError(
                source, "context", paragraphs, "must be a list of titles with their sentences"
            ) from error
        yield (
            source,
            {
                "id": asked.get("_id"),
                "question": _part(source, asked, "question"),
                "context": "\n".join(passages),
                "answer": _part(source, asked, "answer"),
                "grader": "f1",
                "category": "hotpotqa",
            },
        )


def _loaded(source: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if error.lineno > 1 else ""
        why = f"is not JSON: {error.msg} at {line}column {error.colno}"
        raise QuestionError(source, "", ABSENT, why) from error
    except (ValueError, RecursionError) as error:
        raise QuestionError(source, "", ABSENT, f"is not JSON: {error}") from error


def _part(source: str, found: Any, key: str) -> Any:
    if not isinstance(found, Mapping):
        raise QuestionError(source, "", found, "must be a JSON object")
    if key not in found:
        raise QuestionError(source, key, ABSENT, "required, but absent")
    return found[key]


def _items(source: str, found: Any, key: str) -> Iterable[Any]:
    items = _part(source, found, key)
    if not isinstance(items, list):
        raise QuestionError(source, key, items, "must be a list")
    return items


_READERS: dict[Format, Callable[[Path, bytes], _RawQuestions]] = {
    "jsonl": _json_lines,
    "gsm8k": _gsm8k,
    "mmlu": _mmlu,
    "squad": _squad,
    "hotpotqa": _hotpotqa,
}
