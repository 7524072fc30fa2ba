"""What cores that fail do to calls: retries, breakers, and a state machine that shows that nothing is lost."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from fake_clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from test_scheduler import WAIT_S, Answers, TableOfQualities, call

from eccos_aios.core import Core, Price
from eccos_aios.predict import CallText
from eccos_aios.schedule import (
    ANSWERED,
    TRANSITIONS,
    AttemptOutcome,
    Call,
    CallResult,
    CallState,
    ExecutionResult,
    OutcomeKind,
    Requirements,
    RetryPolicy,
    Scheduler,
    SchedulerSettings,
)
from eccos_aios.schedule.breaker import FAILURES_TO_OPEN

CHEAP = Core(name="cheap", quota=2, price=Price(input=1, output=1))
DEAR = Core(name="dear", quota=2, price=Price(input=9, output=9))
FAILS = AttemptOutcome(OutcomeKind.CORE_FAILS, "HTTP 500")
AT_FAULT = AttemptOutcome(OutcomeKind.CALL_AT_FAULT)
AT_ONCE = RetryPolicy(max_attempts=3, first_backoff_s=0.0)


class Failing:
    """Cores that fail so many times each."""

    def __init__(self, outcome: AttemptOutcome = FAILS, **failures: int) -> None:
        self.left = Counter(failures)
        self.outcome = outcome
        self.served: list[str] = []
        self._lock = threading.Lock()  # guards both

    def __call__(self, _: Call, core: str) -> ExecutionResult:
        with self._lock:
            self.served.append(core)
            self.left[core] -= 1
            failed = self.left[core] >= 0
        return ExecutionResult(f"{core} answered", self.outcome if failed else ANSWERED)


def run(backend: Any, cores: tuple[Core, ...] = (CHEAP, DEAR), **options: Any) -> tuple[Scheduler, Answers]:
    scheduler = Scheduler(
        cores,
        TableOfQualities(cheap=0.9, dear=0.9),
        backend,
        SchedulerSettings(**{"grace_s": 0.0, "retry": AT_ONCE, "batch_window_s": 0.0, **options}),
        clock=FakeClock(),
    )
    scheduler.start()
    return scheduler, Answers()


def test_a_call_whose_core_fails_is_answered_by_another() -> None:
    backend = Failing(cheap=1)
    scheduler, answers = run(backend)
    scheduler.submit(call(answers))
    result = answers.wait(1)[0]
    scheduler.stop()
    assert (result.core, result.failed) == ("dear", False)
    assert backend.served == ["cheap", "dear"]
    assert scheduler.status()["totals"]["retries"] == 1


def test_a_core_that_raises_is_retried_too() -> None:
    def cut(_: Call, core: str) -> ExecutionResult:
        if core == "cheap":
            raise ConnectionResetError("cut")
        return ExecutionResult("answered")

    scheduler, answers = run(cut)
    scheduler.submit(call(answers))
    assert answers.wait(1)[0].core == "dear"
    scheduler.stop()


def test_what_is_the_calls_own_fault_is_not_retried() -> None:
    backend = Failing(AT_FAULT, cheap=1)
    scheduler, answers = run(backend)
    scheduler.submit(call(answers))
    assert answers.wait(1)[0].failed
    scheduler.stop()
    assert backend.served == ["cheap"]


def test_attempts_end() -> None:
    backend = Failing(cheap=9, dear=9)
    scheduler, answers = run(backend)
    scheduler.submit(call(answers))
    assert answers.wait(1)[0].failed
    scheduler.stop()
    assert len(backend.served) == AT_ONCE.max_attempts


def test_the_only_core_is_tried_again() -> None:
    backend = Failing(cheap=2)
    scheduler, answers = run(backend, cores=(CHEAP,))
    scheduler.submit(call(answers))
    assert answers.wait(1)[0].value == "cheap answered"
    scheduler.stop()


def test_a_pinned_call_is_retried_at_its_core() -> None:
    backend = Failing(dear=1)
    scheduler, answers = run(backend)
    scheduler.submit(call(answers, pinned="dear"))
    assert answers.wait(1)[0].core == "dear"
    scheduler.stop()
    assert backend.served == ["dear", "dear"]


def test_a_core_that_keeps_failing_gets_no_more_calls() -> None:
    backend = Failing(cheap=10**6)
    scheduler, answers = run(backend, max_wait_s=0.0, max_quality_wait_s=0.0)
    for _ in range(FAILURES_TO_OPEN):
        scheduler.submit(call(answers))
        answers.wait(1)
    assert scheduler.status()["cores"]["cheap"]["state"] == "open"
    before = backend.served.count("cheap")
    for _ in range(10):
        scheduler.submit(call(answers))
    assert not any(result.failed for result in answers.wait(10))
    scheduler.stop()
    assert backend.served.count("cheap") == before


def test_a_backoff_that_ends_while_a_round_is_at_work_is_not_forgotten() -> None:
    clock, estimating, go_on = FakeClock(), threading.Event(), threading.Event()

    class SlowOnce(TableOfQualities):
        def predict(self, calls: Any, cores: Any) -> Any:
            if any(each.text == "slow" for each in calls):
                estimating.set()
                assert go_on.wait(WAIT_S)
            return super().predict(calls, cores)

    class DuringTheNextRound(RetryPolicy):
        def backoff_s(self, attempts: int) -> float:
            held = Call(CallText("slow", 1), Requirements(1, cores=frozenset({"dear"})), "hold", answers)
            scheduler.submit(held)
            return 0.05

    def backend(each: Call, core: str) -> ExecutionResult:
        if each.payload == "hold":
            assert release.wait(WAIT_S)
        first = each.attempts == 1 and each.payload is None
        return ExecutionResult(core, FAILS if first else ANSWERED)

    release, answers = threading.Event(), Answers()
    scheduler = Scheduler(
        (CHEAP, DEAR),
        SlowOnce(),
        backend,
        SchedulerSettings(batch_window_s=0.0, grace_s=WAIT_S, retry=DuringTheNextRound()),
        clock=clock,
    )
    scheduler.start()
    scheduler.submit(call(answers))
    assert estimating.wait(WAIT_S)
    clock.advance(0.05)
    go_on.set()
    try:
        assert not answers.wait(1)[0].failed
    finally:
        release.set()
        scheduler.stop()


def test_no_state_is_left_but_by_the_ways_written_down() -> None:
    for state, ways in TRANSITIONS.items():
        for other in CallState:
            fresh = call(lambda *_: None)
            fresh.state = state
            if other in ways or other is state:
                fresh.enter(other)
                assert fresh.state is other
            else:
                with pytest.raises(ValueError, match="cannot become"):
                    fresh.enter(other)


OUTCOMES = {
    "answer": ANSWERED,
    "at fault": AT_FAULT,
    "fails": FAILS,
    "refuses": AttemptOutcome(OutcomeKind.CORE_REFUSES, "HTTP 401"),
    "busy": AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 429", retry_after_s=0.005),
    "unfit": AttemptOutcome(OutcomeKind.CORE_UNFIT, "window", disputable=False),
    "says nothing": AttemptOutcome(OutcomeKind.NO_ANSWER),
}


class SchedulerMachine(RuleBasedStateMachine):
    """Calls come, cores answer, fail and hang in any order, cores are swapped: nothing is lost or doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: Counter[int] = Counter()
        self.submitted = 0
        self.last = 0
        self.over_quota: list[str] = []
        self._lock = threading.Lock()  # guards what the cores hold
        self.held: dict[str, list[tuple[threading.Event, list[str]]]] = {"cheap": [], "dear": []}
        self.quota = {"cheap": 2, "dear": 2}
        self.most_allowed = dict(self.quota)
        self.all_answered = threading.Condition()
        self.clock = FakeClock()
        self.scheduler = Scheduler(
            (CHEAP, DEAR),
            TableOfQualities(cheap=0.9, dear=0.9),
            self.execute,
            SchedulerSettings(
                batch_window_s=0.0,
                max_wait_s=0.005,
                max_quality_wait_s=0.01,
                grace_s=0.0,
                retry=AT_ONCE,
                call_timeout_s=60.0,
            ),
            clock=self.clock,
        )
        self.scheduler.start()

    def execute(self, _: Call, core: str) -> ExecutionResult:
        released, verdict = threading.Event(), ["answer"]
        with self._lock:
            self.held[core].append((released, verdict))
            if len(self.held[core]) > self.most_allowed[core]:
                self.over_quota.append(core)
        released.wait(WAIT_S)
        if verdict[0] == "raise":
            raise ConnectionResetError("cut")
        return ExecutionResult(core, OUTCOMES[verdict[0]])

    def on_done(self, call: Call, _: CallResult) -> None:
        with self.all_answered:
            self.answered[call.number] += 1
            self.all_answered.notify_all()

    @rule(named=st.sampled_from([None, "cheap", "dear", "absent"]), priority=st.integers(0, 2))
    def submit(self, named: str | None, priority: int) -> None:
        requirements = Requirements(1, cores=None if named is None else frozenset({named}))
        self.submitted += 1
        submitted = Call(
            CallText("q", 1), requirements, None, self.on_done, agent=str(priority), priority=priority
        )
        self.last = submitted.number
        self.scheduler.submit(submitted)

    @rule()
    def let_rounds_pass(self) -> None:
        """A call that no core may take is refused in a round; after the second, the first has dispatched."""
        for _ in range(2):
            self.submit("absent", 0)
            with self.all_answered:
                assert self.all_answered.wait_for(lambda: self.answered[self.last] == 1, WAIT_S)

    @rule(
        core=st.sampled_from(["cheap", "dear"]),
        verdict=st.sampled_from([*OUTCOMES, "raise"]),
    )
    def core_ends_its_oldest_call(self, core: str, verdict: str) -> None:
        with self._lock:
            ended = self.held[core].pop(0) if self.held[core] else None
        if ended is not None:
            ended[1][0] = verdict
            ended[0].set()

    @rule(seconds=st.sampled_from([0.005, 0.1, 1.0, 30.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """Backoffs, pauses of breakers and busy cores, and the calls' own time end."""
        self.clock.advance(seconds)

    @precondition(lambda self: self.submitted > 0)
    @rule(cheap=st.integers(1, 3), dear=st.integers(1, 3))
    def refresh(self, cheap: int, dear: int) -> None:
        with self._lock:
            # Calls in flight may exceed a quota that shrank under them; the larger one bounds them.
            for name, quota in (("cheap", cheap), ("dear", dear)):
                self.quota[name] = quota
                self.most_allowed[name] = max(self.most_allowed[name], quota)
        cores = [CHEAP.model_copy(update={"quota": cheap}), DEAR.model_copy(update={"quota": dear})]
        self.scheduler.reconfigure(
            cores,
            TableOfQualities(cheap=0.9),
            self.execute,
            SchedulerSettings(batch_window_s=0.0, max_wait_s=0.005, grace_s=0.0, retry=AT_ONCE),
        )

    @invariant()
    def no_quota_is_broken_and_nobody_is_answered_twice(self) -> None:
        assert self.over_quota == []
        assert all(times == 1 for times in self.answered.values())

    def teardown(self) -> None:
        stopper = threading.Thread(target=self.scheduler.stop, name="stopper")
        stopper.start()
        stopper.join(WAIT_S)
        with self._lock:
            held = [entry for entries in self.held.values() for entry in entries]
        for released, _ in held:
            released.set()
        assert not stopper.is_alive()
        assert sum(self.answered.values()) == self.submitted
        status: Any = self.scheduler.status()
        assert status["pending"] == 0
        assert status["totals"]["completed"] + status["totals"]["failed"] == self.submitted


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
