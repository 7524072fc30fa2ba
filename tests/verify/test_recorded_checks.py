"""A history's answers are checked as they were recorded, and say where a call is expected."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eccos_aios.history import Outcome, Record
from eccos_aios.verify import call_history, check_record

TOOLS = [{"name": "stop", "parameters": {"type": "object", "properties": {}}}]
CALL = [{"name": "stop", "arguments": {}}]


def record(category: str, *predictions: Any, right: bool = False) -> Record:
    outputs = tuple(
        Outcome(model_name=f"core{number}", correctness=right or isinstance(each, list), prediction=each)
        for number, each in enumerate(predictions)
    )
    return Record(query="stop", tools=TOOLS, category=category, outputs=outputs)


def test_a_call_is_expected_where_answers_without_one_were_wrong() -> None:
    wrong = [record("act", CALL, "I would rather not.") for _ in range(20)]
    right = [record("chat", "No tool fits here.", right=True) for _ in range(20)]
    learned = call_history([*wrong, *right])
    assert learned.expects_call("act")
    assert not learned.expects_call("chat")
    assert not learned.expects_call("never seen")  # half of all were right
    assert not check_record(wrong[0], learned)["core1"].passes
    assert check_record(right[0], learned)["core0"].passes


def test_a_few_answers_prove_nothing() -> None:
    assert not call_history([record("act", CALL, "No.") for _ in range(9)]).expects_call("act")


def test_a_null_answer_is_empty_only_where_answers_were_recorded() -> None:
    learned = call_history([])
    assert check_record(record("act", None, CALL), learned)["core0"].reason == "empty"
    assert check_record(record("act", None, None), learned) == {}


def test_an_answer_without_text_counts_as_it_was_checked_when_it_came() -> None:
    outputs = (
        Outcome(model_name="a", correctness=True, answer_passes=True, answer_key="0123456789abcdef"),
        Outcome(model_name="b", correctness=True, answer_passes=False),
    )
    found = check_record(Record(query="", outputs=outputs), call_history([]))
    assert (found["a"].passes, found["a"].key) == (True, "0123456789abcdef")
    assert (found["b"].passes, found["b"].key) == (False, None)


def test_a_text_free_record_keeps_what_the_checks_found() -> None:
    outcome = Outcome(
        model_name="a", correctness=True, prediction="B", answer_passes=True, answer_key="0123456789abcdef"
    )
    bare = Record(query="x", outputs=(outcome,)).without_text().outputs[0]
    assert (bare.prediction, bare.answer_passes, bare.answer_key) == (None, True, "0123456789abcdef")


def test_a_key_that_is_no_hash_is_refused() -> None:
    with pytest.raises(ValidationError, match="answer_key"):
        Outcome(model_name="a", correctness=True, answer_passes=True, answer_key="the answer itself")
