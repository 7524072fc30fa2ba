"""What feedback tells is learned while the kernel runs: at once, by a new fit, and over a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eccos_aios.history import CallOutcome, HistoryStore
from eccos_aios.hooks import learner as learner_room
from eccos_aios.hooks.learner import Learner, learner_of
from eccos_aios.hooks.refit import Refit
from eccos_aios.predict import HybridPredictor, LearningPredictor, fitted_predictor, query_text

WAIT_S = 60.0
QUESTION = query_text("What is the capital of France?")


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_room, "LOOK_S", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def learner(path: Path) -> Iterator[Learner]:
    learner = Learner(LearningPredictor(HybridPredictor().fit([])), path)
    yield learner
    learner.stop()


def graded(number: int, core: str, quality: float) -> CallOutcome:
    return CallOutcome(
        call_id=f"call-{number}", core=core, query=f"What is the capital of {number}?", quality=quality
    )


def teach(learner: Learner, path: Path, outcomes: list[CallOutcome]) -> None:
    """As the kernel does it: on disk first."""
    with HistoryStore(path) as store:
        store.append_outcomes(outcomes)
    for outcome in outcomes:
        learner.learn(outcome.record())


def quality(learner: Learner, core: str) -> float:
    return float(learner.predictor.predict([QUESTION], [core]).quality[0, 0])


def until(condition: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends_s, "in vain"
        time.sleep(0.01)


def test_an_outcome_counts_before_any_new_fit(learner: Learner, path: Path) -> None:
    learner.start()
    before = quality(learner, "a")
    teach(learner, path, [graded(number, "a", 1.0) for number in range(8)])
    assert learner.settle(WAIT_S)
    assert quality(learner, "a") > before + 0.1
    assert learner.status()["learned"] == 8
    assert learner.status()["refits"] == 0


def test_enough_outcomes_are_fitted_in_a_process_and_swapped_in(learner: Learner, path: Path) -> None:
    learner.start()
    first = learner.predictor.fitted
    teach(learner, path, [graded(n, core, float(core == "a")) for n, core in enumerate("ab" * 15)])
    until(lambda: learner.status()["refits"] == 1)
    assert learner.predictor.fitted is not first
    assert set(learner.predictor.fitted.trained.cores_) == {"a", "b"}
    assert quality(learner, "a") > 0.75
    assert quality(learner, "b") < 0.25
    assert fitted_predictor(path).records == 30  # what was fitted is there for the next start
    learner.stop()
    assert not any(thread.name == "eccos-learner" for thread in threading.enumerate())


def test_after_a_restart_it_goes_on_where_it_was(path: Path) -> None:
    outcomes = [graded(n, core, float(core == "a")) for n, core in enumerate("ab" * 15)]
    with HistoryStore(path) as store:
        store.append_outcomes(outcomes)
    fitted_predictor(path)
    with HistoryStore(path) as store:
        store.append_outcomes([graded(100 + n, "new", 1.0) for n in range(6)])
    learner = learner_of(path, fitted_predictor(path))
    assert "new" not in learner.predictor.fitted.trained.cores_
    assert quality(learner, "new") > quality(learner, "b") + 0.3


def test_a_core_that_gets_worse_is_logged_and_kept_for_the_next_fit(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with HistoryStore(path) as store:
        store.append_outcomes([graded(n, "a", float(n % 10 > 0)) for n in range(60)])
    learner = learner_of(path, fitted_predictor(path))
    learner.start()
    with caplog.at_level(logging.WARNING, "eccos_aios"):
        teach(learner, path, [graded(100 + n, "a", 0.0) for n in range(40)])
        until(lambda: learner.status()["refits"] == 1)
    learner.stop()
    told = [record.getMessage() for record in caplog.records if "got worse" in record.getMessage()]
    assert len(told) == 1
    with HistoryStore(path, read_only=True) as store:
        (change,) = store.changes()
    assert change.core == "a" and change.lost < -0.5
    assert 95 <= int(change.since.removeprefix("call-")) <= 105 or change.since == "call-59"
    assert quality(learner, "a") < 0.2


def test_a_fit_that_fails_is_told_and_learning_goes_on(
    learner: Learner, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner.start()
    outcomes = [graded(number, "a", 1.0) for number in range(30)]
    with caplog.at_level(logging.WARNING, "eccos_aios"):
        for outcome in outcomes:  # the store was never made, so that no fit can read it
            learner.learn(outcome.record())
        until(lambda: any("no new fit" in record.getMessage() for record in caplog.records))
        for outcome in outcomes[:20]:
            learner.learn(outcome.record())
        assert learner.settle(WAIT_S)
    assert learner.status()["learned"] == 50
    assert sum("no new fit" in record.getMessage() for record in caplog.records) == 1
    assert quality(learner, "a") > 0.7


def test_a_stop_ends_a_fit_that_is_under_way(path: Path) -> None:
    with HistoryStore(path) as store:
        store.append_outcomes([graded(n, "a", 1.0) for n in range(30)])
    refit = Refit(path)
    refit.cancel()
    assert refit.ended
    assert not list(path.parent.glob("*.npz"))
