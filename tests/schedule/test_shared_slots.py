"""The slots of a core whose quota other kernels share."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from fake_clock import FakeClock

from eccos_aios.core import Core
from eccos_aios.predict import HybridPredictor
from eccos_aios.schedule import AttemptOutcome, CoreSlots, OutcomeKind
from eccos_aios.schedule.capacity import WaitLimits
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.outcome_kinds import ANSWERED
from eccos_aios.shared import SlotShare

CORE = Core(name="core", quota=4)
BUSY = AttemptOutcome(OutcomeKind.CORE_BUSY, "http_429", retry_after_s=5.0)
REFUSED = AttemptOutcome(OutcomeKind.CORE_REFUSES, "http_401")


class Source:
    """Gives out a few tokens, and writes down what is reported."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.line = 1.0
        self.reports: list[tuple[str, str, float]] = []

    def configure(self, quotas: Mapping[str, int]) -> None:
        pass

    def take(self, core: str) -> str | None:
        return self.tokens.pop() if self.tokens else None

    def give_back(self, core: str, token: str) -> None:
        self.tokens.append(token)

    def share(self, core: str) -> SlotShare:
        return SlotShare(len(self.tokens), 2, self.line)

    def want(self, pending: Mapping[str, int]) -> None:
        pass

    def report(self, core: str, state: str, seconds: float, cause: str) -> None:
        self.reports.append((core, state, pytest.approx(seconds)))


def test_a_core_takes_no_more_calls_than_its_source_gives() -> None:
    source = Source("1", "2")
    slots = CoreSlots(CORE, source=source)
    assert slots.availability()[:2] == (2, 2)
    assert slots.acquire() == slots.acquire() == "slot"
    assert slots.acquire() is None
    assert not slots.acquire_for_probe()
    slots.release()
    assert slots.availability().free == 1
    slots.release()
    assert sorted(source.tokens) == ["1", "2"]


def test_a_source_cannot_lift_the_quota() -> None:
    slots = CoreSlots(Core(name="core", quota=1), source=Source("1", "2"))
    assert slots.acquire() == "slot"
    assert slots.acquire() is None


def test_other_kernels_are_told_of_a_pause_once_and_of_a_core_that_is_down_and_back() -> None:
    clock, source = FakeClock(), Source("1", "2")
    slots = CoreSlots(CORE, clock=clock, source=source)
    slots.note(1, BUSY)
    slots.note(2, BUSY)
    assert source.reports == [("core", "paused", 5.0)]
    clock.advance(6.0)
    slots.note(3, REFUSED)
    slots.note(4, AttemptOutcome(OutcomeKind.ANSWERED), started_s=clock.now_s())
    assert [state for _, state, _ in source.reports] == ["paused", "open", "ok"]


def test_what_another_kernel_reports_holds_here_and_is_not_reported_again() -> None:
    clock, source = FakeClock(), Source("1", "2")
    slots = CoreSlots(CORE, clock=clock, source=source)
    slots.hear("paused", 5.0, "http_429")
    assert slots.availability().free == 0
    clock.advance(5.0)
    assert slots.availability().free == 2
    slots.hear("open", 0.0, "http_401")
    assert slots.availability().free == 0
    assert slots.status()["cause"] == "http_401"
    slots.hear("ok", 0.0, "")
    assert slots.availability().free == 2
    assert source.reports == []


def test_a_turn_is_longer_where_calls_of_other_kernels_wait() -> None:
    source = Source("1", "2")
    pool = CorePool((), HybridPredictor(), source=source).successor((CORE,), HybridPredictor())
    pool.slots[0].note(1, ANSWERED, service_s=0.4)
    alone = pool.capacity(WaitLimits())
    source.line = 3.0
    crowded = pool.capacity(WaitLimits())
    assert alone.turn_s.tolist() == pytest.approx([0.2])
    assert crowded.turn_s.tolist() == pytest.approx([0.6])
