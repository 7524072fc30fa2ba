from __future__ import annotations

import threading

import pytest
from fake_clock import FakeClock

from eccos_aios.schedule.call_threads import IDLE_S, CallThreads

WAIT_S = 10.0


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("pool-under-test")}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def threads(clock: FakeClock) -> CallThreads:
    return CallThreads("pool-under-test", clock=clock)


def test_a_thread_serves_one_call_after_the_other(threads: CallThreads) -> None:
    served: list[str] = []
    for _ in range(20):
        done = threading.Event()
        assert threads.reserve()
        threads.run(lambda done=done: (served.append(threading.current_thread().name), done.set()))  # type: ignore[misc]
        assert done.wait(WAIT_S)
    assert len(served) == 20
    assert len(set(served)) <= 3
    threads.close()


def test_as_many_run_at_once_as_were_reserved_and_idle_ones_end(
    threads: CallThreads, clock: FakeClock
) -> None:
    together = threading.Barrier(8)
    for _ in range(8):
        assert threads.reserve()
    for _ in range(8):
        threads.run(lambda: together.wait(WAIT_S) and None)
    clock.advance_until(lambda: not names(), 2 * IDLE_S)
    assert not together.broken


def test_a_process_without_threads_is_noticed_before_anything_is_held(
    threads: CallThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, begun = threading.Event(), threading.Event()
    assert threads.reserve()

    def hold() -> None:
        begun.set()
        release.wait(WAIT_S)

    threads.run(hold)
    assert begun.wait(WAIT_S)

    def exhausted(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        assert not threads.reserve()
    assert threads.reserve()
    threads.cancel()
    release.set()
    threads.close()


def test_a_task_that_raises_costs_no_thread(threads: CallThreads) -> None:
    done = threading.Event()
    for task in (lambda: 1 / 0, done.set):
        assert threads.reserve()
        threads.run(task)  # type: ignore[arg-type]
    assert done.wait(WAIT_S)
    threads.close()
