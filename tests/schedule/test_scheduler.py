from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.core import Core, Price
from eccos_aios.errors import NoCoreError
from eccos_aios.predict import CallText, Estimates, Predictor
from eccos_aios.schedule import (
    ANSWERED,
    AttemptOutcome,
    Call,
    CallResult,
    CallTimeoutError,
    ExecutionResult,
    OutcomeKind,
    Requirements,
    RetryPolicy,
    Scheduler,
    SchedulerSettings,
    StoppedError,
)

WAIT_S = 10.0  # seconds; what takes this long in a test hangs
AT_FAULT = AttemptOutcome(OutcomeKind.CALL_AT_FAULT)


class TableOfQualities(Predictor):
    """Every call has the same quality on a core."""

    def __init__(self, **quality: float) -> None:
        self.quality = quality

    def fit(self, history: Sequence[object]) -> TableOfQualities:
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        quality = np.array([[self.quality.get(name, 0.5) for name in cores]] * len(calls))
        return Estimates(
            quality, np.full_like(quality, 100.0), np.full_like(quality, 100.0), np.ones_like(quality)
        )


class Answers:
    """Collects the results of calls, and lets a test wait for them."""

    def __init__(self) -> None:
        self.results: list[tuple[Call, CallResult]] = []
        self._arrived = threading.Semaphore(0)

    def __len__(self) -> int:
        return len(self.results)

    def __call__(self, call: Call, result: CallResult) -> None:
        self.results.append((call, result))
        self._arrived.release()

    def wait(self, number: int) -> list[CallResult]:
        for _ in range(number):
            assert self._arrived.acquire(timeout=WAIT_S), (
                f"{len(self.results)} of {number} calls were answered"
            )
        return [result for _, result in self.results]


class Backend:
    """Cores that count what they hold; a gate keeps their calls until it is opened."""

    def __init__(self, open_gate: bool = True) -> None:
        self.gate = threading.Event()
        if open_gate:
            self.gate.set()
        self._lock = threading.Lock()  # guards the counters
        self.in_flight: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.served: list[tuple[str, object]] = []
        self.holding = threading.Semaphore(0)

    def __call__(self, call: Call, core: str) -> ExecutionResult:
        with self._lock:
            self.in_flight[core] += 1
            self.most[core] = max(self.most[core], self.in_flight[core])
            self.served.append((core, call.payload))
        self.holding.release()
        try:
            assert self.gate.wait(WAIT_S)
            if call.payload == "raise":
                raise ConnectionResetError("cut")
            return ExecutionResult(f"{core} answered", AT_FAULT if call.payload == "fail" else ANSWERED)
        finally:
            with self._lock:
                self.in_flight[core] -= 1

    def wait_until_holding(self, number: int) -> None:
        for _ in range(number):
            assert self.holding.acquire(timeout=WAIT_S)


def call(on_done: Callable[[Call, CallResult], None], payload: object = None, **fields: object) -> Call:
    fields.setdefault("requirements", Requirements(10))
    return Call(text=CallText("a question", 10), payload=payload, on_done=on_done, **fields)  # type: ignore[arg-type]


CHEAP = Core(name="cheap", quota=2, price=Price(input=1, output=1))
DEAR = Core(name="dear", quota=2, price=Price(input=9, output=9))


@contextmanager
def running(
    backend: Callable[[Call, str], ExecutionResult],
    cores: Sequence[Core] = (CHEAP, DEAR),
    predictor: Predictor | None = None,
    clock: FakeClock | None = None,
    **settings: Any,
) -> Iterator[Scheduler]:
    settings = {"grace_s": 0.0, "batch_window_s": 0.0, "retry": RetryPolicy(max_attempts=1), **settings}
    scheduler = Scheduler(
        cores,
        predictor or TableOfQualities(cheap=0.9, dear=0.95),
        backend,
        SchedulerSettings(**settings),
        clock=clock or FakeClock(),
    )
    scheduler.start()
    try:
        yield scheduler
    finally:
        if isinstance(backend, Backend):
            backend.gate.set()
        scheduler.stop()


def test_a_call_goes_to_the_cheapest_core_that_is_good_enough() -> None:
    backend, answers = Backend(), Answers()
    with running(backend, quality_target=0.8) as scheduler:
        scheduler.submit(call(answers))
        assert answers.wait(1)[0].core == "cheap"
    with running(backend, quality_target=0.93) as scheduler:
        scheduler.submit(call(answers))
        assert answers.wait(1)[1].core == "dear"


def test_calls_that_arrive_together_are_decided_together() -> None:
    seen: list[int] = []

    class Counting(TableOfQualities):
        def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
            seen.append(len(calls))
            return super().predict(calls, cores)

    clock, answers = FakeClock(), Answers()
    large = [CHEAP.model_copy(update={"quota": 8})]
    with running(Backend(), large, Counting(), clock, batch_window_s=0.2) as scheduler:
        for _ in range(8):
            scheduler.submit(call(answers))
        clock.advance_waiters(0.2)
        answers.wait(8)
        waited_s = [decision.waited_s for decision in scheduler.decisions()]
    assert waited_s == pytest.approx([0.2] * 8)
    # those that are there first are estimated while the others come, and none of them twice
    assert sum(seen) == 8
    assert len(seen) <= 2


def test_no_core_ever_holds_more_than_its_quota_and_every_call_is_answered_once() -> None:
    clock, backend, answers = FakeClock(), Backend(), Answers()
    with running(backend, clock=clock, max_wait_s=0.05, unavailable_after_s=1000.0) as scheduler:
        for number in range(200):
            scheduler.submit(call(answers, payload=("fail", "raise", "fine")[number % 3]))
        clock.advance_until(lambda: len(answers) == 200, 500.0)
        totals = scheduler.status()["totals"]
    assert max(backend.most.values()) <= 2
    assert len({id(answered) for answered, _ in answers.results}) == 200
    assert totals["submitted"] == 200 == totals["completed"] + totals["failed"]
    assert totals["failed"] == 134


def test_a_busy_cheap_core_is_waited_for_but_not_for_long() -> None:
    clock, backend, answers = FakeClock(), Backend(open_gate=False), Answers()
    limits = {"max_wait_s": 0.6, "max_wait_share": 1.0}
    with running(backend, clock=clock, quality_target=0.5, **limits) as scheduler:
        for _ in range(2):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        clock.advance(1.0)
        backend.gate.set()  # a call at the cheap core takes a second: a slot comes free each half second
        answers.wait(2)
        backend.gate.clear()
        for _ in range(3):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        assert [core for core, _ in backend.served] == ["cheap"] * 4
        clock.advance_waiters(0.6)
        backend.wait_until_holding(1)  # the third has waited long enough, and takes the free core
        assert backend.served[4][0] == "dear"


def test_a_core_that_is_good_enough_is_waited_for_longer_than_a_cheap_one() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, max_wait_s=0.0, max_quality_wait_s=WAIT_S, quality_target=0.94) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers, payload="needs the dear one"))
        backend.wait_until_holding(2)
        scheduler.submit(
            call(answers, payload="for cheap", requirements=Requirements(10, cores=frozenset({"cheap"})))
        )
        backend.wait_until_holding(1)
        assert [core for core, payload in backend.served if payload == "needs the dear one"] == [
            "dear",
            "dear",
        ]
        backend.gate.set()
        assert [result.core for result in answers.wait(4)].count("dear") == 3


def test_but_not_for_ever() -> None:
    clock, backend, answers = FakeClock(), Backend(), Answers()
    limits = {"max_wait_s": 0.0, "max_quality_wait_s": 0.2}
    with running(backend, clock=clock, quality_target=0.94, **limits) as scheduler:
        scheduler.submit(call(answers))
        answers.wait(1)  # so that the core is known to be fast enough to be waited for
        backend.gate.clear()
        for _ in range(3):
            scheduler.submit(call(answers))
        backend.wait_until_holding(3)
        clock.advance_waiters(0.2)
        backend.wait_until_holding(1)
        assert Counter(core for core, _ in backend.served) == {"dear": 3, "cheap": 1}


def test_of_equal_cores_the_free_one_is_taken_though_nobody_has_tried_it() -> None:
    clock, backend, answers = FakeClock(), Backend(open_gate=False), Answers()
    equal = (Core(name="first", quota=2), Core(name="second", quota=2))
    with running(backend, cores=equal, clock=clock, batch_window_s=0.1) as scheduler:
        scheduler.submit(call(answers))
        clock.advance_waiters(0.1)
        backend.wait_until_holding(1)
        clock.advance(0.01)
        backend.gate.set()
        answers.wait(1)  # now one core is known to be fast, and the other is unknown
        backend.gate.clear()
        for _ in range(4):
            scheduler.submit(call(answers))
        clock.advance_waiters(0.1)
        backend.wait_until_holding(4)
        assert backend.in_flight == {"first": 2, "second": 2}


def test_a_call_that_only_one_core_may_take_waits_for_it() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, max_wait_s=0.01) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers, requirements=Requirements(10, cores=frozenset({"dear"}))))
        backend.wait_until_holding(2)
        backend.gate.set()
        assert [result.core for result in answers.wait(3)] == ["dear"] * 3
    assert backend.most["dear"] == 2


def test_a_pinned_call_goes_on_at_its_core() -> None:
    answers = Answers()
    with running(Backend(), quality_target=0.0) as scheduler:
        scheduler.submit(call(answers, pinned="dear"))
        assert answers.wait(1)[0].core == "dear"


def test_a_call_that_no_core_may_take_is_told_why() -> None:
    small = Core(name="small", context_window=5)
    mute = Core(name="mute", supports=frozenset({"json"}))
    answers = Answers()
    with running(Backend(), cores=(small, mute)) as scheduler:
        scheduler.submit(call(answers, requirements=Requirements(10, frozenset({"tools"}))))
        error = answers.wait(1)[0].error
    assert isinstance(error, NoCoreError)
    assert "context window" in str(error)
    assert "tools" in str(error)


def test_a_raising_predictor_degrades_to_the_prior() -> None:
    class Broken(TableOfQualities):
        def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
            raise MemoryError("no room for the embedding")

    answers = Answers()
    with running(Backend(), predictor=Broken()) as scheduler:
        scheduler.submit(call(answers))
        assert answers.wait(1)[0].core == "cheap"
        assert scheduler.status()["totals"]["degraded_rounds"] == 1


def test_estimates_that_miss_their_range_by_rounding_do_not_stop_planning() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, predictor=TableOfQualities(cheap=-3e-16, dear=1 + 3e-16)) as scheduler:
        for _ in range(40):
            scheduler.submit(call(answers))
        backend.wait_until_holding(4)
        backend.gate.set()
        answers.wait(40)
        assert scheduler.status()["totals"]["degraded_rounds"] == 0


def test_a_raising_optimiser_degrades_to_the_first_free_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    for name in ("choose_cores", "solve"):
        monkeypatch.setattr(f"eccos_aios.schedule.passes.{name}", broken)
    backend, answers = Backend(), Answers()
    with running(backend) as scheduler:
        for _ in range(20):
            scheduler.submit(call(answers))
        assert {result.failed for result in answers.wait(20)} == {False}
    assert max(backend.most.values()) <= 2


def test_a_core_that_hangs_keeps_its_slot_and_its_agents_are_answered() -> None:
    clock, backend, answers = FakeClock(), Backend(open_gate=False), Answers()
    with running(backend, cores=(CHEAP,), clock=clock, call_timeout_s=60.0) as scheduler:
        for _ in range(5):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        clock.advance(60.0)
        assert {type(result.error) for result in answers.wait(5)} == {CallTimeoutError}
        assert scheduler.status()["cores"]["cheap"]["in_flight"] == 2
        backend.gate.set()
        scheduler.submit(call(answers))
        clock.advance_until(lambda: len(answers) == 6, 50.0)
        assert answers.results[-1][1].value == "cheap answered"
    assert len(answers) == 6  # the late answers were dropped


def test_stop_finishes_what_is_held_when_there_is_time() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, cores=(CHEAP,), grace_s=WAIT_S) as scheduler:
        for _ in range(6):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        backend.gate.set()
        scheduler.stop()
        assert [result.value for result in answers.wait(6)] == ["cheap answered"] * 6


def test_stop_answers_with_an_error_what_it_cannot_finish() -> None:
    before = set(threading.enumerate())
    clock, backend, answers = FakeClock(), Backend(open_gate=False), Answers()
    with running(backend, cores=(CHEAP,), clock=clock) as scheduler:
        for _ in range(5):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        stopper = threading.Thread(target=scheduler.stop, args=(3.0,), name="stopper")
        stopper.start()
        clock.advance_waiters(3.0)
        stopper.join(WAIT_S)
        scheduler.submit(call(answers))
        assert {type(result.error) for result in answers.wait(6)} == {StoppedError}
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
    assert set(threading.enumerate()) <= before


def test_stop_returns_after_every_receiver() -> None:
    """What the receivers write to can then be closed."""
    called, go_on, results = threading.Event(), threading.Event(), []

    def slow(call: Call, result: CallResult) -> None:
        called.set()
        assert go_on.wait(WAIT_S)
        results.append(result)

    with running(Backend(), cores=(CHEAP,)) as scheduler:
        scheduler.submit(call(slow))
        assert called.wait(WAIT_S)  # the call is done, its receiver is not
        stopper = threading.Thread(target=scheduler.stop, name="stopper")
        stopper.start()
        stopper.join(0.05)
        assert stopper.is_alive()
        go_on.set()
        stopper.join(WAIT_S)
        assert len(results) == 1


def test_a_result_tells_how_long_its_core_took_where_an_answer_came() -> None:
    clock, backend, answers = FakeClock(), Backend(open_gate=False), Answers()
    with running(backend, cores=(DEAR,), clock=clock, call_timeout_s=60.0) as scheduler:
        scheduler.submit(call(answers))
        backend.wait_until_holding(1)
        clock.advance(20.0)
        scheduler.submit(call(answers))
        backend.wait_until_holding(1)
        clock.advance(40.0)
        assert answers.wait(1)[0].service_s is None
        backend.gate.set()
        assert answers.wait(1)[1].service_s == pytest.approx(40.0)


def test_reconfigured_cores_keep_counting_their_calls_in_flight() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, cores=(CHEAP,)) as scheduler:
        for _ in range(4):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        larger = CHEAP.model_copy(update={"quota": 3})
        scheduler.reconfigure(
            (larger, DEAR),
            TableOfQualities(cheap=1.0),
            backend,
            SchedulerSettings(max_wait_s=60, batch_window_s=0.0),
        )
        backend.wait_until_holding(1)
        assert backend.in_flight["cheap"] == 3
        backend.gate.set()
        assert len(answers.wait(4)) == 4
    assert backend.most["cheap"] == 3


def test_a_core_may_join_and_take_the_calls_that_name_it() -> None:
    answers = Answers()
    with running(Backend()) as scheduler:
        scheduler.add_core(Core(name="new"))
        scheduler.submit(call(answers, requirements=Requirements(10, cores=frozenset({"new"}))))
        assert answers.wait(1)[0].core == "new"
        assert scheduler.core_names == ("cheap", "dear", "new")


def test_a_core_that_leaves_gets_no_more_calls_and_its_quota_holds_when_it_comes_back() -> None:
    answers, backend = Answers(), Backend(open_gate=False)
    with running(backend, quality_target=0.0, max_wait_s=60.0, grace_s=WAIT_S) as scheduler:
        scheduler.submit(call(answers))
        backend.wait_until_holding(1)
        scheduler.remove_core("cheap")
        assert scheduler.core_names == ("dear",)
        scheduler.submit(call(answers))
        backend.wait_until_holding(1)
        assert [core for core, _ in backend.served] == ["cheap", "dear"]
        scheduler.submit(call(answers, requirements=Requirements(10, cores=frozenset({"cheap"}))))
        (refused,) = answers.wait(1)
        assert isinstance(refused.error, NoCoreError)
        scheduler.add_core(CHEAP)
        for _ in range(4):
            scheduler.submit(call(answers))
        backend.wait_until_holding(1)
        backend.gate.set()
        assert all(not result.failed for result in answers.wait(6)[1:])
    assert backend.most["cheap"] == 2


def test_a_decision_is_one_line_of_figures_at_debug_and_says_nothing_of_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = Answers()
    caplog.set_level(logging.DEBUG, logger="eccos_aios")
    with running(Backend()) as scheduler:
        scheduler.submit(call(answers, agent="an agent"))
        answers.wait(1)
        (decision,) = scheduler.decisions()
    (line,) = [record.getMessage() for record in caplog.records]
    assert caplog.records[0].levelno == logging.DEBUG
    assert line.startswith(
        f"decision call={decision.call} id={decision.id} agent='an agent' core='cheap' reason='cheapest that reaches the target'"
    )
    assert f"decision_ms={decision.decision_ms:.3f} predicted_quality=0.9000 predicted_cost=" in line
    assert "a question" not in line


def test_a_receiver_that_raises_does_not_end_the_scheduler() -> None:
    def raising(_: Call, __: CallResult) -> None:
        raise RuntimeError("the agent is gone")

    answers = Answers()
    with running(Backend()) as scheduler:
        scheduler.submit(call(raising))
        scheduler.submit(call(answers))
        assert not answers.wait(1)[0].failed


@settings(max_examples=25, deadline=None)
@given(
    quotas=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    payloads=st.lists(st.sampled_from(["fine", "fail", "raise"]), max_size=30),
    restricted=st.lists(st.integers(0, 2), max_size=10),
)
def test_whatever_is_submitted_is_answered_within_the_quotas(
    quotas: list[int], payloads: list[str], restricted: list[int]
) -> None:
    cores = [Core(name=f"core{i}", quota=quota) for i, quota in enumerate(quotas)]
    clock, backend, answers = FakeClock(), Backend(), Answers()
    with running(backend, cores=cores, clock=clock, max_wait_s=0.02) as scheduler:
        for payload in payloads:
            scheduler.submit(call(answers, payload=payload))
        for column in restricted:  # some of these name a core that is not there
            scheduler.submit(call(answers, requirements=Requirements(1, cores=frozenset({f"core{column}"}))))
        clock.advance_until(lambda: len(answers) == len(payloads) + len(restricted), 60.0)
    assert all(backend.most[core.name] <= core.slots for core in cores)
    assert len(answers.results) == len(payloads) + len(restricted)
