"""What a conversation is remembered by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
from fake_clock import FakeClock

from eccos_aios.core import Core, Price, read_manifest
from eccos_aios.errors import ConfigError
from eccos_aios.predict import CallText, Estimates, Predictor
from eccos_aios.schedule import Call, ExecutionResult, Requirements, Scheduler, SchedulerSettings
from eccos_aios.schedule.affinity import CACHED_S, REMEMBERED_CALLS, Affinity, Conversation, Prefix
from eccos_aios.schedule.core_pool import CorePool


def test_a_call_finds_the_latest_of_those_it_goes_on_from() -> None:
    affinity = Affinity()
    affinity.served(Conversation("second"), "a")
    affinity.served(Conversation("third", ("second",)), "b")
    assert affinity.core_of(Conversation("fourth", ("third", "second"))) == "b"
    assert affinity.core_of(Conversation("other third", ("second",))) == "a"
    assert affinity.core_of(Conversation("second")) is None  # it goes on from nothing


def test_a_string_is_the_key_at_every_call_and_none_is_no_conversation() -> None:
    affinity = Affinity()
    affinity.served(None, "a")
    assert affinity.core_of(None) is None
    affinity.served("talk", "a")
    assert affinity.core_of("talk") == "a"


def test_no_more_calls_are_remembered_than_a_bound() -> None:
    affinity = Affinity()
    for number in range(REMEMBERED_CALLS + 1):
        affinity.served(str(number), "a")
    assert affinity.core_of("0") is None
    assert affinity.core_of("1") == "a"


class Even(Predictor):
    """Every core is equally good, and takes a million tokens of input for a call."""

    def fit(self, history: object) -> Even:
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        shape = (len(calls), len(cores))
        return Estimates(np.full(shape, 0.9), np.full(shape, 1e6), np.zeros(shape), np.ones(shape))


def costs(prefix: Prefix | None, clock: FakeClock, affinity: str = "off") -> list[float]:
    """Of a call at two cores, of which the first gives a discount on what it has read."""
    prices = (Price(input=3.0, cached_input=1.0), Price(input=2.0))
    cores = [Core(name=name, price=price) for name, price in zip("ab", prices, strict=True)]
    pool = CorePool((), Even(), clock=clock).successor(cores, Even())
    call = Call(CallText("go on", 1e6), Requirements(10), None, lambda *_: None, conversation="talk")
    pool.attach_estimates([call], pool.predict([call.text]), {call: prefix}, affinity)
    assert call.row is not None
    return call.row.cost.round(6).tolist()


def test_a_conversation_costs_less_where_its_prefix_is_cached() -> None:
    clock = FakeClock()
    assert costs(None, clock) == [3.0, 2.0]
    assert costs(Prefix("a", 0.75e6, clock.now_s()), clock) == [1.5, 2.0]
    assert costs(Prefix("a", 9e6, clock.now_s()), clock, "prefer") == [1.0, 2.0]  # at most the call itself
    assert costs(Prefix("b", 0.75e6, clock.now_s()), clock) == [3.0, 2.0]  # has no price for it
    assert costs(Prefix("b", 0.75e6, clock.now_s()), clock, "prefer") == [3.0, 1.8]
    read_s = clock.now_s()
    clock.advance(CACHED_S + 1)
    assert costs(Prefix("a", 0.75e6, read_s), clock) == [3.0, 2.0]  # nothing is cached for ever


def test_a_conversation_stays_where_that_is_cheaper_by_its_cache() -> None:
    cores = [
        Core(name="a", price=Price(input=3.0, cached_input=1.0)),
        Core(name="b", price=Price(input=2.0)),
    ]
    answered: Queue[str | None] = Queue()
    settings = SchedulerSettings(quality_target=0.0, batch_window_s=0.0)
    scheduler = Scheduler(cores, Even(), lambda call, core: ExecutionResult(core), settings)
    scheduler.start()
    for conversation in (None, "talk"):
        scheduler.remember(Conversation("talk"), "a", 1e6)
        scheduler.submit(
            Call(
                CallText("go on", 1e6),
                Requirements(10),
                None,
                lambda call, result: answered.put(result.core),
                conversation=conversation,
            )
        )
    scheduler.stop(10.0)
    assert sorted([answered.get(timeout=10.0) or "", answered.get(timeout=10.0) or ""]) == ["a", "b"]


def test_a_cached_token_cannot_cost_more_than_another(tmp_path: Path) -> None:
    manifest = tmp_path / "cores.yaml"
    manifest.write_text("cores: [{name: a, price: {input: 1.0, cached_input: 2.0}}]")
    with pytest.raises(ConfigError, match="cached_input: 2: must be at most input: 1"):
        read_manifest(manifest)
