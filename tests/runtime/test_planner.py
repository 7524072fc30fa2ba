"""Plans learned from a history: from the cache where it holds, fitted where it does not, none without answers."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eccos_aios.core import Core, Price
from eccos_aios.history import CallOutcome, HistoryStore, Outcome, Record
from eccos_aios.plans import PlanPredictor
from eccos_aios.predict import PredictorSpec, fitted_predictor, record_text
from eccos_aios.runtime.learner import learner_of
from eccos_aios.runtime.planner import Planner
from eccos_aios.runtime.refit import Refit

pytestmark = pytest.mark.usefixtures("few_trees")

CORES = [
    Core(name="one", price=Price(input=1, output=1)),
    Core(name="two", price=Price(input=1.2, output=1.2)),
    Core(name="three", price=Price(input=40, output=40)),
]
RECORDS = 130
SPEC = PredictorSpec()


def records(answers: bool = True, count: int = RECORDS) -> list[Record]:
    drawn = random.Random(0)
    made = []
    for number in range(count):
        outputs = []
        for core in CORES:
            right = core.name == "three" or drawn.random() < 0.7
            said = f"{number}" if right else f"{core.name} {number}"
            outputs.append(
                Outcome(model_name=core.name, quality=float(right), prediction=said if answers else None)
            )
        made.append(Record(query=f"question {number}", outputs=tuple(outputs)))
    return made


def written(path: Path, given: Sequence[Record]) -> Path:
    if path.suffix == ".db":
        with HistoryStore(path) as store:
            store.extend(given)
    else:
        path.write_text("".join(record.model_dump_json(exclude_none=True) + "\n" for record in given))
    return path


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    fit = PlanPredictor.fit

    def counting(self: PlanPredictor, history: Any) -> PlanPredictor:
        counted.append(len(history))
        return fit(self, history)

    monkeypatch.setattr(PlanPredictor, "fit", counting)
    return counted


def planner(history: Path, mode: Any = "agree") -> Planner:
    made = Planner(CORES, mode, SPEC)
    made.fit(history)
    return made


@pytest.mark.parametrize("name", ["history.jsonl", "history.db"])
def test_plans_are_fitted_once_and_the_cache_estimates_the_same(
    tmp_path: Path, fits: list[int], name: str
) -> None:
    history = written(tmp_path / name, records())
    calls = [record_text(record) for record in records()[:5]]
    first, second = planner(history).estimate(calls), planner(history).estimate(calls)
    assert fits == [RECORDS]
    assert first is not None
    assert second is not None
    assert [plan.name for plan in first.plans] == [plan.name for plan in second.plans]
    assert any(plan.kind != "single" for plan in first.plans)
    for name in ("quality", "cost", "reached"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-5, atol=1e-9)
    planner(history, "check")
    assert fits == [RECORDS, RECORDS]  # of another mode


def test_a_store_that_has_grown_much_is_fitted_again(tmp_path: Path, fits: list[int]) -> None:
    history = written(tmp_path / "history.db", records())
    planner(history)
    with HistoryStore(history) as store:
        store.extend(Record(query=f"more {n}", outputs=records()[n].outputs) for n in range(60))
    planner(history)
    assert fits == [RECORDS, RECORDS + 60]


def test_a_damaged_cache_is_fitted_again(tmp_path: Path, fits: list[int]) -> None:
    history = written(tmp_path / "history.jsonl", records())
    planner(history)
    for file in ("plans.json", "plans.npz", "reached.npz"):
        fits.clear()
        (tmp_path / f"history.jsonl.{file}").write_bytes(b"{}")
        assert planner(history).has_plans
        assert fits == [RECORDS], file


def test_where_the_folder_is_read_only_the_plans_are_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: list[int]
) -> None:
    folder, cache = tmp_path / "read-only", tmp_path / "cache"
    folder.mkdir()
    history = written(folder / "history.jsonl", records())
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("os.access", lambda place, _: Path(place) != folder)
    planner(history)
    assert list(folder.iterdir()) == [history]
    assert planner(history).has_plans
    assert fits == [RECORDS]


@pytest.mark.parametrize("name", ["history.jsonl", "history.db"])
def test_a_history_without_answers_teaches_no_plans_and_costs_nothing(
    tmp_path: Path, fits: list[int], name: str
) -> None:
    history = written(tmp_path / name, records(answers=False))
    made = planner(history)
    assert (fits, made.has_plans, made.estimate([])) == ([], False, None)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".json", ".npz")]
    assert not planner(tmp_path / "absent.db").has_plans


def test_no_plans_where_they_are_off_or_one_core_is_there(tmp_path: Path, fits: list[int]) -> None:
    history = written(tmp_path / "history.jsonl", records())
    assert not planner(history, "off").has_plans
    alone = Planner(CORES[:1], "agree", SPEC)
    alone.fit(history)
    assert not alone.has_plans
    assert fits == []


def test_plans_can_be_fitted_on_what_a_store_held_before(tmp_path: Path, fits: list[int]) -> None:
    history = written(tmp_path / "history.db", records())
    with HistoryStore(history) as store:
        mark = store.mark()
        store.extend(Record(query=f"more {n}", outputs=records()[n].outputs) for n in range(60))
    Planner(CORES, "agree", SPEC).fit(history, anew=True, until=mark)
    assert fits == [RECORDS]


@pytest.mark.integration
def test_plans_are_fitted_in_the_process_of_the_fit(tmp_path: Path, fits: list[int]) -> None:
    history = written(tmp_path / "history.db", records())
    refit = Refit(history, SPEC, Planner(CORES, "agree", SPEC))
    os.waitid(os.P_PID, refit.pid, os.WEXITED | os.WNOWAIT)
    assert refit.fault() is None
    learner = learner_of(history, SPEC)
    learner.planner = Planner(CORES, "agree", SPEC)
    learner._adopt(history, fitted_predictor(history, SPEC))
    assert learner.planner.has_plans
    assert fits == []  # none in this one


def test_answers_are_found_however_long_the_history_before_them_is(tmp_path: Path, fits: list[int]) -> None:
    history = written(tmp_path / "history.db", [*records(answers=False, count=1_200), *renamed(records())])
    assert planner(history).has_plans


def renamed(given: Sequence[Record]) -> list[Record]:
    return [record.model_copy(update={"query": f"another {record.query}"}) for record in given]


def test_without_answers_the_plans_that_are_worth_exploring_follow_from_the_means(tmp_path: Path) -> None:
    history = written(tmp_path / "history.db", near(200))
    names = {"check:one>three", "agree:one+two>three"}
    assert {plan.name for plan in planner(history).to_explore} == names
    assert {plan.name for plan in planner(history, "check").to_explore} == {"check:one>three"}
    assert planner(history, "off").to_explore == ()
    assert planner(tmp_path / "absent.db").to_explore == ()


def near(count: int) -> list[Record]:
    """Grades alone; the cheap cores are right nine times in ten."""
    return [
        Record(
            query=f"question {number}",
            outputs=tuple(
                Outcome(model_name=core.name, quality=float(core.name == "three" or number % 10 > 0))
                for core in CORES
            ),
        )
        for number in range(count)
    ]


def test_what_is_still_to_be_explored_is_cached(tmp_path: Path, fits: list[int]) -> None:
    history = written(tmp_path / "history.db", near(200))
    with HistoryStore(history) as store:
        checked = CallOutcome(call_id="call", core="one", query="?", quality=1.0, answer_passes=True)
        store.append_outcomes([checked])
    first = planner(history)
    assert len(fits) == 1
    assert [plan.name for plan in planner(history).to_explore] == [plan.name for plan in first.to_explore]
    assert len(first.to_explore) == 2
    assert len(fits) == 1
