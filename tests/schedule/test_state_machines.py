"""Breaker, slots and fair queue under any order of events, each beside a plain model of what it promises."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fake_clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)
from test_plan_stages import AGREE, CHECK, FAILS, QUESTION, Scripted, running
from test_scheduler import Answers, call

from eccos_aios.core import Core
from eccos_aios.plans import AnswerPlan
from eccos_aios.schedule import (
    ANSWERED,
    Attempt,
    AttemptOutcome,
    Call,
    CoreSlots,
    OutcomeKind,
    RetryPolicy,
    Stage,
)
from eccos_aios.schedule.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, LONGEST_PAUSE_S, CircuitBreaker
from eccos_aios.schedule.fair_queue import FairQueue
from eccos_aios.schedule.plan_stages import PlanStages
from eccos_aios.verify import AnswerCheck

SECONDS = st.sampled_from([0.01, FIRST_PAUSE_S, 1.0, LONGEST_PAUSE_S])
OUTCOMES = st.sampled_from(
    [
        ANSWERED,
        AttemptOutcome(OutcomeKind.CORE_FAILS, "HTTP 500"),
        AttemptOutcome(OutcomeKind.CORE_REFUSES, "HTTP 401"),
        AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 429", retry_after_s=0.5),
        AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 503"),
        AttemptOutcome(OutcomeKind.CORE_UNFIT, "window"),
        AttemptOutcome(OutcomeKind.NO_ANSWER),
        AttemptOutcome(OutcomeKind.CALL_AT_FAULT),
    ]
)
BUSY = AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 429", retry_after_s=0.5)
SILENT = AttemptOutcome(OutcomeKind.CORE_SILENT, "no answer in time")


class BreakerMachine(RuleBasedStateMachine):
    """Opens at so many failures in a row or one refusal, never earlier, and always has a way back."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.breaker = CircuitBreaker()
        self.failures: set[int] = set()  # of the calls since the last success
        self.refused = False
        self.calls = 0

    @property
    def should_be_open(self) -> bool:
        return self.refused or len(self.failures) >= FAILURES_TO_OPEN

    @rule()
    def fails(self) -> None:
        self.calls += 1
        self.breaker.failed(self.calls, 1.0, "HTTP 500", self.clock.now_s())
        self.failures.add(self.calls)

    @rule()
    def refuses(self) -> None:
        self.breaker.refused("HTTP 401", self.clock.now_s())
        self.refused = True

    @rule()
    def answers(self) -> None:
        self.clock.advance(0.001)
        self.breaker.succeeded(self.clock.now_s())
        self.failures, self.refused = set(), False

    @precondition(lambda self: self.failures)
    @rule(data=st.data())
    def is_forgiven(self, data: st.DataObject) -> None:
        forgiven = data.draw(st.sampled_from(sorted(self.failures)))
        self.breaker.forgive(forgiven)
        self.failures.discard(forgiven)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.breaker.state == "open")
    @rule(well=st.sampled_from([True, False, None]))
    def is_probed(self, well: bool | None) -> None:
        due_s = self.breaker.probe_at_s
        assert due_s is not None
        assert due_s - self.clock.now_s() <= LONGEST_PAUSE_S
        self.clock.advance(max(0.001, due_s - self.clock.now_s()))
        self.breaker.probing()
        assert self.breaker.state == "half-open"
        if well is None:
            self.breaker.probe_ended(self.clock.now_s())
        elif well:
            self.breaker.succeeded(self.clock.now_s())
            self.failures, self.refused = set(), False
        else:
            self.breaker.probe_failed("HTTP 401", self.clock.now_s())

    @rule()
    def is_awaited(self) -> None:
        self.breaker.await_probe()

    @invariant()
    def it_is_open_exactly_where_it_should_be(self) -> None:
        assert (self.breaker.state != "ok") == self.should_be_open
        assert (self.breaker.probe_at_s is None) == (self.breaker.state != "open")
        assert bool(self.breaker.cause) == self.should_be_open


class SlotsMachine(RuleBasedStateMachine):
    """Never above the quota, never below zero, and usable again once all is given back."""

    taken: Bundle[tuple[int, bool, float]] = Bundle("taken")
    silent: Bundle[int] = Bundle("silent")

    @initialize(quota=st.integers(1, 6), probed=st.booleans())
    def make(self, quota: int, probed: bool) -> None:
        self.clock = FakeClock()
        self.quota = quota
        self.slots = CoreSlots(Core(name="core", quota=quota), probed=probed, clock=self.clock)
        self.held = 0
        self.calls = 0
        self.probing = False

    @rule(target=taken)
    def acquire(self) -> tuple[int, bool, float]:
        free = self.slots.availability().free
        admitted = self.slots.acquire()
        assert (admitted is not None) == (free > 0)
        self.calls += 1
        if admitted is None:
            return (0, False, 0.0)
        self.held += 1
        return (self.calls, admitted == "trial", self.clock.now_s())

    @rule(one=consumes(taken), outcome=OUTCOMES)
    def come_back(self, one: tuple[int, bool, float], outcome: AttemptOutcome) -> None:
        number, trial, started_s = one
        if number:
            self.slots.note(number, outcome, service_s=0.1, started_s=started_s, trial=trial)
            self.slots.release()
            self.held -= 1

    @rule(target=silent, one=consumes(taken))
    def time_out(self, one: tuple[int, bool, float]) -> int:
        number, trial, _ = one
        if number:
            self.slots.give_up(number, SILENT, 10.0, trial=trial)
        return number

    @rule(number=consumes(silent))
    def come_back_late(self, number: int) -> None:
        if number:
            self.slots.release(silent=True)
            self.held -= 1

    @rule(outcome=st.none() | OUTCOMES)
    def probe(self, outcome: AttemptOutcome | None) -> None:
        if self.slots.begin_probe():
            began_s = self.clock.now_s()
            self.clock.advance(0.01)
            if self.slots.acquire_for_probe():
                self.held += 1
                self.no_quota_is_broken()
                self.slots.release()
                self.held -= 1
            self.slots.end_probe(outcome, began_s)

    @rule(number=st.integers(1, 50))
    def forgive(self, number: int) -> None:
        self.slots.forgive(number)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(quota=st.integers(1, 6))
    def resize(self, quota: int) -> None:
        self.slots.resize(Core(name="core", quota=quota))
        self.quota = quota

    @invariant()
    def no_quota_is_broken(self) -> None:
        status = self.slots.status()
        availability = self.slots.availability()
        assert status["in_flight"] == self.held >= 0
        assert 0 <= availability.free <= max(0, self.quota - self.held)
        assert availability.slots in (0, self.quota)
        if status["state"] == "ok":
            assert availability.free == max(0, self.quota - self.held)
        else:
            assert availability.free <= 1
            assert availability.slots == 0


class QueueMachine(RuleBasedStateMachine):
    """Holds each call once, serves an agent's calls in their order, and lets no agent fall behind."""

    waiting: Bundle[Call] = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.queue = FairQueue({"heavy": 3.0}, max_age_s=60.0)
        self.model: list[Call] = []

    @rule(agent=st.sampled_from(["heavy", "a", "b"]), priority=st.integers(0, 1))
    def join(self, agent: str, priority: int) -> None:
        joined = call(lambda *_: None, agent=agent, priority=priority, arrived_s=self.clock.now_s())
        self.queue.join(joined)
        self.model.append(joined)

    @precondition(lambda self: self.model)
    @rule()
    def serve_the_first(self) -> None:
        (first,) = self.queue.front(1, self.clock.now_s())
        aged = [each for each in self.model if each.arrived_s <= self.clock.now_s() - 60.0]
        if aged:
            assert first.arrived_s == min(each.arrived_s for each in aged)
        else:
            assert first.priority == max(each.priority for each in self.model)
            equal = [each for each in self.model if each.priority == first.priority]
            assert first.turn == min(each.turn for each in equal)
        self.queue.leave(first)
        self.queue.served(first)
        self.model.remove(first)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), again=st.booleans())
    def leave(self, data: st.DataObject, again: bool) -> None:
        left = data.draw(st.sampled_from(self.model))
        turn = left.turn
        self.queue.leave(left)
        self.queue.leave(left)
        if again:
            self.queue.rejoin(left)
            assert left.turn == turn
        else:
            self.model.remove(left)

    @rule(seconds=st.sampled_from([0.0, 1.0, 59.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def every_call_waits_once(self) -> None:
        assert len(self.queue) == len(self.model)
        assert set(self.queue) == set(self.model)
        front = self.queue.front(len(self.model) + 1, self.clock.now_s())
        assert len(front) == len(self.model)
        assert set(front) == set(self.model)
        for agent in ("heavy", "a", "b"):
            assert self.queue.waiting_of(agent) == sum(each.agent == agent for each in self.model)


class StagesMachine(RuleBasedStateMachine):
    """Attempts at a plan's cores in any order of answers, faults and late answers, beside what they promise.

    A core is asked at most once, the last one only after the first stage has ended, and a plan that has
    ended gives an answer wherever one came, one that passes wherever one did.
    """

    @initialize(kind=st.sampled_from(["check", "agree"]))
    def begin(self, kind: str) -> None:
        self.make(kind)

    def make(self, kind: str) -> None:
        self.plan = AnswerPlan.check("a", "c") if kind == "check" else AnswerPlan.agree("a", "b", "c")
        self.stages = PlanStages(self.plan)
        self.asked: list[str] = []
        self.late: dict[str, Attempt] = {}

    @precondition(lambda self: self.stages.await_next() is not None)
    @rule()
    def gets_its_slot(self) -> None:
        core = self.stages.awaited
        assert core is not None
        assert core not in self.asked
        if core == self.plan.otherwise:
            assert not self.stages.under_way
        self.asked.append(core)
        self.stages.begin(Attempt(core))

    @precondition(lambda self: self.stages.under_way and self.stages.beside() is not None)
    @rule()
    def is_asked_beside(self) -> None:
        core = self.stages.awaited
        assert core in self.plan.cores
        self.asked.append(core)
        self.stages.begin(Attempt(core))

    @precondition(lambda self: self.stages.await_next() is not None)
    @rule()
    def is_skipped(self) -> None:
        assert self.stages.awaited is not None
        self.asked.append(self.stages.awaited)
        self.stages.end(Stage(self.stages.awaited, None, failure="is down"))

    @precondition(lambda self: self.stages.under_way)
    @rule(data=st.data(), passes=st.booleans(), key=st.sampled_from(["1", "2"]))
    def answers(self, data: st.DataObject, passes: bool, key: str) -> None:
        core = data.draw(st.sampled_from(sorted(self.stages.under_way)))
        check = AnswerCheck(passes, key if passes else None)
        assert self.stages.end(Stage(core, check, core), self.stages.under_way[core])

    @precondition(lambda self: self.stages.under_way)
    @rule(data=st.data())
    def times_out(self, data: st.DataObject) -> None:
        core = data.draw(st.sampled_from(sorted(self.stages.under_way)))
        self.late[core] = self.stages.under_way[core]
        self.stages.end(Stage(core, None, failure="no answer in time"))

    @precondition(lambda self: self.late)
    @rule(data=st.data(), passes=st.booleans())
    def answers_late(self, data: st.DataObject, passes: bool) -> None:
        core = data.draw(st.sampled_from(sorted(self.late)))
        assert not self.stages.end(Stage(core, AnswerCheck(passes), core), self.late.pop(core))

    @precondition(lambda self: not self.stages.is_open)
    @rule(kind=st.sampled_from(["check", "agree"]))
    def another_call_begins(self, kind: str) -> None:
        self.make(kind)

    @invariant()
    def the_best_answer_is_in_hand(self) -> None:
        answered = [stage for stage in self.stages.ended if stage.check is not None]
        held = self.stages.in_hand
        assert (held is None) == (not answered)
        if held is not None:
            assert held.passes == any(stage.passes for stage in answered)
        assert len(self.asked) == len(set(self.asked))
        if not self.stages.is_open and any(stage.passes for stage in answered):
            final = self.stages.final or held
            assert final is not None
            assert final.check is not None


class PlannedCallsMachine(RuleBasedStateMachine):
    """A scheduler with calls of one core and of plans: quotas hold, and each call gets one result."""

    @initialize(plans=st.sampled_from([(CHECK,), (AGREE,), (CHECK, AGREE)]))
    def make(self, plans: tuple[AnswerPlan, ...]) -> None:
        self.clock = FakeClock()
        self.backend = Scripted(a="ok 1", b="ok 1", c="ok 1")
        self.answers = Answers()
        self.submitted = 0
        self._running = running(
            self.backend,
            *plans,
            clock=self.clock,
            max_calls_per_query=3.0,
            call_timeout_s=50.0,
            retry=RetryPolicy(max_attempts=2),
        )
        self.scheduler = self._running.__enter__()

    @rule(core=st.sampled_from("abc"), said=st.sampled_from(["ok 1", "ok 2", "bad", FAILS, BUSY]))
    def changes(self, core: str, said: str | AttemptOutcome) -> None:
        self.backend.script[core] = said

    @rule(number=st.integers(1, 5), checkable=st.booleans())
    def ask(self, number: int, checkable: bool) -> None:
        for _ in range(number):
            asked = call(self.answers, question=QUESTION if checkable else None)
            self.scheduler.submit(asked)
        self.submitted += number

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def no_quota_is_broken(self) -> None:
        assert max(self.backend.most.values()) <= 2
        assert len(self.answers) <= self.submitted

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self._running.__exit__(None, None, None)
        numbers = [asked.number for asked, _ in self.answers.results]
        assert len(numbers) == len(set(numbers)) == self.submitted
        for _, result in self.answers.results:
            if any(stage.check is not None for stage in result.stages):
                assert not result.failed
        # a stop does not wait for the threads whose calls it has answered
        ends_s = time.monotonic() + 10.0
        while any(core["in_flight"] for core in self.statuses()) and time.monotonic() < ends_s:
            time.sleep(0.001)
        assert [core["in_flight"] for core in self.statuses()] == [0, 0, 0]

    def statuses(self) -> list[Any]:
        cores: Any = self.scheduler.status()["cores"]
        return list(cores.values())


@pytest.mark.parametrize(
    "machine", [BreakerMachine, SlotsMachine, QueueMachine, StagesMachine], ids=lambda each: each.__name__
)
def test_no_order_of_events_breaks_a_promise(machine: type[RuleBasedStateMachine]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )


def test_no_order_of_events_breaks_a_quota_or_loses_a_call_with_plans() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        PlannedCallsMachine, settings=settings(max_examples=25, stateful_step_count=12, deadline=None)
    )
