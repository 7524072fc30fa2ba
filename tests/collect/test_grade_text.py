"""Graders of text and numbers: what a core means, however it words it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.collect.grade import contains, exact, f1, final_number, normalised, numeric, without_thinking

WORDS = st.lists(st.from_regex(r"[b-z]{2,8}", fullmatch=True), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        ("a  an the THE", ""),
        ("U.S.A.", "usa"),
        ("“Don’t”", "don t"),
        ("Theatre and another", "theatre and another"),
        ("  many \n lines\t", "many lines"),
        ("state-of-the-art", "stateoftheart"),  # as in SQuAD's script: punctuation goes before articles
    ],
)
def test_text_is_normalised_as_squad_does(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("answer", "truths", "score"),
    [
        ("Denver Broncos", ["Denver Broncos"], 1.0),
        ("the Denver Broncos.", ["Denver Broncos"], 1.0),
        ("Broncos", ["Denver Broncos"], 2 / 3),
        ("the team of Denver", ["Denver Broncos"], 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)),
        ("Carolina", ["Denver Broncos"], 0.0),
        ("Broncos", ["Denver Broncos", "Broncos"], 1.0),
        ("Denver Denver", ["Denver"], 2 / 3),
        ("", ["Denver"], 0.0),
        ("", [""], 1.0),
        ("unanswerable", [""], 1.0),
        ("Denver", [""], 0.0),
    ],
)
def test_f1_is_squads(answer: str, truths: list[str], score: float) -> None:
    assert f1(answer, truths) == pytest.approx(score)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_f1_is_symmetric_bounded_and_whole_for_the_same_words(one: list[str], other: list[str]) -> None:
    score = f1(" ".join(one), [" ".join(other)])
    assert score == pytest.approx(f1(" ".join(other), [" ".join(one)]))
    assert 0 <= score <= 1
    assert f1(" ".join(reversed(one)), [" ".join(one)]) == 1
    assert (score == 0) == (not set(one) & set(other))


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("Paris", "paris", True),
        ("The answer is Paris.", "Paris", True),
        ("Let me think. It could be Rome.\nThe answer is: **Paris**", "Paris", True),
        (r"So we get \boxed{Paris}.", "Paris", True),
        (r"\boxed{\{a, b\}}", r"\{a, b\}", True),
        ("It falls on a *Monday*.", "Monday", True),
        ("That is 3 March 2021.", "3 March 2021", True),
        ("That is 13 March 2021.", "3 March 2021", False),
        ("Monday, no: Tuesday", "Monday", False),
        ("It is not Paris.", "Paris", False),
        ("I thought of Paris, but the answer is Rome.", "Paris", False),
        ("Blue Monday", "day", False),
        ("The answer is a.", "a", True),
        ("The answer is b.", "a", False),
        ("The answer is the.", "a", False),
        ("", "Paris", False),
    ],
)
def test_exact_looks_where_the_result_stands(answer: str, truth: str, right: bool) -> None:
    assert exact(answer, [truth]) == right


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("I would say it was the Eiffel tower, in Paris.", "The Eiffel Tower", True),
        ("Parisian", "Paris", False),
        ("12 March", "2 March", False),
        ("", "Paris", False),
    ],
)
def test_contains_wants_whole_words(answer: str, truth: str, right: bool) -> None:
    assert contains(answer, [truth]) == right


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("42", 42),
        ("The answer is 42.", 42),
        ("The answer is 42. I checked it in 2 ways.", 42),
        ("First 7, then 9, so 16", 16),
        ("3 × 14 = 42 apples", 42),
        ("The answer is 3 + 4 = 7 apples.", 7),
        ("1,234,567 people", 1_234_567),
        ("1 of 2,5", 5),  # no thousands separator: two numbers
        ("$1,234.50", 1234.5),
        ("€ 5", 5),
        ("-5", -5),
        ("−5 °C", -5),
        ("- 5", -5),
        ("10-5", 5),  # a difference or a range, not minus five
        ("It costs -$3", -3),
        (".5 litres", 0.5),
        ("12.50.", 12.5),
        ("3/4", 0.75),
        ("1 1/2 cups", 1.5),
        ("-3/4", -0.75),
        (r"\boxed{\frac{3}{4}}", 0.75),
        (r"$-\frac{1}{2}$", -0.5),
        (r"2\frac{1}{2}", 2.5),
        (r"\boxed{1{,}000}", 1000),
        (r"\boxed{12\text{ km}}", 12),
        (r"$\boxed{7}$ and then I saw 9 more", 7),
        ("1.2e3", 1200),
        ("3 × 10^8 m/s", 3e8),
        ("3·10⁻² m", 0.03),
        ("#### 18", 18),
        ("**Answer:** 18 dollars", 18),
        ("Final answer:\n\n18", 18),
        ("Answer: about 5 km", 5),
        ("the result equals 12", 12),
        ("1/0", None),
        ("none", None),
        ("", None),
        ("9" * 5000, None),
        ("1e999", None),
    ],
)
def test_the_number_that_an_answer_gives(answer: str, number: float | None) -> None:
    found = final_number(answer)
    assert (None if found is None else found.value) == (None if number is None else pytest.approx(number))


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50 percent", 0.5, True),
        ("0.5", "50%", True),
        ("5%", "0.5", False),
        ("0.50", "1/2", True),
        ("3.14", "3.14159", False),
        ("1000", "1,000", True),
        ("0", 0, True),
        ("0.001", 0, False),
        ("18 and 20", "18", False),
    ],
)
def test_numbers_are_compared_by_value(answer: str, truth: str | float, right: bool) -> None:
    assert numeric(answer, [truth]) == right


def test_the_tolerance_is_relative() -> None:
    assert numeric("3.14", [3.14159], tolerance=1e-3) == 1
    assert numeric("314", [314.159], tolerance=1e-3) == 1
    assert numeric("3.2", [3.14159], tolerance=1e-3) == 0


FRAMES = st.sampled_from(
    [
        "{}",
        "The answer is {}.",
        "**Answer:** {} apples",
        r"\boxed{{{}}}",
        "7 + 8 is 15; so #### {}",
        "It is ${}",
    ]
)


@settings(deadline=None)
@given(st.integers(-(10**12), 10**12), FRAMES, st.sampled_from([str, "{:,}".format, "{:_}".format]))
def test_whole_numbers_survive_every_frame_and_separator(value: int, frame: str, written: object) -> None:
    answer = frame.format(written(value))  # type: ignore[operator]
    assert numeric(answer, [value]) == 1
    assert numeric(answer, [value + 1 + abs(value) // 1000]) == 0


@settings(deadline=None)
@given(st.floats(-1e9, 1e9, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6))
def test_decimals_are_read_as_they_are_written(value: float) -> None:
    found = final_number(f"The answer is {value!r}.")
    assert found is not None
    assert math.isclose(found.value, value)


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_a_grader(text: str) -> None:
    for score in (numeric(text, ["1"]), exact(text, ["x"]), contains(text, ["x"]), f1(text, ["x"])):
        assert 0 <= score <= 1


@pytest.mark.parametrize(
    "text",
    ["<think>It is 5, no, 6.</think>\n7", "It is 5.\n</think>7", "<thinking>\n5\n</thinking>7", "7<think>5"],
)
def test_what_is_thought_does_not_count(text: str) -> None:
    assert without_thinking(text) == "7"
