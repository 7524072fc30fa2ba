"""From calls to the store: no call waits, what cannot be kept is counted, the thread has an end."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from fake_clock import FakeClock

from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import CallOutcome, HistoryStore, OutcomeRecorder
from eccos_aios.history.recorder import BATCH, CLOSE_S, LATE_S, RETRY_S

WRITER = "eccos-history-writer"


def call(identity: object) -> CallOutcome:
    return CallOutcome(call_id=str(identity), core="small", query="q")


class SlowStore(HistoryStore):
    """A store whose disk stands still until the test lets it go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def append_outcomes(self, outcomes: Iterable[CallOutcome]) -> int:
        self.reached.set()
        assert self.go_on.wait(30)
        return super().append_outcomes(outcomes)


class FullStore(HistoryStore):
    """A store that cannot be written until the test mends it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.refused = threading.Event()
        self.mended = threading.Event()

    def append_outcomes(self, outcomes: Iterable[CallOutcome]) -> int:
        if not self.mended.is_set():
            self.refused.set()
            raise HistoryError(str(self.path), "", ABSENT, "the store cannot be used: disk is full")
        return super().append_outcomes(outcomes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def slow(path: Path) -> Iterator[SlowStore]:
    with SlowStore(path) as store:
        yield store
        store.go_on.set()


def ids(store: HistoryStore) -> list[str]:
    return [outcome.call_id for outcome in store.outcomes()]


def writers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == WRITER]


def test_outcomes_reach_the_store_in_their_order(path: Path) -> None:
    with HistoryStore(path) as store, OutcomeRecorder(store) as recorder:
        assert all(recorder.record(call(n)) for n in range(3 * BATCH))
        assert recorder.flush(30)
        assert ids(store) == [str(n) for n in range(3 * BATCH)]
        assert recorder.dropped == 0


def test_a_call_never_waits_and_what_finds_no_room_is_counted(slow: SlowStore) -> None:
    recorder = OutcomeRecorder(slow, capacity=3)
    assert recorder.record(call("on its way"))
    assert slow.reached.wait(30)
    assert [recorder.record(call(n)) for n in range(5)] == [True] * 3 + [False] * 2
    assert recorder.dropped == 2
    assert not recorder.flush(0)
    slow.go_on.set()
    recorder.close()
    assert ids(slow) == ["on its way", "0", "1", "2"]


def test_closing_writes_what_waits_and_ends_the_thread(slow: SlowStore) -> None:
    recorder = OutcomeRecorder(slow)
    assert writers() == [WRITER]
    for n in range(BATCH + 5):
        recorder.record(call(n))
    slow.go_on.set()
    recorder.close()
    recorder.close()
    assert writers() == []
    assert len(ids(slow)) == BATCH + 5
    assert not recorder.record(call("late"))
    assert recorder.dropped == 1


def test_closing_gives_up_in_time_on_a_disk_that_stands_still(slow: SlowStore) -> None:
    clock = FakeClock()
    recorder = OutcomeRecorder(slow, clock=clock)
    recorder.record(call("on its way"))
    assert slow.reached.wait(30)
    recorder.record(call("waits"))
    closing = threading.Thread(target=recorder.close, name="closing")
    closing.start()
    clock.advance_waiters(CLOSE_S)
    closing.join(30)
    assert recorder.dropped == 1
    slow.go_on.set()
    recorder.close()
    assert (ids(slow), recorder.dropped) == (["on its way"], 1)


def test_outcomes_outlive_a_store_that_cannot_be_written_for_a_while(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    with FullStore(path) as store, OutcomeRecorder(store, clock=clock) as recorder:
        recorder.record(call("a"))
        assert store.refused.wait(30)
        store.refused.clear()
        clock.advance_waiters(RETRY_S)
        assert store.refused.wait(30)
        store.mended.set()
        clock.advance_waiters(RETRY_S)
        assert recorder.flush()
        assert (ids(store), recorder.dropped) == (["a"], 0)
    assert len([line for line in caplog.records if line.levelno == logging.WARNING]) == 1


def test_what_could_not_be_written_to_the_end_is_counted(path: Path) -> None:
    with FullStore(path) as store:
        recorder = OutcomeRecorder(store)
        for n in range(2 * BATCH):
            recorder.record(call(n))
        assert store.refused.wait(30)
        recorder.close()
        assert recorder.dropped == 2 * BATCH
        assert writers() == []


def test_many_threads_record_at_once_and_nothing_is_lost(path: Path) -> None:
    with HistoryStore(path) as store, OutcomeRecorder(store) as recorder:
        threads = [
            threading.Thread(target=lambda n=n: [recorder.record(call(f"{n}-{m}")) for m in range(100)])
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.flush()
        assert len(set(ids(store))) == 600 - recorder.dropped == 600


def test_a_capacity_of_nothing_is_refused(path: Path) -> None:
    with HistoryStore(path) as store, pytest.raises(ValueError, match="capacity: 0: must be at least 1"):
        OutcomeRecorder(store, capacity=0)


def test_what_is_on_disk_is_counted(path: Path) -> None:
    with HistoryStore(path) as store, OutcomeRecorder(store) as recorder:
        for number in range(3):
            recorder.record(call(number))
        recorder.flush()
        assert (recorder.recorded, recorder.dropped) == (3, 0)
    assert recorder.recorded == 3
    recorder.record(call("late"))
    assert (recorder.recorded, recorder.dropped) == (3, 1)


class MoodyStore(HistoryStore):
    """A store that raises a given fault: at every attempt for a while, or at one outcome for ever."""

    def __init__(self, path: Path, fault: BaseException, times: int = 0, poison: str | None = None) -> None:
        super().__init__(path)
        self.fault = fault
        self.left = times
        self.poison = poison

    def append_outcomes(self, outcomes: Iterable[CallOutcome]) -> int:
        batch = list(outcomes)
        if self.left > 0:
            self.left -= 1
            raise self.fault
        if any(outcome.call_id == self.poison for outcome in batch):
            raise self.fault
        return super().append_outcomes(batch)


def wrapped(cause: Exception) -> HistoryError:
    error = HistoryError("history.db", "", ABSENT, f"the store cannot be used: {cause}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("nobody foresaw this"),
        MemoryError(),
        SystemExit(3),
        OverflowError("Python int too large to convert to SQLite INTEGER"),
        wrapped(sqlite3.DataError("string or blob too big")),
        wrapped(sqlite3.ProgrammingError("Error binding parameter 7: type 'Decimal' is not supported")),
    ],
    ids=repr,
)
def test_an_outcome_that_the_store_does_not_take_costs_no_other(
    path: Path, fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    with MoodyStore(path, fault, poison="5") as store, OutcomeRecorder(store, clock=clock) as recorder:
        for number in range(40):
            recorder.record(call(number))
        clock.advance_until(lambda: recorder.recorded + recorder.dropped == 40, 1.0)
        assert recorder.record(call("afterwards"))
        assert recorder.record(call("5"))
        clock.advance_until(lambda: recorder.recorded + recorder.dropped == 42, 1.0)
        assert recorder.alive
        assert recorder.faults() == []
    assert sorted(ids(store)) == sorted([*(str(n) for n in range(40) if n != 5), "afterwards"])
    assert (recorder.recorded, recorder.dropped) == (40, 2)
    assert caplog.text.count("the store rejects it") == 1


@pytest.mark.parametrize("fault", [RuntimeError("not yet"), MemoryError(), SystemExit(1)], ids=repr)
def test_a_store_that_raises_anything_for_a_while_loses_nothing(path: Path, fault: BaseException) -> None:
    clock = FakeClock()
    with MoodyStore(path, fault, times=7) as store, OutcomeRecorder(store, clock=clock) as recorder:
        for number in range(300):
            recorder.record(call(number))
        clock.advance_until(lambda: recorder.recorded == 300, 20 * RETRY_S)
    assert len(ids(store)) == 300
    assert recorder.dropped == 0


def test_a_thread_that_raised_goes_on_with_what_it_had_in_hand(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = OutcomeRecorder._settle, [2]

    def settle(recorder: OutcomeRecorder, count: int, *, recorded: bool) -> None:
        if left[0]:
            left[0] -= 1
            raise MemoryError
        real(recorder, count, recorded=recorded)

    monkeypatch.setattr(OutcomeRecorder, "_settle", settle)
    clock = FakeClock()
    with HistoryStore(path) as store, OutcomeRecorder(store, clock=clock) as recorder:
        for number in range(10):
            recorder.record(call(number))
        clock.advance_until(lambda: recorder.recorded == 10, 1.0)
        assert recorder.restarts() == ["eccos-history-writer was restarted 2 times, last after MemoryError"]
        assert recorder.alive
    assert ids(store) == [str(number) for number in range(10)]
    assert (recorder.recorded, recorder.dropped) == (10, 0)


def test_what_keeps_outcomes_from_the_disk_is_said(path: Path) -> None:
    clock = FakeClock()
    with FullStore(path) as store, OutcomeRecorder(store, clock=clock) as recorder:
        assert recorder.faults() == []
        recorder.record(call("a"))
        assert store.refused.wait(30)
        clock.advance_waiters(RETRY_S)
        assert recorder.faults() == [
            f"outcomes have waited for the disk for {RETRY_S:.0f} s: the store cannot be used: disk is full"
        ]
        store.mended.set()
        clock.advance_until(lambda: recorder.recorded == 1, 2 * RETRY_S)
        assert recorder.faults() == []
    assert recorder.faults() == []


def test_a_disk_that_does_not_answer_is_said(slow: SlowStore) -> None:
    clock = FakeClock()
    with OutcomeRecorder(slow, clock=clock) as recorder:
        recorder.record(call("a"))
        assert slow.reached.wait(30)
        assert recorder.faults() == []
        clock.advance(LATE_S + 1)
        (fault,) = recorder.faults()
        assert "does not answer" in fault
        slow.go_on.set()
        assert recorder.flush(30)
        assert recorder.faults() == []
