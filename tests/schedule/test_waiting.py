"""How long calls wait for a cheaper core while another is free: one round's rule, and what it does under load."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from closed_loop import LoopCore, LoopResult, run_loop
from fake_clock import FakeClock

from eccos_aios.core import Core
from eccos_aios.predict import CallText
from eccos_aios.reasons import BETTER_FULL
from eccos_aios.schedule import Call, Requirements, SchedulerSettings
from eccos_aios.schedule.call import EstimateRow
from eccos_aios.schedule.capacity import WaitLimits
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.outcome_kinds import ANSWERED, AttemptOutcome, OutcomeKind
from eccos_aios.schedule.pipeline import RoundPipeline
from eccos_aios.schedule.plan import Dispatch
from eccos_aios.schedule.slots import MEASURED_CALLS

CHEAP, DEAR = 0, 1


def pool_of(service_s: dict[str, float | None], quota: int = 4) -> CorePool:
    """Cores that have answered calls in these seconds."""
    pool = CorePool((), object(), clock=FakeClock()).successor(  # type: ignore[arg-type]
        [Core(name=name, quota=quota) for name in service_s],
        object(),  # type: ignore[arg-type]
    )
    for slots, seconds in zip(pool.slots, service_s.values(), strict=True):
        for _ in range(0 if seconds is None else MEASURED_CALLS):
            slots.note(0, ANSWERED, service_s=seconds)
    return pool


def round_of(
    pool: CorePool,
    calls: int,
    busy: dict[int, int],
    cost: tuple[float, ...] = (1.0, 2.0),
    quality: tuple[float, ...] = (0.9, 0.9),
    target: float = 0.8,
    **options: float,
) -> Dispatch:
    """A round of like calls, where cores hold some calls already."""
    for column, taken in busy.items():
        for _ in range(taken):
            assert pool.slots[column].acquire()
    waiting = []
    for _ in range(calls):
        call = Call(CallText("a question", 10), Requirements(10), None, lambda *_: None)
        allowed = np.ones(len(cost), dtype=bool)
        call.row = EstimateRow(pool, np.array(quality), np.array(cost), allowed, np.zeros(len(cost)))
        waiting.append(call)
    chosen = SchedulerSettings(quality_target=target, **options)  # type: ignore[arg-type]
    return RoundPipeline(lambda _: None).plan(pool, chosen, waiting, lambda _: 0.0, 0.0)


def sent(dispatch: Dispatch) -> list[int]:
    return [placement.column for placement in dispatch.placements]


def waits(dispatch: Dispatch) -> list[int]:
    return list(dispatch.waiting_for.values())


@pytest.mark.parametrize(
    ("service_s", "options", "places"),
    [
        ((1.0, 1.0), {}, 1),  # the n-th in the line waits n / 4 seconds and may wait 0.25
        ((1.0, 1.0), {"max_wait_share": 0.5}, 2),
        ((1.0, 1.0), {"max_wait_share": 0.0}, 0),
        ((1.0, 1.0), {"max_wait_share": 0.5, "max_wait_s": 0.3}, 1),
        ((0.5, 1.0), {}, 4),  # may wait 0.75, its turns come each 0.125, yet only four slots are needed
        ((2.0, 1.0), {}, 0),
        ((8.0, 8.0), {}, 0),  # could wait 2 s by its share, which max_wait_s cuts to 1
        ((8.0, 8.0), {"max_wait_s": 60.0}, 1),
    ],
)
def test_the_wait_for_a_cheaper_core_is_worth_a_share_of_the_service_time(
    service_s: tuple[float, float], options: dict[str, float], places: int
) -> None:
    pool = pool_of(dict(zip(("cheap", "dear"), service_s, strict=True)))
    dispatch = round_of(pool, 4, {CHEAP: 4}, **options)
    assert (waits(dispatch), sent(dispatch)) == ([CHEAP] * places, [DEAR] * (4 - places))


def test_calls_go_to_the_cheap_core_while_it_is_free() -> None:
    assert sent(round_of(pool_of({"cheap": 1.0, "dear": 1.0}), 4, {})) == [CHEAP] * 4


def test_before_any_answer_no_call_waits_for_a_cheaper_core() -> None:
    dispatch = round_of(pool_of({"cheap": None, "dear": None}), 6, {CHEAP: 2})
    assert (sorted(sent(dispatch)), waits(dispatch)) == ([CHEAP] * 2 + [DEAR] * 4, [])


def test_before_any_answer_calls_wait_for_a_core_that_is_good_enough() -> None:
    dispatch = round_of(pool_of({"good": None, "bad": None}), 2, {0: 4}, quality=(0.9, 0.1))
    assert (sent(dispatch), waits(dispatch)) == ([], [0, 0])


def test_each_call_weighs_the_wait_against_the_free_core_that_it_could_have() -> None:
    pool = pool_of({"cheap": 1.0, "dear": 1.0, "slow": 20.0})
    dispatch = round_of(pool, 8, {0: 4, 1: 2}, cost=(1.0, 3.0, 2.0), quality=(0.9, 0.9, 0.9), max_wait_s=60.0)
    # One waits, as its turn comes soon; two are better off at the dear core; the others wait 0.5 s and more
    # rather than 20 s at the slow one.
    assert sorted(sent(dispatch)) == [1, 1]
    assert {placement.reason for placement in dispatch.placements} == {f"{BETTER_FULL} (cheap)"}
    assert waits(dispatch) == [0] * 6


def test_quality_is_waited_for_longer() -> None:
    pool = pool_of({"cheap": 1.0, "dear": 1.0})
    dispatch = round_of(pool, 4, {DEAR: 4}, quality=(0.2, 0.9))
    assert (sent(dispatch), waits(dispatch)) == ([], [DEAR] * 4)


def test_a_core_that_is_down_is_not_waited_for() -> None:
    limits = WaitLimits()
    pool = pool_of({"cheap": 0.2, "dear": 1.0})
    assert pool.capacity(limits).soon[CHEAP] > 0
    pool.slots[CHEAP].note(1, AttemptOutcome(OutcomeKind.CORE_REFUSES, "HTTP 401", disputable=False))
    assert pool.capacity(limits).soon[CHEAP] == 0


def test_a_core_that_seems_slow_by_a_few_answers_is_not_shunned() -> None:
    pool = pool_of({"cheap": 1.0, "dear": None})
    for _ in range(3):
        pool.slots[DEAR].note(0, ANSWERED, service_s=1.6)
    dispatch = round_of(pool, 4, {CHEAP: 4})
    assert (waits(dispatch), sent(dispatch)) == ([CHEAP], [DEAR] * 3)


# Under load: 64 callers on two cores of 16 slots and 0.2 s, of which the dear one costs twice as much.


def fixed(seconds: float) -> Callable[[np.random.Generator], float]:
    return lambda _: seconds


def varying(seconds: float) -> Callable[[np.random.Generator], float]:
    """Log-normal, as the lengths of answers are; a tenth take more than twice the mean."""
    return lambda rng: seconds * float(rng.lognormal(-0.32, 0.8))


def hard_and_easy(hard: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Quality of 1,000 questions at the dear and the cheap core."""
    is_hard = np.random.default_rng(0).random(1000) < hard
    return np.where(is_hard[:, None], [[0.97, 0.02]], [[0.97, 0.97]])


def under_load(
    callers: int,
    hard: float = 0.5,
    target: float = 0.85,
    service: Callable[[float], Callable[[np.random.Generator], float]] = fixed,
    seed: int = 0,
    **options: float,
) -> LoopResult:
    cores = [LoopCore("dear", 16, 2.0, service(0.2)), LoopCore("cheap", 16, 1.0, service(0.2))]
    chosen = SchedulerSettings(quality_target=target, **options)  # type: ignore[arg-type]
    result = run_loop(cores, callers, hard_and_easy(hard), chosen, seconds=4.0, warm_up_s=2.0, seed=seed)
    assert all(most <= 16 for most in result.most_at_once.values())
    return result


@pytest.mark.parametrize("service", [fixed, varying])
def test_64_callers_keep_every_slot_busy_and_cost_little_more(
    service: Callable[[float], Callable[[np.random.Generator], float]],
) -> None:
    result = under_load(64, service=service)
    # With a share without bound the fixed wait alone counts, as it did before.
    before = under_load(64, service=service, max_wait_share=1e6)
    assert before.busy_share < 0.85
    assert result.busy_share > 0.95
    assert result.calls_per_s > 0.9 * 160
    assert result.mean_cost < 1.15 * before.mean_cost
    assert result.mean_quality > 0.84
    assert result.percentile_s(95) <= before.percentile_s(95) * 1.02


@pytest.mark.parametrize("service", [fixed, varying])
@pytest.mark.parametrize("callers", [1, 8, 16])
def test_few_callers_are_served_by_the_cheap_core_alone(
    callers: int, service: Callable[[float], Callable[[np.random.Generator], float]]
) -> None:
    result = under_load(callers, hard=0.0, service=service)
    assert result.served["dear"] == 0
    assert result.mean_cost == pytest.approx(1.0)


def test_a_few_more_callers_than_the_cheap_core_has_slots_cost_no_more() -> None:
    result = under_load(20, hard=0.0)
    assert result.mean_cost == pytest.approx(1.0)
    assert under_load(24, hard=0.0).served["dear"] > 0


def test_32_callers_use_nearly_all_slots_however_service_times_vary() -> None:
    busy = [under_load(32, hard=0.0, service=varying, seed=seed).busy_share for seed in range(2)]
    assert min(busy) > 0.8


def test_quality_that_only_the_dear_core_delivers_is_not_traded_for_throughput() -> None:
    result = under_load(64, hard=0.9, target=0.9)
    assert result.mean_quality > 0.89
