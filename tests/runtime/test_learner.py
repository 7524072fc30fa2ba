"""What feedback tells is learned while the kernel runs: at once, by a new fit, and over a restart."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eccos_aios.history import CallOutcome, HistoryStore, Record
from eccos_aios.predict import (
    CallText,
    Drift,
    Estimates,
    HybridPredictor,
    Predictor,
    PredictorSpec,
    ResidualOnlinePredictor,
    fitted_predictor,
    online_predictor,
    query_text,
)
from eccos_aios.runtime import learner as learner_module
from eccos_aios.runtime.learner import Learner, learner_of
from eccos_aios.runtime.refit import Refit

WAIT_S = 60.0
QUESTION = query_text("What is the capital of France?")


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "LOOK_S", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def learner(path: Path) -> Iterator[Learner]:
    learner = Learner(ResidualOnlinePredictor(HybridPredictor().fit([])), path)
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
    learner = learner_of(path)
    assert "new" not in learner.predictor.fitted.trained.cores_
    assert quality(learner, "new") > quality(learner, "b") + 0.3


def test_a_core_that_gets_worse_is_logged_and_kept_for_the_next_fit(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with HistoryStore(path) as store:
        store.append_outcomes([graded(n, "a", float(n % 10 > 0)) for n in range(60)])
    learner = learner_of(path)
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
        for number in range(100, 120):
            learner.learn(graded(number, "a", 1.0).record())
        assert learner.settle(WAIT_S)
    assert learner.status()["learned"] == 50
    assert sum("no new fit" in record.getMessage() for record in caplog.records) == 1
    assert quality(learner, "a") > 0.7


OWNER = """
import sys, time
from pathlib import Path
from eccos_aios.predict import PredictorSpec
from eccos_aios.runtime.refit import Refit
if "fork" in sys.argv:
    import os
refit = Refit(Path(sys.argv[1]), PredictorSpec())
if "fork" in sys.argv and os.fork() == 0:  # inherits the owner's end of the pipe, and outlives the owner
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(refit.pid, os.getpid() if "fork" in sys.argv else 0, flush=True)
time.sleep(60)
"""


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for its end does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")
@pytest.mark.parametrize("way", ["alone", "fork"])
def test_a_fit_ends_with_its_kernel_however_that_ends(path: Path, way: str) -> None:
    with HistoryStore(path) as store:
        store.append_outcomes([graded(n, "abcd"[n % 4], float(n % 3 > 0)) for n in range(4000)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, path, way],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert owner.stdout is not None
    try:
        fit = int(owner.stdout.readline().split()[0])
        assert runs(fit)
        owner.kill()
        owner.wait()
        until(lambda: not runs(fit))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(owner.pid, signal.SIGKILL)
        owner.stdout.close()
    assert not list(path.parent.glob("*.npz*"))


def test_a_fit_that_says_a_lot_is_not_held_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def talkative(command: list[str], **streams: Any) -> Any:
        code = "import sys; sys.stderr.write('x' * 500_000 + '\\nthe last word'); sys.exit(3)"
        return real([command[0], "-c", code], **streams)

    monkeypatch.setattr(subprocess, "Popen", talkative)
    refit = Refit(path, PredictorSpec())
    until(lambda: refit.ended)
    assert refit.fault() == "the fit ended with 3: the last word"


def test_a_stop_ends_a_fit_that_is_under_way(path: Path) -> None:
    with HistoryStore(path) as store:
        store.append_outcomes([graded(n, "a", 1.0) for n in range(30)])
    refit = Refit(path, PredictorSpec())
    refit.cancel()
    assert refit.ended
    assert not list(path.parent.glob("*.npz"))


class MoodyPredictor(ResidualOnlinePredictor):
    """Raises at records of some ids, as though their arithmetic broke."""

    fault: BaseException = MemoryError()
    poison: tuple[str, ...] = ()

    def learn(self, records: Sequence[Record]) -> list[Drift]:
        if any(record.id in self.poison for record in records):
            raise self.fault
        return super().learn(records)


@pytest.mark.parametrize("fault", [ValueError("nobody foresaw this"), MemoryError(), SystemExit(1)], ids=repr)
def test_an_outcome_that_cannot_be_learned_costs_no_other(
    fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = MoodyPredictor(HybridPredictor().fit([]))
    predictor.fault, predictor.poison = fault, ("call-2", "call-5")
    learner = Learner(predictor)
    for number in range(8):
        learner.learn(graded(number, "a", 1.0).record())
    learner.start()
    assert learner.settle(WAIT_S)
    learner.learn(graded(100, "a", 1.0).record())
    assert learner.settle(WAIT_S)
    assert (learner.alive, learner.faults()) == (True, [])
    assert (learner.status()["learned"], learner.status()["refused"]) == (7, 2)
    assert caplog.text.count("cannot be learned") == 1
    learner.stop()
    assert (learner.alive, learner.faults()) == (False, [])


def test_a_quality_that_is_none_is_not_learned() -> None:
    predictor = ResidualOnlinePredictor(HybridPredictor().fit([]))
    learner = Learner(predictor)
    learner.start()
    good = graded(1, "a", 1.0).record()
    for number, quality in enumerate((7.0, -1.0, float("inf"))):
        outcome = good.outputs[0].model_copy(update={"quality": quality})
        learner.learn(good.model_copy(update={"id": f"odd-{number}", "outputs": (outcome,)}))
    assert learner.settle(WAIT_S)
    assert learner.status()["refused"] == 3
    assert predictor.calls == 0
    learner.stop()


def test_a_thread_that_raised_goes_on_with_what_it_had_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = Learner._check_fit, [1]

    def look(learner: Learner) -> None:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("nobody foresaw this")
        real(learner)

    monkeypatch.setattr(Learner, "_check_fit", look)
    learner = Learner(ResidualOnlinePredictor(HybridPredictor().fit([])))
    learner.start()
    for number in range(5):
        learner.learn(graded(number, "a", 1.0).record())
    assert learner.settle(WAIT_S)
    until(lambda: len(learner.restarts()) == 1)
    learner.learn(graded(9, "a", 1.0).record())
    assert learner.settle(WAIT_S)
    assert learner.status()["learned"] == 6
    learner.stop()


def test_many_grades_of_a_call_are_one(learner: Learner, path: Path) -> None:
    for number in range(19):
        learner.learn(graded(number, "a", 1.0).record())
    for _ in range(60):
        learner.learn(graded(0, "a", 0.0).record())
    learner.start()
    for _ in range(60):
        learner.learn(graded(1, "a", 0.0).record())
    assert learner.settle(WAIT_S)
    assert learner.status()["learned"] == 19
    assert learner.predictor.changes == []
    assert learner.status()["refits"] == 0  # 19 calls are too few for a fit, however often they are graded
    assert quality(learner, "a") > 0.7
    other = Learner(ResidualOnlinePredictor(HybridPredictor().fit([])))
    other.start()
    for number in range(19):
        other.learn(graded(number, "a", float(number > 1)).record())
    assert other.settle(WAIT_S)
    other.stop()
    assert quality(learner, "a") == pytest.approx(quality(other, "a"), abs=0.02)


def test_a_restart_learns_of_each_call_what_was_said_last(path: Path) -> None:
    with HistoryStore(path) as store:
        store.append_outcomes([graded(n, "a", 1.0) for n in range(30)])
    fitted = fitted_predictor(path)
    with HistoryStore(path) as store:
        store.append_outcomes([graded(100 + n, "a", 0.0) for n in range(5)])
        for opinion in [0.0, 0.5] * 30 + [1.0]:
            store.give_quality("call-100", opinion)
    learner = learner_of(path)
    straight = Learner(ResidualOnlinePredictor(fitted.predictor))  # type: ignore[arg-type]
    straight.predictor.learn([graded(100 + n, "a", float(n == 0)).record() for n in range(5)])
    assert learner.predictor.calls == 5
    assert quality(learner, "a") == pytest.approx(quality(straight, "a"), abs=1e-6)
    assert learner.predictor.changes == []


def test_a_damaged_fit_is_not_taken_in(
    learner: Learner, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaged(Refit):
        def fault(self) -> str | None:
            said = super().fault()
            cache = path.with_name("history.db.predictor.npz")
            cache.write_bytes(cache.read_bytes()[:-2000])
            return said

    first = learner.predictor.fitted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner_module, "Refit", Damaged)
        learner.start()
        teach(learner, path, [graded(n, "a", 1.0) for n in range(30)])
        until(lambda: "no new fit" in caplog.text)
    assert learner.alive
    assert learner.predictor.fitted is first
    assert quality(learner, "a") > 0.7


class Rate(Predictor):
    """A predictor of a user's own: one quality for all, the mean of its history."""

    def fit(self, history: Sequence[Record]) -> Rate:
        grades = [outcome.graded_quality for record in history for outcome in record.outputs]
        self.mean_ = sum(grades) / len(grades) if grades else 0.5
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        ones = np.ones((len(calls), len(cores)))
        return Estimates(self.mean_ * ones, ones, ones, ones)


def test_a_plain_predictor_learns_by_new_fits(path: Path) -> None:
    spec = PredictorSpec(f"{__name__}:Rate")
    learner = Learner(online_predictor(spec.make().fit([])), path, spec=spec)
    learner.start()
    teach(learner, path, [graded(number, "a", 1.0) for number in range(10)])
    assert learner.settle(WAIT_S)
    assert (learner.status()["online"], quality(learner, "a")) == (False, 0.5)
    teach(learner, path, [graded(number, "a", 1.0) for number in range(10, 30)])
    until(lambda: learner.status()["refits"] == 1)
    assert quality(learner, "a") == 1.0
    learner.stop()
    assert quality(learner_of(path, spec), "a") == 1.0  # a restart fits again


def test_the_process_of_a_fit_finds_the_plug_ins_of_its_owner(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "some_embedder.py").write_text(
        "from eccos_aios.predict import TfidfEmbedder, register_persistence\n"
        "class Some(TfidfEmbedder):\n    pass\n"
        "register_persistence(Some, lambda some: ({}, {}), lambda content, arrays: Some().fit([]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    with HistoryStore(path) as store:
        store.append_outcomes([graded(n, "a", 1.0) for n in range(30)])
    refit = Refit(path, PredictorSpec(embedder="some_embedder:Some"))
    until(lambda: refit.ended)
    assert refit.fault() is None
    assert path.with_name("history.db.predictor.npz").exists()
