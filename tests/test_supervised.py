from __future__ import annotations

import threading

import pytest
from fake_clock import FakeClock

from eccos_aios.supervised import SupervisedThread

WAIT_S = 10.0


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, MemoryError, KeyboardInterrupt])
def test_work_that_raises_is_begun_again(kind: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    raising, recovered, done = [kind("once"), kind("twice")], [], threading.Event()

    def work() -> None:
        if raising:
            raise raising.pop()
        done.set()

    clock = FakeClock()
    thread = SupervisedThread("worker", work, recovered.append, clock)
    thread.start()
    clock.advance_until(done.is_set, 1.0)
    assert thread.join(WAIT_S)
    assert (thread.restarts, thread.fault) == (2, kind.__name__)
    assert [str(error) for error in recovered] == ["twice", "once"]
    assert len([record for record in caplog.records if "goes on" in record.message]) == 1


def test_recovering_may_raise_too() -> None:
    calls, done = iter([1]), threading.Event()

    def work() -> None:
        if next(calls, None):
            raise ValueError
        done.set()

    def recover(_: BaseException) -> None:
        raise KeyError

    clock = FakeClock()
    thread = SupervisedThread("worker", work, recover, clock)
    thread.start()
    clock.advance_until(done.is_set, 1.0)


def test_it_ends_while_it_pauses() -> None:
    begun = threading.Event()

    def work() -> None:
        begun.set()
        raise RuntimeError

    thread = SupervisedThread("worker", work, clock=FakeClock())
    thread.start()
    assert begun.wait(WAIT_S)
    thread.end()
    assert thread.join(WAIT_S)
    assert not thread.alive
