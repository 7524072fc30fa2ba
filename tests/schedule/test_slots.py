"""What a core's outcomes mean for the calls that it gets next."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from eccos_aios.core import Core
from eccos_aios.schedule import ANSWERED, AttemptOutcome, CoreSlots, OutcomeKind
from eccos_aios.schedule.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, LONGEST_PAUSE_S, CircuitBreaker
from eccos_aios.schedule.slots import FIRST_BUSY_S, LONGEST_BUSY_S

FAILS = AttemptOutcome(OutcomeKind.CORE_FAILS, "HTTP 500")
REFUSES = AttemptOutcome(OutcomeKind.CORE_REFUSES, "HTTP 401", disputable=False)
SILENT = AttemptOutcome(OutcomeKind.CORE_SILENT, "no answer in time")
UNFIT = AttemptOutcome(OutcomeKind.CORE_UNFIT, "content filter")


def slots(quota: int = 4, *, probed: bool = True, clock: FakeClock | None = None) -> CoreSlots:
    return CoreSlots(Core(name="core", quota=quota), probed=probed, clock=clock or FakeClock())


def state(of: CoreSlots) -> object:
    return of.status()["state"]


def test_failures_in_a_row_open_and_a_success_between_starts_anew() -> None:
    clock = FakeClock()
    core = slots(clock=clock)
    for call in range(FAILURES_TO_OPEN - 1):
        core.note(call, FAILS)
    core.note(99, ANSWERED, service_s=0.1, started_s=clock.now_s())
    for call in range(FAILURES_TO_OPEN - 1):
        core.note(call, FAILS)
    assert state(core) == "ok"
    core.note(5, FAILS)
    assert state(core) == "open"
    assert core.acquire() is None
    assert core.status()["cause"] == "HTTP 500"


def test_a_core_that_refuses_opens_at_once() -> None:
    core = slots()
    core.note(1, REFUSES)
    assert state(core) == "open"


def test_what_a_core_cannot_take_says_nothing_of_it() -> None:
    core = slots()
    for call in range(20):
        core.note(call, UNFIT)
    assert state(core) == "ok"
    assert core.status()["failed"] == 0


@given(quota=st.integers(1, 40))
def test_a_core_whose_every_slot_hangs_opens_whatever_its_quota(quota: int) -> None:
    core = slots(quota)
    for call in range(quota):
        assert core.acquire() == "slot" or state(core) == "open"
        core.give_up(call, SILENT, 1.0)
    assert state(core) == "open"
    assert core.status()["in_flight"] <= quota


def test_what_was_the_calls_own_fault_is_taken_back() -> None:
    core = slots()
    for call in range(FAILURES_TO_OPEN):
        core.note(call, FAILS)
    assert state(core) == "open"
    core.forgive(0)
    assert state(core) == "ok"
    core.blame(0, FAILS)
    assert state(core) == "open"


def test_a_refusal_is_not_forgiven_with_a_call() -> None:
    core = slots()
    core.note(1, FAILS)
    core.note(2, REFUSES)
    core.forgive(1)
    assert state(core) == "open"


def test_a_busy_core_rests_for_as_long_as_it_says_and_has_not_failed() -> None:
    clock = FakeClock()
    core = slots(clock=clock)
    core.note(1, AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 429", retry_after_s=60.0))
    assert state(core) == "paused"
    assert core.acquire() is None
    assert core.availability().free == 0
    assert core.wakeup_s() == clock.now_s() + 60
    assert core.status()["failed"] == 0
    assert core.why_down(clock.now_s() + 600) == ""
    assert core.why_down(clock.now_s() + 10) == "HTTP 429"
    clock.advance(59.9)
    assert core.acquire() is None
    clock.advance(0.1)
    assert core.acquire() == "slot"


def test_a_busy_core_that_says_nothing_rests_longer_each_time_but_once_for_calls_sent_together() -> None:
    clock, busy = FakeClock(), AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 503")
    core = slots(clock=clock)
    pauses = []
    for _ in range(10):
        for call in range(8):
            core.note(call, busy)
        pauses.append((core.wakeup_s() or 0.0) - clock.now_s())
        clock.advance(pauses[-1])
    assert pauses[:4] == pytest.approx([FIRST_BUSY_S, 2 * FIRST_BUSY_S, 4 * FIRST_BUSY_S, 8 * FIRST_BUSY_S])
    assert pauses[-1] == pytest.approx(LONGEST_BUSY_S)


def test_an_answer_from_before_it_opened_proves_nothing() -> None:
    clock = FakeClock()
    core = slots(clock=clock)
    before_s = clock.now_s()
    clock.advance(1.0)
    core.note(1, REFUSES)
    core.note(2, ANSWERED, service_s=0.1, started_s=before_s)
    assert state(core) == "open"
    core.note(3, ANSWERED, service_s=0.1, started_s=clock.now_s())
    assert state(core) == "ok"


def test_a_probe_closes_what_is_well_again() -> None:
    clock = FakeClock()
    core = slots(clock=clock)
    core.note(1, REFUSES)
    assert not core.begin_probe()
    clock.advance(FIRST_PAUSE_S)
    assert core.begin_probe()
    assert state(core) == "half-open"
    assert core.acquire() is None  # with a prober, users' calls are no trials
    core.end_probe(REFUSES, clock.now_s())
    assert state(core) == "open"
    clock.advance(FIRST_PAUSE_S)
    assert not core.begin_probe()
    clock.advance(FIRST_PAUSE_S)
    assert core.begin_probe()
    core.end_probe(ANSWERED, clock.now_s())
    assert state(core) == "ok"
    assert core.acquire() == "slot"


def test_a_probe_takes_a_slot_as_any_call() -> None:
    core = slots(1)
    core.acquire()
    assert not core.acquire_for_probe()
    core.release()
    assert core.acquire_for_probe()
    assert core.status()["in_flight"] == 1


def test_where_nobody_probes_one_call_is_the_trial() -> None:
    clock = FakeClock()
    core = slots(probed=False, clock=clock)
    core.note(1, REFUSES)
    assert core.wakeup_s() == clock.now_s() + FIRST_PAUSE_S
    clock.advance(FIRST_PAUSE_S)
    assert core.availability().free == 1
    assert core.acquire() == "trial"
    assert core.acquire() is None
    core.release()
    core.note(2, FAILS, started_s=clock.now_s(), trial=True)
    assert state(core) == "open"


def test_the_pause_between_probes_doubles_unless_calls_wait() -> None:
    breaker, now_s, pauses = CircuitBreaker(), 0.0, []
    breaker.refused("HTTP 401", now_s)
    for _ in range(12):
        due_s = breaker.probe_at_s
        assert due_s is not None
        pauses.append(due_s - now_s)
        now_s = due_s
        breaker.probing()
        breaker.probe_failed("HTTP 401", now_s)
    assert pauses[:3] == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S)
    breaker.await_probe()
    assert (breaker.probe_at_s or 0.0) - now_s < 1.0


def test_an_attempt_gets_its_time_from_what_was_measured() -> None:
    core = slots()
    assert core.attempt_timeout_s() > 60
    core.note(1, ANSWERED, service_s=20.0, started_s=0.0)
    assert core.attempt_timeout_s() == pytest.approx(60.0)
    for call in range(200):
        core.note(call, ANSWERED, service_s=0.2, started_s=0.0)
    assert core.attempt_timeout_s() == pytest.approx(10.0)
    core.acquire()
    core.give_up(7, SILENT, 10.0)  # slower than ever, or hung: the next gets more time to tell
    assert core.attempt_timeout_s() == pytest.approx(20.0)
