"""Which choice an answer takes, in letters or words, alone or in prose."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.collect.grade import LETTERS, multiple_choice, selected_choice

CITIES = ["Paris", "Rome", "London", "Paris, Texas"]


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("B", 1),
        ("b", 1),
        ("(b)", 1),
        ("B.", 1),
        ("B) Rome", 1),
        ("B. Rome", 1),
        ("**D**", 3),
        ("B\n\nBecause Rome is older than D.", 1),
        ("The answer is (C).", 2),
        ("The answer is C", 2),
        ("The correct answer is option C, not A.", 2),
        ("Answer: B) Rome", 1),
        ("Answer:\nB", 1),
        ("**Answer: C**", 2),
        ("the correct option is: **A. Paris**", 0),
        (r"\boxed{B}", 1),
        (r"\boxed{\text{C}}", 2),
        ("I think it is B.", 1),
        ("I would choose C because it rains there.", 2),
        ("Option A is wrong, so the answer is D", 3),
        ("A is tempting. B is not.\nThe answer is A.", 0),
        ("Some thoughts about A and B.\n\nC", 2),
        ("The answer is Rome.", 1),
        ("Rome", 1),
        ("It must be Paris, Texas.", 3),
        ("A city called Rome is what is meant", 1),
        ("A dog", None),
        ("I do not know", None),
        ("Rome or London", None),
        ("None of these", None),
        ("The answer is E.", None),
        ("Romeo", None),
        ("", None),
    ],
)
def test_the_choice_that_is_taken(answer: str, choice: int | None) -> None:
    assert selected_choice(answer, CITIES) == choice


FRAMES = st.sampled_from(
    [
        "{letter}",
        "({letter})",
        "{letter}. {text}",
        "The answer is {letter}.",
        "The answer is ({letter}) {text}.",
        "Let us see.\n\nThe correct answer is **{letter}**.",
        "Answer: {letter}",
        "\\boxed{{{letter}}}",
    ]
)


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), FRAMES)
def test_every_letter_is_understood_in_every_frame(place: int, right: int, frame: str) -> None:
    choices = [
        f"number {name}"
        for name in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    ]
    answer = frame.format(letter=LETTERS[place], text=choices[place])
    assert multiple_choice(answer, choices, right) == (place == right)


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    assert selected_choice(text, CITIES) in (None, 0, 1, 2, 3)
