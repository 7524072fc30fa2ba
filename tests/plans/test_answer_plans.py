"""Plans: their names, and the rules by which their answers are accepted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_aios.plans import AnswerPlan, PlanProgress
from eccos_aios.verify import AnswerCheck

PLANS = [
    AnswerPlan.single("a"),
    AnswerPlan.check("a", "b"),
    AnswerPlan.agree("a", "b", "c"),
    AnswerPlan.agree("a", "b", "c", "d"),
]
WRONG = AnswerCheck(passes=False, reason="empty")
names = st.text("ab+>:", min_size=1, max_size=4)


def right(key: str | None = None) -> AnswerCheck:
    return AnswerCheck(passes=True, key=key)


def played(plan: AnswerPlan, **answers: AnswerCheck | None) -> tuple[str | None, tuple[str, ...]]:
    """Whose answer is given, and who was asked, one after the other; None is a core that fails."""
    progress = PlanProgress(plan)
    while (core := progress.next_core()) is not None:
        assert progress.is_open
        assert progress.final is None
        check = answers[core]
        if check is None:
            progress.failed(core)
        else:
            progress.answered(core, check)
    return progress.final, progress.asked


CASES: list[tuple[AnswerPlan, dict[str, AnswerCheck | None], str | None, str]] = [
    (PLANS[0], {"a": right()}, "a", "a"),
    (PLANS[0], {"a": WRONG}, "a", "a"),  # a wrong answer is better than none
    (PLANS[0], {"a": None}, None, "a"),
    (PLANS[1], {"a": right()}, "a", "a"),
    (PLANS[1], {"a": WRONG, "b": right()}, "b", "ab"),
    (PLANS[1], {"a": WRONG, "b": WRONG}, "b", "ab"),
    (PLANS[1], {"a": WRONG, "b": None}, "a", "ab"),
    (PLANS[1], {"a": None, "b": WRONG}, "b", "ab"),
    (PLANS[2], {"a": right("x"), "b": right("x")}, "a", "ab"),
    (PLANS[2], {"a": right("x"), "b": right("y"), "c": right("y")}, "c", "abc"),
    (PLANS[2], {"a": right("x"), "b": right("y"), "c": right("z")}, "c", "abc"),
    (PLANS[2], {"a": right("x"), "b": right("y"), "c": WRONG}, "a", "abc"),
    (PLANS[2], {"a": WRONG, "b": right("y"), "c": WRONG}, "b", "abc"),
    (PLANS[2], {"a": WRONG, "b": None, "c": right()}, "c", "abc"),
    (PLANS[2], {"a": WRONG, "b": WRONG, "c": None}, "b", "abc"),
    (PLANS[2], {"a": right(), "b": right(), "c": right()}, "c", "abc"),  # free chat agrees with nothing
    (PLANS[3], {"a": right("x"), "b": right("x")}, "a", "ab"),
    (PLANS[3], {"a": right("x"), "b": right("y"), "c": right("y")}, "b", "abc"),
    (PLANS[3], {"a": WRONG, "b": right("y"), "c": right("y")}, "b", "abc"),
    (PLANS[3], {"a": right("x"), "b": right("y"), "c": right("z"), "d": right("w")}, "d", "abcd"),
    (PLANS[3], {"a": right("x"), "b": right("y"), "c": right("z"), "d": WRONG}, "a", "abcd"),
    (PLANS[3], {"a": None, "b": None, "c": right("z"), "d": None}, "c", "abcd"),
]


@pytest.mark.parametrize(("plan", "answers", "given", "asked"), CASES)
def test_the_first_acceptable_answer_is_given(
    plan: AnswerPlan, answers: dict[str, AnswerCheck | None], given: str | None, asked: str
) -> None:
    assert played(plan, **answers) == (given, tuple(asked))


@dataclass
class Played:
    progress: PlanProgress
    asked: list[str]
    ended: dict[str, AnswerCheck | None]


checks = st.none() | st.builds(
    lambda passes, key: AnswerCheck(passes, key if passes else None),
    st.booleans(),
    st.sampled_from([None, "x", "y"]),
)


@st.composite
def plays(draw: st.DrawFn) -> Played:
    """A plan played in any order: cores asked one by one or side by side, ending in any order."""
    progress = PlanProgress(draw(st.sampled_from(PLANS)))
    asked: list[str] = []
    ended: dict[str, AnswerCheck | None] = {}
    for _ in range(20):
        waiting = [core for core in asked if core not in ended]
        if not waiting or draw(st.booleans()):
            core = progress.next_core()
            if core is not None:
                asked.append(core)
                continue
        if not waiting:
            break
        core, check = draw(st.sampled_from(waiting)), draw(checks)
        assert progress.is_open
        ended[core] = check
        if check is None:
            progress.failed(core)
        else:
            progress.answered(core, check)
    return Played(progress, asked, ended)


@given(plays())
def test_a_plan_ends_asks_no_core_twice_and_prefers_an_answer_that_passes(play: Played) -> None:
    progress, plan = play.progress, play.progress.plan
    assert not progress.is_open
    assert len(set(play.asked)) == len(play.asked)
    assert set(play.asked) <= set(plan.every_core)
    assert set(play.asked) == set(play.ended)
    final = progress.final
    answers = {core: check for core, check in play.ended.items() if check is not None}
    passing = {core for core, check in answers.items() if check.passes}
    assert (final is None) == (not answers)
    assert final in (passing or answers or {None})


@given(plays())
def test_the_order_in_which_answers_come_changes_nothing(play: Played) -> None:
    one_by_one = played(play.progress.plan, **{**dict.fromkeys("abcd"), **play.ended})
    assert one_by_one == (play.progress.final, play.progress.asked)


def test_only_a_core_that_was_asked_ends_and_only_once() -> None:
    progress = PlanProgress(PLANS[1])
    with pytest.raises(ValueError, match="'a': was not asked"):
        progress.answered("a", right())
    assert progress.next_core() == "a"
    assert progress.next_core() is None  # whether b is needed is not known yet
    progress.failed("a")
    with pytest.raises(ValueError, match="'a': has ended"):
        progress.answered("a", right())


@pytest.mark.parametrize(
    ("plan", "name", "written"),
    list(
        zip(
            PLANS,
            ["a", "check:a>b", "agree:a+b>c", "agree:a+b+c>d"],
            [
                {"kind": "single", "cores": ["a"]},
                {"kind": "check", "cores": ["a"], "else": "b"},
                {"kind": "agree", "cores": ["a", "b"], "else": "c"},
                {"kind": "agree", "cores": ["a", "b", "c"], "else": "d"},
            ],
            strict=True,
        )
    ),
)
def test_a_plan_is_written_as_the_contract_says(
    plan: AnswerPlan, name: str, written: dict[str, object]
) -> None:
    assert plan.name == name
    assert AnswerPlan.parse(name) == plan
    assert plan.to_dict() == written


@given(st.lists(names, min_size=4, max_size=4, unique=True), st.integers(0, 3))
def test_a_name_is_read_back_or_refused_whatever_the_cores_are_called(cores: list[str], kind: int) -> None:
    a, b, c, d = cores
    every = (
        AnswerPlan.single(a),
        AnswerPlan.check(a, b),
        AnswerPlan.agree(a, b, c),
        AnswerPlan.agree(a, b, c, d),
    )
    plan = every[kind]
    try:
        assert AnswerPlan.parse(plan.name, cores) == plan
    except ValueError as error:
        assert "ways" in str(error)


@pytest.mark.parametrize("name", ["", "check:a", "check:>b", "agree:a>b", "agree:a+b", "agree:a+a>b"])
def test_what_is_no_plan_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="plan: "):
        AnswerPlan.parse(name)


def test_a_plan_of_an_unknown_core_is_refused() -> None:
    with pytest.raises(ValueError, match="'check:a>z'"):
        AnswerPlan.parse("check:a>z", ["a", "b"])


@pytest.mark.parametrize(
    "parts",
    [
        ("single", ("a",), "b"),
        ("check", ("a",), None),
        ("agree", ("a",), "b"),
        ("check", ("a",), "a"),
        ("agree", ("a", "b", "c", "d"), "e"),
        ("agree", ("a", "b", "c"), "b"),
        ("vote", ("a",), None),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(parts: Iterable[object]) -> None:
    with pytest.raises(ValueError, match=r"kind|cores"):
        AnswerPlan(*parts)  # type: ignore[arg-type]
