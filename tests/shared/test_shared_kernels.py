"""Whole kernels on one Redis: quotas, grades, the store, and a Redis that goes away under load."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from experiments.redis_server import RedisServer
from pydantic import SecretStr

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.errors import EccosError, UnknownCallError
from eccos_aios.history import CallOutcome, HistoryStore
from eccos_aios.predict import query_text
from eccos_aios.runtime.configuration import prepare
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.schedule import AttemptOutcome, Call, CallResult, ExecutionResult, OutcomeKind, Requirements

WAIT_S = 30.0
CORES = (Core(name="small", quota=2), Core(name="large", quota=3))
BUSY = AttemptOutcome(OutcomeKind.CORE_BUSY, "http_429", retry_after_s=60.0)


class Cores:
    """Cores that count what they hold, over all kernels."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.service_s = 0.002
        self.busy: set[str] = set()

    def execute(self, call: Call, core: str) -> ExecutionResult:
        with self.changed:
            self.served[core] += 1
            self.held[core] += 1
            self.most[core] = max(self.most[core], self.held[core])
        time.sleep(self.service_s)
        with self.changed:
            self.held[core] -= 1
        return ExecutionResult(None, BUSY) if core in self.busy else ExecutionResult(call.payload)


def describe(call: Call, result: CallResult, core: Core, finished_s: float) -> CallOutcome:
    return CallOutcome(
        call_id=call.id, core=core.name, query=call.text.text, agent=call.agent, finished_s=finished_s
    )


class Kernel:
    """One service and what its callers got."""

    def __init__(self, config: EccosConfig, cores: Cores) -> None:
        self.config = config
        self.service = SchedulingService(prepare(config, CORES), Backend(cores.execute, describe))
        self.results: Counter[str] = Counter()
        self.failed: list[CallResult] = []
        self._changed = threading.Condition()

    def ask(self, text: str, cores: Sequence[str] | None = None) -> Call:
        asked = query_text(text)
        named = None if cores is None else frozenset(cores)
        call = Call(asked, Requirements(asked.input_tokens, cores=named), text, self._take, agent="agent")
        self.service.submit(call)
        return call

    def _take(self, call: Call, result: CallResult) -> None:
        with self._changed:
            self.results[call.id] += 1
            if result.failed:
                self.failed.append(result)
            self._changed.notify_all()

    def wait_for(self, call: Call) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: call.id in self.results, WAIT_S), self.service.health()

    def wait(self, calls: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.results) >= calls, WAIT_S), (
                f"{len(self.results)} of {calls}: {self.service.health()} {self.service.status()}"
            )


@pytest.fixture
def cores() -> Cores:
    return Cores()


MakeKernels = Callable[[int], list[Kernel]]


@pytest.fixture
def kernels(redis_server: RedisServer, tmp_path: Path, cores: Cores) -> Iterator[MakeKernels]:
    with kernels_on(redis_server.url, tmp_path, cores) as make:
        yield make


@contextmanager
def kernels_on(url: str, folder: Path, cores: Cores) -> Iterator[MakeKernels]:
    """Makes and starts kernels that share cores and one history, and ends them."""
    made: list[Kernel] = []
    config = EccosConfig(
        manifest=folder / "cores.yaml",
        history=folder / "history.db",
        quality_target=0.0,
        grace_s=0.1,
        shared=SecretStr(url),
    )

    def make(count: int) -> list[Kernel]:
        made.extend(Kernel(config, cores) for _ in range(count))
        for kernel in made:
            kernel.service.start()
        return made

    try:
        yield make
    finally:
        for kernel in made:
            kernel.service.stop()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("eccos-")] == []


def await_(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.01)


def test_every_call_is_answered_once_within_the_quotas_over_all_kernels(
    kernels: MakeKernels, cores: Cores
) -> None:
    several = kernels(3)
    for number in range(100):
        for kernel in several:
            kernel.ask(f"question {number}")
    for kernel in several:
        kernel.wait(100)
        assert set(kernel.results.values()) == {1}
        assert kernel.failed == []
    assert cores.most == {core.name: core.slots for core in CORES}


def test_a_call_that_only_one_core_may_take_gets_its_slot_from_a_kernel_that_holds_it(
    kernels: MakeKernels,
) -> None:
    first, second = kernels(2)
    for number in range(20):
        first.ask(f"question {number}")
        second.ask(f"question {number}", ["small"])
    first.wait(20)
    second.wait(20)


def test_a_grade_reaches_the_kernel_that_served_the_call_and_the_one_store(
    kernels: MakeKernels, tmp_path: Path
) -> None:
    first, second = kernels(2)
    call = first.ask("what is two plus two?")
    first.wait(1)
    await_(lambda: second.service._outcomes.agent_of(call.id) is not None, "the outcome is not heard of")
    assert second.service.give_quality(0.25, call=call.id) == call.id
    assert second.service.give_quality(0.5, agent="agent") == call.id

    with pytest.raises(UnknownCallError, match="id"):
        second.service.give_quality(0.5, call=1)

    def is_stored() -> bool:
        with HistoryStore(tmp_path / "history.db", read_only=True) as store:
            return [outcome.quality for outcome in store.outcomes()] == [0.5]

    await_(is_stored, "the grade is not stored")
    await_(lambda: first.service.scheduler.decision(call.id).quality == 0.5, "the decision is not graded")
    leads = [kernel.service.status()["shared"]["leads"] for kernel in (first, second)]
    assert sorted(leads) == [False, True]


def test_every_kernel_shows_the_calls_of_all(kernels: MakeKernels) -> None:
    first, second = kernels(2)
    for number in range(6):
        first.ask(f"question {number}")
    second.ask("another question")
    for kernel in (first, second):
        await_(lambda kernel=kernel: figures(kernel)["totals"]["completed"] == 7, "not all calls are shown")
        await_(lambda kernel=kernel: figures(kernel)["recorded"] == 7, "not all outcomes are shown")
        assert kernel.service.status()["history"]["recorded"] == 7
        assert sum(core["completed"] for core in figures(kernel)["cores"].values()) == 7
        assert figures(kernel)["pending"] == 0
    with mock.patch.object(
        second.service.scheduler, "status", wraps=second.service.scheduler.status
    ) as status:
        assert second.service.status()["totals"]["completed"] == 1
    assert status.call_count == 1
    second.service.stop()
    await_(lambda: figures(first)["totals"]["completed"] == 6, "a kernel that has ended still counts")


def figures(kernel: Kernel) -> dict[str, Any]:
    return kernel.service.status()["shared"]["all"]


def test_a_refresh_that_changes_how_cores_are_shared_is_refused_and_names_the_key(
    kernels: MakeKernels, tmp_path: Path, cores: Cores
) -> None:
    (kernel,) = kernels(1)
    changes: list[tuple[str, Any]] = [
        ("shared", None),
        ("shared", SecretStr("redis://user:other-word@127.0.0.1:1/0")),
        ("shared_name", "another"),
        ("lease_s", 3.0),
        ("store_text", False),
        ("history", tmp_path / "another.db"),
    ]
    for key, value in changes:
        changed = kernel.config.model_copy(update={key: value})
        with pytest.raises(EccosError, match=f"scheduler.eccos.{key}: .*restart") as refused:
            kernel.service.reconfigure(prepare(changed, CORES), Backend(cores.execute, describe))
        assert "other-word" not in str(refused.value)
    kernel.service.reconfigure(prepare(kernel.config, CORES), Backend(cores.execute, describe))
    kernel.ask("still there?")
    kernel.wait(1)


def test_one_kernel_fits_and_all_use_its_predictor(
    kernels: MakeKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eccos_aios.predict.refitting.MIN_NEW", 20)
    several = kernels(2)
    await_(lambda: any(kernel.service.status()["shared"]["leads"] for kernel in several), "nobody leads")
    for number in range(30):
        call = several[number % 2].ask(f"question {number} about {number * 7}")
        several[number % 2].wait(number // 2 + 1)
        several[number % 2].service.give_quality(number % 3 / 2, call=call.id)
    for kernel in several:
        await_(lambda kernel=kernel: kernel.service.status()["learning"]["refits"] > 0, "no new fit")
    began = [kernel.service.learner._fitted for kernel in several]
    assert began[0] == began[1] >= 20


def test_a_core_that_paused_one_kernel_is_not_tried_by_another(kernels: MakeKernels, cores: Cores) -> None:
    first, second = kernels(2)
    cores.busy = {"small"}
    first.ask("is there anyone?", ["small", "large"])
    await_(lambda: cores.served["small"] > 0 or bool(first.results), "the call is not sent")
    if not cores.served["small"]:
        first.ask("is there anyone?", ["small"])
    await_(
        lambda: second.service.status()["cores"]["small"]["state"] == "paused", "the pause is not heard of"
    )
    tried = cores.served["small"]
    second.ask("is there anyone?")
    second.wait(1)
    assert cores.served["small"] == tried


def test_no_call_is_lost_and_no_quota_exceeded_while_redis_restarts(
    kernels: MakeKernels, cores: Cores, redis_server: RedisServer, tmp_path: Path
) -> None:
    several = kernels(2)
    cores.service_s = 0.01
    for kernel in several:
        for number in range(10):
            kernel.ask(f"question {number}")
    for kernel in several:
        kernel.wait(10)
    redis_server.kill()
    for kernel in several:
        for number in range(10, 40):
            kernel.ask(f"question {number}")
    await_(lambda: any(kernel.service.health()["degraded"] for kernel in several), "nobody says so")
    time.sleep(0.3)
    redis_server.start()
    for kernel in several:
        kernel.wait(40)
        assert set(kernel.results.values()) == {1}
        assert kernel.failed == []
        await_(lambda kernel=kernel: not kernel.service.health()["degraded"], "it does not recover")
        assert kernel.service.health()["healthy"]
    assert all(cores.most[core.name] <= core.slots for core in CORES)

    def are_stored() -> bool:
        with HistoryStore(tmp_path / "history.db", read_only=True) as store:
            return len(list(store.outcomes())) == 80

    await_(are_stored, "outcomes are lost")
