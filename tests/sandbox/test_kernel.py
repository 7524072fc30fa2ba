"""The embedded kernel behaves as AIOS does where schedulers depend on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any

import pytest

from eccos_aios.sandbox import (
    EmbeddedKernel,
    FaultKind,
    FifoScheduler,
    LLMQuery,
    LLMResponse,
    MemoryQuery,
    Query,
    Reply,
    SandboxCore,
    StorageQuery,
    ToolQuery,
)

QUERY = LLMQuery(messages=[{"role": "user", "content": "Hello?"}])
TOOL = {"type": "function", "function": {"name": "math/add", "parameters": {"type": "object"}}}
WAIT_S = 20.0

quick_fifo = partial(FifoScheduler, batch_interval=0.01)


@pytest.fixture
def cores() -> Iterator[list[SandboxCore]]:
    with SandboxCore("small") as small, SandboxCore("large") as large:
        yield [small, large]


@pytest.fixture
def kernel(cores: list[SandboxCore]) -> Iterator[EmbeddedKernel]:
    with EmbeddedKernel(cores, quick_fifo, query_threads=8) as started:
        yield started


def response(kernel: EmbeddedKernel, query: Query) -> Any:
    return kernel.query("agent", query).result(WAIT_S)["response"]


def until(happened: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(500):
        if happened():
            return
        tick.wait(0.01)
    pytest.fail("did not happen within 5 s")


class Recording:
    """A scheduler that leaves its calls to the test."""

    def __init__(self, *, get_llm_syscall: Any, **_: Any) -> None:
        self.get_llm_syscall = get_llm_syscall

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing runs."""

    def next(self) -> Any:
        for _ in range(100):
            with suppress(Empty):
                return self.get_llm_syscall()
        raise AssertionError("no syscall came")


def finish(syscall: Any, status: str) -> None:
    syscall.set_start_time(time.time())
    syscall.set_response(LLMResponse(response_message=status, finished=status == "done"))
    syscall.set_status(status)
    syscall.set_end_time(time.time())
    syscall.event.set()


def test_an_open_call_goes_to_the_first_core(kernel: EmbeddedKernel, cores: list[SandboxCore]) -> None:
    answer = response(kernel, QUERY)
    assert answer.response_message == "small has read: Hello?"
    assert (answer.finished, answer.status_code, answer.error) == (True, 200, None)
    assert [core.requests for core in cores] == [1, 0]


def test_a_named_core_gets_its_call(kernel: EmbeddedKernel) -> None:
    query = QUERY.model_copy(update={"llms": [{"name": "large", "backend": "openai"}]})
    assert response(kernel, query).response_message.startswith("large")


def test_a_core_that_is_not_there_is_an_error_response(kernel: EmbeddedKernel) -> None:
    answer = response(kernel, QUERY.model_copy(update={"llms": [{"name": "huge"}]}))
    assert (answer.status_code, answer.finished) == (500, True)
    assert "not all available" in answer.error


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("500", 502),
        ("429", 429),
        ("400", 400),
        ("401", 401),
        ("cut", 503),
        ("malformed", 500),
        ("empty", 500),
    ],
)
def test_core_faults_become_aios_statuses(
    kernel: EmbeddedKernel, cores: list[SandboxCore], fault: FaultKind, status: int
) -> None:
    cores[0].fail(fault)
    answer = response(kernel, QUERY)
    assert (answer.status_code, answer.finished, answer.response_message) == (status, True, None)
    assert "'small'" in answer.error
    cores[0].heal()
    assert response(kernel, QUERY).status_code == 200


def test_tool_calls_are_decoded_with_aios_names() -> None:
    def add(request: dict[str, Any]) -> Reply:
        assert request["tools"][0]["function"]["name"] == "math__add"
        return Reply(None, [{"name": "math__add", "arguments": {"a": 1}}])

    with SandboxCore("small", add) as core, EmbeddedKernel([core], quick_fifo) as kernel:
        [call] = response(kernel, QUERY.model_copy(update={"tools": [TOOL]})).tool_calls
        assert (call["name"], call["parameters"]) == ("math/add", {"a": 1})
        served = response(kernel, QUERY.model_copy(update={"tools": [TOOL], "action_type": "call_tool"}))
        assert served.response_class == "tool"
    assert TOOL["function"] == {"name": "math/add", "parameters": {"type": "object"}}


def test_connections_are_kept_alive_and_replaced_when_the_core_was_restarted() -> None:
    core = SandboxCore("small").start()
    port = core.port
    with EmbeddedKernel([core], quick_fifo) as kernel:
        assert response(kernel, QUERY).status_code == 200
        core.stop()
        with SandboxCore("small", port=port):
            assert response(kernel, QUERY).status_code == 200


@pytest.mark.parametrize("query", [MemoryQuery(), StorageQuery(), ToolQuery(tool_calls=[])])
def test_the_other_kinds_are_served(kernel: EmbeddedKernel, query: Query) -> None:
    answer = response(kernel, query)
    assert (answer.response_class, answer.finished) == (query.query_class, True)


def test_fifo_loses_a_service_call_that_raises_until_the_kernel_stops(
    kernel: EmbeddedKernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.memory_manager.fault = ValueError("disk full")
    lost = kernel.query("agent", MemoryQuery())
    until(lambda: "is lost" in caplog.text)
    kernel.memory_manager.fault = None
    assert response(kernel, MemoryQuery()).finished  # asked later, served first: the lost one stays lost
    assert not lost.done()
    kernel.stop()
    assert lost.result(WAIT_S)["response"].status_code == 503


def test_a_suspended_call_comes_back_with_the_same_pid(cores: list[SandboxCore]) -> None:
    with EmbeddedKernel(cores, Recording) as kernel:
        future = kernel.query("agent", QUERY)
        first = kernel.scheduler.next()
        finish(first, "suspend")
        second = kernel.scheduler.next()
        assert second is not first
        assert second.get_pid() == first.get_pid()
        finish(second, "done")
        answer = future.result(WAIT_S)
    assert answer["response"].response_message == "done"
    assert len(answer["waiting_times"]) == 1


def test_calls_in_the_kernel_are_limited_by_the_query_pool(cores: list[SandboxCore]) -> None:
    with EmbeddedKernel(cores, Recording, query_threads=3) as kernel:
        futures = [kernel.query("agent", QUERY) for _ in range(5)]
        calls = [kernel.scheduler.next() for _ in range(3)]
        with pytest.raises(Empty):
            kernel.scheduler.get_llm_syscall()
        for call in calls:
            finish(call, "done")
        for _ in range(2):
            finish(kernel.scheduler.next(), "done")
        for future in futures:
            future.result(WAIT_S)


def test_fifo_answers_a_batch_when_its_slowest_call_is_done() -> None:
    slow_may_go = threading.Event()

    def wait_when_slow(request: dict[str, Any]) -> Reply:
        if request["messages"][0]["content"] == "slow":
            slow_may_go.wait(WAIT_S)
        return Reply("done")

    batch = partial(FifoScheduler, batch_interval=0.2)
    with SandboxCore("small", wait_when_slow) as core, EmbeddedKernel([core], batch) as kernel:
        texts = ("slow", "fast")
        futures = [
            kernel.query("agent", LLMQuery(messages=[{"role": "user", "content": text}])) for text in texts
        ]
        until(lambda: core.stats["by_status"].get("200") == 1)
        assert not futures[1].done()  # the core has answered it; the barrier holds it back
        slow_may_go.set()
        for future in futures:
            assert future.result(WAIT_S)["response"].response_message == "done"


def test_stop_answers_every_call_and_leaves_no_thread(cores: list[SandboxCore]) -> None:
    before = set(threading.enumerate())
    cores[0].fail("hang")
    kernel = EmbeddedKernel(cores, quick_fifo, query_threads=4).start()
    futures = [kernel.query("agent", QUERY) for _ in range(8)]
    until(lambda: cores[0].in_flight > 0)
    kernel.stop(grace_s=0.05)
    for future in futures:
        assert future.result(0)["response"].status_code == 503
    left = [t for t in threading.enumerate() if t not in before and not t.name.startswith("sandbox-core")]
    assert left == []
    with pytest.raises(RuntimeError, match="not running"):
        kernel.query("agent", QUERY)
