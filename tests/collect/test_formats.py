"""Question sets: the published files as they are, and the exact place of a fault."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.collect import Format
from eccos_aios.collect.formats import builtin_questions, read_questions
from eccos_aios.collect.generated import CATEGORIES
from eccos_aios.collect.question import Question, grade_answer
from eccos_aios.errors import QuestionError

GSM8K = {
    "question": "Natalia sold 48 clips in April and half as many in May. How many altogether?",
    "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether 48+24 = <<48+24=72>>72.\n#### 72",
}
MMLU = (
    '"Which planet is the largest, by ""volume""?",Mars,Jupiter,Venus,"Earth, of course",B\n'
    '"Say a letter.\nAny.",A,B,C,D,C\n'
)
SQUAD_1 = {
    "version": "1.1",
    "data": [
        {
            "title": "Super_Bowl_50",
            "paragraphs": [
                {
                    "context": "The Denver Broncos won.",
                    "qas": [
                        {
                            "id": "56be4db0",
                            "question": "Who won?",
                            "answers": [
                                {"answer_start": 4, "text": "Denver Broncos"},
                                {"answer_start": 11, "text": "Broncos"},
                                {"answer_start": 4, "text": "Denver Broncos"},
                            ],
                        }
                    ],
                }
            ],
        }
    ],
}
SQUAD_2 = {
    "version": "v2.0",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "qas": [
                        {
                            "plausible_answers": [{"text": "x", "answer_start": 0}],
                            "question": "Who lost?",
                            "id": "5a8d",
                            "answers": [],
                            "is_impossible": True,
                        }
                    ],
                    "context": "The Broncos won.",
                }
            ],
        }
    ],
}
HOTPOT = [
    {
        "_id": "5a8b57f2",
        "answer": "yes",
        "question": "Were Scott and Ed of the same nationality?",
        "supporting_facts": [["Scott", 0]],
        "context": [["Scott", ["Scott is American.", " He directs."]], ["Ed", ["Ed was American."]]],
        "type": "comparison",
        "level": "hard",
    }
]


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def one(path: Path, form: Format | None = None) -> Question:
    (question,) = read_questions([path], form)
    return question


@pytest.mark.parametrize("form", [None, "gsm8k"])
def test_gsm8k(tmp_path: Path, form: Format | None) -> None:
    question = one(written(tmp_path / "test.jsonl", json.dumps(GSM8K) + "\n"), form)
    assert (question.grader, question.answer) == ("numeric", "72")
    assert question.query == GSM8K["question"]
    assert grade_answer(question, "She sold 24 in May. The answer is 72 clips.") == 1


@pytest.mark.parametrize("form", [None, "mmlu"])
def test_mmlu(tmp_path: Path, form: Format | None) -> None:
    planet, letter = read_questions([written(tmp_path / "astronomy_test.csv", MMLU)], form)
    assert planet.query == (
        'Which planet is the largest, by "volume"?\n\nA. Mars\nB. Jupiter\nC. Venus\nD. Earth, of course'
    )
    assert (planet.category, planet.right_choice) == ("mmlu astronomy", 1)
    assert grade_answer(planet, "B") == grade_answer(planet, "The answer is Jupiter.") == 1
    assert (letter.question, letter.right_choice) == ("Say a letter.\nAny.", 2)


@pytest.mark.parametrize("indent", [None, 2])
def test_squad(tmp_path: Path, indent: int | None) -> None:
    question = one(written(tmp_path / "dev.json", json.dumps(SQUAD_1, indent=indent)))
    assert (question.id, question.answer) == ("56be4db0", ["Denver Broncos", "Broncos"])
    assert question.query == "The Denver Broncos won.\n\nWho won?"
    assert grade_answer(question, "the Broncos") == 1
    impossible = one(written(tmp_path / "dev2.json", json.dumps(SQUAD_2, indent=indent)))
    assert grade_answer(impossible, "Unanswerable.") == 1
    assert grade_answer(impossible, "Denver") == 0


def test_hotpotqa(tmp_path: Path) -> None:
    question = one(written(tmp_path / "hotpot_dev.json", HOTPOT))
    assert (question.id, question.grader) == ("5a8b57f2", "f1")
    assert question.query.startswith("Scott: Scott is American. He directs.\nEd: Ed was American.\n\nWere")
    assert grade_answer(question, "Yes.") == 1


def test_own_questions_gzipped_and_in_several_files(tmp_path: Path) -> None:
    asked = {"question": "1 + 1?", "answer": 2, "grader": "numeric", "id": 7}
    chosen = {"question": "Up?", "choices": ["no", "yes"], "answer": "yes"}
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(asked).encode()))
    written(tmp_path / "b.jsonl", json.dumps(asked) + "\n\n" + json.dumps(chosen))
    first, second = read_questions([tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"])
    assert (first.id, second.grader, second.right_choice) == ("7", "multiple_choice", 1)


def test_a_question_without_an_id_has_one_by_its_content(tmp_path: Path) -> None:
    lines = [{"question": "1 + 1?", "answer": 2, "grader": "numeric"}, {**GSM8K}]
    before = one(written(tmp_path / "a.jsonl", lines[0])).id
    assert before == one(written(tmp_path / "b.jsonl", lines[0])).id
    assert before != one(written(tmp_path / "c.jsonl", {**lines[0], "answer": 3})).id


def test_the_built_in_set_is_three_hundred_and_right() -> None:
    questions = builtin_questions()
    assert len({question.query for question in questions}) == len(questions) == 300
    assert {question.category for question in questions} == set(CATEGORIES)
    assert questions == builtin_questions()
    for question in questions:
        assert grade_answer(question, f"Step by step.\nThe answer is {question.answer}.") == 1
        assert grade_answer(question, "I do not know.") == 0


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no"),
        ({"question": "q", "answer": "a"}, "grader: None: must be 'multiple_choice', "),
        ({"question": "q", "answer": "a", "grader": "best"}, "grader: 'best': must be"),
        ({"question": "", "answer": "a", "grader": "exact"}, "question: ''"),
        ({"answer": "a", "grader": "exact"}, "question: required, but absent"),
        ({"question": "q", "answer": "four", "grader": "numeric"}, "numeric needs a number"),
        ({"question": "q", "answer": "4 or 5", "grader": "numeric"}, "must hold one number, not 2"),
        ({"question": "q", "grader": "exact"}, "exact needs a text"),
        ({"question": "q", "answer": [], "grader": "f1"}, "f1 needs a text"),
        ({"question": "q", "answer": " ", "grader": "contains"}, "not empty"),
        ({"question": "q", "answer": "A", "grader": "multiple_choice"}, "needs choices"),
        ({"question": "q", "answer": "D", "choices": ["x", "y"]}, "'D' is not one of the choices"),
        ({"question": "q", "answer": 2, "choices": ["x", "y"]}, "2 is not one of the choices"),
        ({"question": "q", "grader": "json_schema"}, "needs a schema"),
        ({"question": "q", "grader": "json_schema", "schema": {"type": "x"}}, "is not valid"),
        ({"question": "q", "answer": {"f": {}}, "grader": "tool_call"}, "needs tools"),
        ({"question": "q", "answer": "f", "tools": [{"name": "f"}], "grader": "tool_call"}, "must be"),
        ({**GSM8K, "answer": "72", "grader": None}, "grader: "),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, line: Any, fault: str) -> None:
    good = json.dumps({"question": "q", "answer": "a", "grader": "exact"})
    bad = line if isinstance(line, str) else json.dumps(line)
    path = written(tmp_path / "set.jsonl", f"{good}\n{bad}\n")
    if bad.startswith("["):
        fault = "must be a JSON object"
    with pytest.raises(QuestionError) as caught:
        read_questions([path])
    assert str(caught.value).startswith(f"{path}:2: ")
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("x_test.csv", MMLU + "only,three,columns\n", ":4: "),
        ("x_test.csv", "q,a,b,c,d,E\n", ":1: answer: 'E': must be one of A, B, C, D"),
        (
            "x.json",
            {"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]},
            "qas[0]: answers",
        ),
        ("x.json", [{"_id": "1", "context": [], "answer": "a"}], "[0]: question: required"),
        ("x.json", [{"_id": "1", "context": [["t"]], "answer": "a", "question": "q"}], "[0]: context"),
        ("x.csv", "", "holds no questions"),
    ],
)
def test_a_fault_in_a_published_file_is_named_with_its_place(
    tmp_path: Path, name: str, content: Any, place: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(QuestionError) as caught:
        read_questions([path])
    assert str(caught.value).startswith(str(path))
    assert place in str(caught.value)


def test_two_questions_cannot_have_one_id(tmp_path: Path) -> None:
    lines = [{"id": "x", "question": q, "answer": "a", "grader": "exact"} for q in "pq"]
    path = written(tmp_path / "set.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.raises(QuestionError, match=r"set.jsonl:2: id: 'x': is another question's too"):
        read_questions([path])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"none.jsonl: cannot be read"):
        read_questions([tmp_path / "none.jsonl"])
