from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
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
    fields.setdefault("needs", Requirements(10))
    return Call(text=CallText("a question", 10), payload=payload, on_done=on_done, **fields)  # type: ignore[arg-type]


CHEAP = Core(name="cheap", quota=2, price=Price(input=1, output=1))
DEAR = Core(name="dear", quota=2, price=Price(input=9, output=9))


@contextmanager
def running(
    backend: Callable[[Call, str], ExecutionResult],
    cores: Sequence[Core] = (CHEAP, DEAR),
    predictor: Predictor | None = None,
    **settings: Any,
) -> Iterator[Scheduler]:
    settings.setdefault("grace_s", 0.0)
    settings.setdefault("retry", RetryPolicy(max_attempts=1))
    scheduler = Scheduler(
        cores, predictor or TableOfQualities(cheap=0.9, dear=0.95), backend, SchedulerSettings(**settings)
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

    answers = Answers()
    roomy = [CHEAP.model_copy(update={"quota": 8})]
    with running(Backend(), roomy, Counting(), gather_s=0.2) as scheduler:
        for _ in range(8):
            scheduler.submit(call(answers))
        answers.wait(8)
        rounds = {decision.decision_ms for decision in scheduler.decisions()}
    assert len(rounds) == 1
    # those that are there first are estimated while the others come, and none of them twice
    assert sum(seen) == 8
    assert len(seen) <= 2


def test_no_core_ever_holds_more_than_its_quota_and_every_call_is_answered_once() -> None:
    backend, answers = Backend(), Answers()
    with running(backend, max_wait_s=0.05) as scheduler:
        for number in range(200):
            scheduler.submit(call(answers, payload=("fail", "raise", "fine")[number % 3]))
        answers.wait(200)
        totals = scheduler.status()["totals"]
    assert max(backend.most.values()) <= 2
    assert len({id(answered) for answered, _ in answers.results}) == 200
    assert totals["submitted"] == 200 == totals["completed"] + totals["failed"]
    assert totals["failed"] == 134


def test_a_busy_cheap_core_is_waited_for_but_not_for_long() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, max_wait_s=0.6, quality_target=0.5) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        assert [core for core, _ in backend.served] == ["cheap", "cheap"]
        backend.wait_until_holding(1)  # the third has waited long enough, and takes the free core
        assert backend.served[2][0] == "dear"


def test_a_core_that_is_good_enough_is_waited_for_longer_than_a_cheap_one() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, max_wait_s=0.0, max_quality_wait_s=WAIT_S, quality_target=0.94) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers, payload="needs the dear one"))
        backend.wait_until_holding(2)
        scheduler.submit(
            call(answers, payload="for cheap", needs=Requirements(10, cores=frozenset({"cheap"})))
        )
        backend.wait_until_holding(1)
        assert [core for core, payload in backend.served if payload == "needs the dear one"] == [
            "dear",
            "dear",
        ]
        backend.gate.set()
        assert [result.core for result in answers.wait(4)].count("dear") == 3


def test_but_not_for_ever() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, max_wait_s=0.0, max_quality_wait_s=0.2, quality_target=0.94) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers))
        backend.wait_until_holding(3)
        assert Counter(core for core, _ in backend.served) == {"dear": 2, "cheap": 1}


def test_of_equal_cores_the_free_one_is_taken_though_nobody_has_tried_it() -> None:
    backend, answers = Backend(), Answers()
    twins = (Core(name="first", quota=2), Core(name="second", quota=2))
    with running(backend, cores=twins, gather_s=0.1) as scheduler:
        scheduler.submit(call(answers))
        answers.wait(1)  # now one core is known to be quick, and the other is not known
        backend.gate.clear()
        for _ in range(4):
            scheduler.submit(call(answers))
        backend.wait_until_holding(5)
        assert backend.in_flight == {"first": 2, "second": 2}


def test_a_call_that_only_one_core_may_take_waits_for_it() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, max_wait_s=0.01) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers, needs=Requirements(10, cores=frozenset({"dear"}))))
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
        scheduler.submit(call(answers, needs=Requirements(10, frozenset({"tools"}))))
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
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, cores=(CHEAP,), call_timeout_s=0.5) as scheduler:
        for _ in range(5):
            scheduler.submit(call(answers))
        assert {type(result.error) for result in answers.wait(5)} == {CallTimeoutError}
        assert scheduler.status()["cores"]["cheap"]["in_flight"] == 2
        backend.gate.set()
        scheduler.submit(call(answers))
        assert answers.wait(1)[-1].value == "cheap answered"
    assert len(answers.results) == 6  # the late answers were dropped


def test_stop_finishes_what_is_held_when_there_is_time() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    scheduler = Scheduler((CHEAP,), TableOfQualities(), backend, SchedulerSettings(grace_s=WAIT_S))
    scheduler.start()
    for _ in range(6):
        scheduler.submit(call(answers))
    backend.wait_until_holding(2)
    backend.gate.set()
    scheduler.stop()
    assert [result.value for result in answers.wait(6)] == ["cheap answered"] * 6


def test_stop_answers_with_an_error_what_it_cannot_finish() -> None:
    before = set(threading.enumerate())
    backend, answers = Backend(open_gate=False), Answers()
    scheduler = Scheduler((CHEAP,), TableOfQualities(), backend, SchedulerSettings(grace_s=0.05))
    scheduler.start()
    for _ in range(5):
        scheduler.submit(call(answers))
    backend.wait_until_holding(2)
    scheduler.stop()
    scheduler.submit(call(answers))
    assert {type(result.error) for result in answers.wait(6)} == {StoppedError}
    backend.gate.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
    assert set(threading.enumerate()) <= before


def test_stop_returns_after_every_receiver() -> None:
    """Whoever keeps what calls gave can close it then."""
    told, go_on, kept = threading.Event(), threading.Event(), []

    def slow(call: Call, result: CallResult) -> None:
        told.set()
        assert go_on.wait(WAIT_S)
        kept.append(result)

    scheduler = Scheduler((CHEAP,), TableOfQualities(), Backend(), SchedulerSettings(grace_s=WAIT_S))
    scheduler.start()
    scheduler.submit(call(slow))
    assert told.wait(WAIT_S)  # the call is done, its receiver is not
    stopper = threading.Thread(target=scheduler.stop, name="stopper")
    stopper.start()
    stopper.join(0.1)
    assert stopper.is_alive()
    go_on.set()
    stopper.join(WAIT_S)
    assert len(kept) == 1


def test_a_result_tells_how_long_its_core_took_where_an_answer_came() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, cores=(CHEAP,), call_timeout_s=0.2) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers))
        assert {result.service_s for result in answers.wait(3)} == {None}
        backend.gate.set()
        scheduler.submit(call(answers))
        assert isinstance(answers.wait(1)[-1].service_s, float)


def test_reconfigured_cores_keep_counting_their_calls_in_flight() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, cores=(CHEAP,)) as scheduler:
        for _ in range(4):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        larger = CHEAP.model_copy(update={"quota": 3})
        scheduler.reconfigure(
            (larger, DEAR), TableOfQualities(cheap=1.0), backend, SchedulerSettings(max_wait_s=60)
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
        scheduler.submit(call(answers, needs=Requirements(10, cores=frozenset({"new"}))))
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
        scheduler.submit(call(answers, needs=Requirements(10, cores=frozenset({"cheap"}))))
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
        f"decision call={decision.call} id={decision.id} agent='an agent' core='cheap' reason='planned'"
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
    backend, answers = Backend(), Answers()
    with running(backend, cores=cores, max_wait_s=0.02, gather_s=0.0) as scheduler:
        for payload in payloads:
            scheduler.submit(call(answers, payload=payload))
        for column in restricted:  # some of these name a core that is not there
            scheduler.submit(call(answers, needs=Requirements(1, cores=frozenset({f"core{column}"}))))
        answers.wait(len(payloads) + len(restricted))
    assert all(backend.most[core.name] <= core.slots for core in cores)
    assert len(answers.results) == len(payloads) + len(restricted)
