"""Breaker, slots and fair queue under any order of events, each beside a plain model of what it promises."""

from __future__ import annotations

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
from test_scheduler import call

from eccos_aios.core import Core
from eccos_aios.schedule import ANSWERED, AttemptOutcome, Call, CoreSlots, OutcomeKind
from eccos_aios.schedule.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, LONGEST_PAUSE_S, CircuitBreaker
from eccos_aios.schedule.fair_queue import FairQueue

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


@pytest.mark.parametrize(
    "machine", [BreakerMachine, SlotsMachine, QueueMachine], ids=lambda each: each.__name__
)
def test_no_order_of_events_breaks_a_promise(machine: type[RuleBasedStateMachine]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )
