"""The history on the disk: whatever moment it is cut off at, what was acknowledged is there, and once."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.collect.ask import Backoff
from eccos_aios.collect.budget import Budget
from eccos_aios.collect.journal import Journal, RecordedOutcomes
from eccos_aios.collect.question import Question
from eccos_aios.history import read_history

QUESTIONS = [Question(question=f"q{n} é", answer="a", grader="exact") for n in range(4)]
OUTCOMES = [(question, name) for name in ("x", "y") for question in QUESTIONS]


def filled(path: Path, count: int) -> list[int]:
    """Add so many outcomes; the file's size after each."""
    journal, sizes = Journal(path), [0]
    for question, name in OUTCOMES[:count]:
        journal.append(question, {"model_name": name, "quality": 1.0, "prediction": "\ud800 lone"})
        sizes.append(path.stat().st_size)
    journal._file.close()  # as if the process had ended here
    return sizes


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(OUTCOMES)), st.integers(0, 10**6))
def test_cut_anywhere_it_holds_what_was_whole_and_goes_on(
    tmp_path_factory: object, count: int, place: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "history.jsonl"  # type: ignore[attr-defined]
    sizes = filled(path, count)
    cut = place % (sizes[-1] + 1)
    path.write_bytes(path.read_bytes()[:cut])
    whole = sum(size <= cut + 1 for size in sizes[1:])  # a line is whole without its end, too
    assert sum(len(RecordedOutcomes(path).outcomes(question)) for question in QUESTIONS) == whole
    journal = Journal(path)
    for question, name in OUTCOMES:
        if name not in journal.outcomes(question):
            journal.append(question, {"model_name": name, "quality": 0.0})
    journal.close()
    records = read_history(path)
    assert [len(record.outputs) for record in records] == [2] * len(QUESTIONS)
    assert sum(outcome.quality or 0 for record in records for outcome in record.outputs) == whole


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), max_size=30), st.integers(0, 300))
def test_no_order_of_calls_breaks_the_budget(calls: list[tuple[int, float]], most: int) -> None:
    budget, under_way, spent, chance = Budget(most), [], 0.0, random.Random(0)
    for worst, share in calls:
        while not (fits := spent + sum(w for w, _ in under_way) + worst <= most or worst == 0) and under_way:
            reserved, part = under_way.pop(chance.randrange(len(under_way)))
            budget.settle(reserved, spent_usd=reserved * part)
            spent += reserved * part
        if budget.reserve(worst, lambda: False):
            under_way.append((worst, share))
        else:
            assert not fits
        assert spent + sum(w for w, _ in under_way) <= most + 1e-9


@given(st.integers(0, 30), st.none() | st.floats(0, 1e6), st.integers())
def test_pauses_grow_are_jittered_and_have_a_bound(attempt: int, asked_s: float | None, seed: int) -> None:
    backoff = Backoff(first_s=2.0, most_s=60.0)
    pause_s = backoff.pause_s(attempt, asked_s, random.Random(seed))
    assert min(60.0, 2.0 * 2**attempt) / 2 <= pause_s <= 60.0
    assert asked_s is None or pause_s >= min(asked_s, 60.0)
