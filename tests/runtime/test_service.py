"""The service alone, over cores made up here: what a configuration swap keeps, and how it ends."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core, Price
from eccos_aios.errors import EccosError, HistoryError
from eccos_aios.history import CallOutcome, HistoryStore, Outcome, Record
from eccos_aios.predict import query_text
from eccos_aios.runtime.configuration import prepare
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.schedule import Call, CallResult, ExecutionResult, Requirements, StoppedError

WAIT_S = 20.0
CORES = (Core(name="small", quota=2), Core(name="large", quota=2))


class Cores:
    """Cores that answer with the call's text, at once or once they are released; counts what they hold."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.released.set()
        self.served: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.reached = threading.Semaphore(0)
        self._lock = threading.Lock()  # guards the counts
        self._held: Counter[str] = Counter()

    def execute(self, call: Call, core: str) -> ExecutionResult:
        with self._lock:
            self.served[core] += 1
            self._held[core] += 1
            self.most[core] = max(self.most[core], self._held[core])
        self.reached.release()
        assert self.released.wait(WAIT_S)
        with self._lock:
            self._held[core] -= 1
        return ExecutionResult(call.payload)


class Reader:
    """An intake that writes down what the service asks of it."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def start_reading(self) -> None:
        self.log.append("start")

    def stop_reading(self) -> None:
        self.log.append("stop")

    def refuse_queued(self) -> None:
        self.log.append("refuse")

    def reader_faults(self) -> list[str]:
        return ["the reader is stuck"]

    def reader_restarts(self) -> list[str]:
        return ["the reader was restarted"]


class Caller:
    """Submits calls and collects their results."""

    def __init__(self, service: SchedulingService) -> None:
        self.service = service
        self.results: list[CallResult] = []
        self._done = threading.Semaphore(0)

    def ask(self, text: str, agent: str = "agent") -> Call:
        asked = query_text(text)
        call = Call(asked, Requirements(asked.input_tokens), text, self._take, agent=agent)
        self.service.submit(call)
        return call

    def wait(self, calls: int) -> list[CallResult]:
        for _ in range(calls):
            assert self._done.acquire(timeout=WAIT_S)
        return self.results

    def _take(self, _: Call, result: CallResult) -> None:
        self.results.append(result)
        self._done.release()


def outcome(call: Call, result: CallResult, core: Core, finished_s: float) -> CallOutcome:
    error = type(result.error).__name__ if result.error else None
    return CallOutcome(
        call_id=call.id,
        core=core.name,
        query=call.text.text,
        agent=call.agent,
        error=error,
        finished_s=finished_s,
    )


@pytest.fixture
def config(tmp_path: Path) -> EccosConfig:
    return EccosConfig(
        manifest=tmp_path / "cores.yaml", history=tmp_path / "history.db", quality_target=0.0, grace_s=0.1
    )


@pytest.fixture
def cores() -> Cores:
    return Cores()


@pytest.fixture
def service(config: EccosConfig, cores: Cores) -> Iterator[SchedulingService]:
    service = SchedulingService(prepare(config, CORES), Backend(cores.execute, outcome))
    yield service
    cores.released.set()
    service.stop()
    for thread in ours():
        thread.join(WAIT_S)  # one that was with a core that hung
    assert ours() == []


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("eccos-")]


def stored(path: Path | None) -> list[CallOutcome]:
    assert path is not None
    with HistoryStore(path, read_only=True) as store:
        return list(store.outcomes())


def test_a_call_is_answered_recorded_graded_and_learned(
    service: SchedulingService, config: EccosConfig, cores: Cores
) -> None:
    service.start()
    caller = Caller(service)
    call = caller.ask("what is two plus two?")
    (result,) = caller.wait(1)
    assert result.value == "what is two plus two?"
    assert service.give_quality(0.25, agent="agent") == call.id
    assert service.learner.settle(WAIT_S)
    service.stop()
    (recorded,) = stored(config.history)
    assert (recorded.call_id, recorded.core, recorded.quality) == (call.id, result.core, 0.25)
    status: dict[str, Any] = service.status()
    assert (
        status["history"]["recorded"] == status["learning"]["learned"] == status["totals"]["completed"] == 1
    )


def test_a_call_that_goes_on_has_no_outcome_yet(config: EccosConfig, cores: Cores) -> None:
    service = SchedulingService(prepare(config, CORES), Backend(cores.execute, lambda *_: None))
    service.start()
    caller = Caller(service)
    caller.ask("half of it")
    caller.wait(1)
    service.stop()
    assert stored(config.history) == []
    assert service.status()["history"] == {"path": "history.db", "recorded": 0, "dropped": 0}


def test_a_reconfiguration_under_load_loses_no_call_and_keeps_the_slots(
    service: SchedulingService, config: EccosConfig, cores: Cores
) -> None:
    service.start()
    caller = Caller(service)
    cores.released.clear()
    for number in range(40):
        caller.ask(f"question {number}")
    for _ in range(4):
        assert cores.reached.acquire(timeout=WAIT_S)
    following = Cores()
    fewer = (Core(name="small", quota=2),)
    other = config.model_copy(update={"history": config.manifest.parent / "other.db"})
    service.reconfigure(prepare(other, fewer), Backend(following.execute, outcome))
    assert not following.served  # all slots are taken by calls of the first configuration
    caller.ask("after it")
    cores.released.set()
    assert {result.error for result in caller.wait(41)} == {None}
    assert cores.served == {"small": 2, "large": 2}
    assert following.served == {"small": 37}
    assert following.most["small"] <= 2
    service.stop()
    assert len(stored(other.history)) == 41  # finished after the swap, whenever they began
    assert stored(config.history) == []


def test_a_wrong_configuration_changes_nothing(
    service: SchedulingService, config: EccosConfig, tmp_path: Path
) -> None:
    service.start()
    caller = Caller(service)
    learner = service.learner
    (tmp_path / "wrong.db").write_text("this is not a store " * 50)
    wrong = config.model_copy(update={"history": tmp_path / "wrong.db"})
    with pytest.raises(HistoryError, match=r"wrong\.db"):
        prepare(wrong, CORES)
    caller.ask("still there?")
    assert caller.wait(1)[0].error is None
    assert service.learner is learner
    service.stop()
    assert len(stored(config.history)) == 1


def test_the_fitted_predictor_is_kept_while_the_history_is_the_same(
    service: SchedulingService, config: EccosConfig, cores: Cores
) -> None:
    assert service.learner_for(config) is None  # not running yet
    service.start()
    learner, backend = service.learner, Backend(cores.execute, outcome)
    slower = config.model_copy(update={"max_wait_s": 5.0})
    service.reconfigure(prepare(slower, CORES, service.learner_for(slower)), backend)
    assert service.learner is learner
    assert service.scheduler.predictor is learner.predictor
    other = config.model_copy(update={"history": config.manifest.parent / "other.db"})
    assert service.learner_for(other) is None
    service.reconfigure(prepare(other, CORES), backend)
    assert service.learner is not learner
    assert not learner.alive
    service.stop()
    assert service.learner_for(other) is None


def test_one_intake_reads_at_a_time_and_none_after_the_stop(
    service: SchedulingService, config: EccosConfig, cores: Cores
) -> None:
    first, second, late = Reader(), Reader(), Reader()
    service.start(first)
    assert first.log == ["start"]
    assert service.health()["reasons"] == ["the reader is stuck"]
    assert service.health()["degraded"] == ["the reader was restarted"]
    backend = Backend(cores.execute, outcome)
    service.reconfigure(prepare(config, CORES, service.learner), backend, second)
    assert (first.log, second.log) == (["start", "stop"], ["start"])
    service.stop()
    assert (first.log, second.log) == (["start", "stop"], ["start", "stop", "refuse"])
    with pytest.raises(StoppedError):
        service.reconfigure(prepare(config, CORES, service.learner), backend, late)
    with pytest.raises(EccosError):
        service.start(late)
    assert late.log == []


def test_agents_are_answered_before_a_reader_that_hangs_is_waited_for(
    service: SchedulingService, config: EccosConfig, cores: Cores
) -> None:
    class Hanging(Reader):
        let_go = threading.Event()

        def stop_reading(self) -> None:
            assert self.let_go.wait(WAIT_S)

    service.start(Hanging())
    cores.released.clear()
    caller = Caller(service)
    caller.ask("who answers?")
    assert cores.reached.acquire(timeout=WAIT_S)
    stopping = threading.Thread(target=service.stop, name="stopping")
    stopping.start()
    (result,) = caller.wait(1)
    assert isinstance(result.error, StoppedError)
    Hanging.let_go.set()
    stopping.join(WAIT_S)
    assert [each.error for each in stored(config.history)] == ["StoppedError"]


def test_a_service_that_was_never_started_holds_no_thread_and_no_file(
    config: EccosConfig, cores: Cores
) -> None:
    service = SchedulingService(prepare(config, CORES), Backend(cores.execute, outcome))
    assert service.health() == {"healthy": False, "reasons": ["the scheduler has not been started"]}
    assert service.scheduler.pending == 0
    later = config.model_copy(update={"history": config.manifest.parent / "later.db"})
    service.reconfigure(prepare(later, CORES), Backend(cores.execute, outcome))
    assert ours() == []
    service.start()
    caller = Caller(service)
    caller.ask("now?")
    caller.wait(1)
    service.stop()
    assert len(stored(later.history)) == 1
    assert json.dumps(service.status())


def test_a_kernel_with_a_history_decides_its_first_call_at_the_price_of_the_past_ones(
    config: EccosConfig, cores: Cores
) -> None:
    def right(core: str, hard: bool) -> Outcome:
        return Outcome(model_name=core, correctness=core == "large" or not hard)

    texts = [f"prove the riddle {n}" if n % 10 == 0 else f"add the numbers {n}" for n in range(60)]
    with HistoryStore(config.history) as store:
        store.extend(
            Record(
                query=text,
                outputs=tuple(right(core, text.startswith("prove")) for core in ("small", "large")),
            )
            for text in texts
        )
    priced = [
        core.model_copy(update={"price": Price(input=usd, output=usd)})
        for core, usd in zip(CORES, (1.0, 50.0), strict=True)
    ]
    asking = config.model_copy(update={"quality_target": 0.8})
    service = SchedulingService(prepare(asking, priced), Backend(cores.execute, outcome))
    service.start()
    caller = Caller(service)
    caller.ask("prove the riddle 1000")
    (result,) = caller.wait(1)
    service.stop()
    assert result.core == "small"  # nine of ten past calls are answered well there: that is above the target
