"""Rounds of one call decide as a large one would: the price of quality outlives them."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from closed_loop import ExactQuality, LoopCore, run_loop
from fake_clock import FakeClock
from test_plan_pass import batch_of

from eccos_aios.assign import Frontier
from eccos_aios.core import Core, Price
from eccos_aios.plans import AnswerPlan
from eccos_aios.predict import CallText
from eccos_aios.reasons import OUT_OF_REACH
from eccos_aios.requirements import Requirements
from eccos_aios.schedule import Call, CallResult, ExecutionResult, Scheduler, SchedulerSettings
from eccos_aios.schedule.call import EstimateRow, PlanRow
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.extra_calls import ExtraCalls
from eccos_aios.schedule.pipeline import RoundPipeline
from eccos_aios.schedule.plan import Placement
from eccos_aios.schedule.quality_debt import QualityDebt
from eccos_aios.schedule.quality_price import QualityPrice

PRICES = (1.0, 4.0, 20.0)
AGREE = AnswerPlan.agree("a", "b", "c")


def questions(number: int = 400, seed: int = 0) -> np.ndarray:
    """Quality of questions of all difficulties at a small, a medium and a large core."""
    rng = np.random.default_rng(seed)
    hard = rng.random((number, 1))
    right = 1 / (1 + np.exp(8 * (hard - np.array([0.4, 0.6, 0.85]))))
    return np.clip(right + rng.normal(0, 0.05, right.shape), 0.0, 1.0)


class OneByOne:
    """Calls that come one after the other, each planned alone."""

    def __init__(self, target: float, **given: Any) -> None:
        self.settings = SchedulerSettings(quality_target=target, **given)
        self.debt, self.extra = QualityDebt(), ExtraCalls(self.settings.max_calls_per_query)
        self.failures: list[int] = []
        self.pipeline = RoundPipeline(self.failures.append)
        self.pool = self.pool_of(PRICES)

    def pool_of(self, prices: tuple[float, ...]) -> CorePool:
        cores = [
            Core(name=name, quota=9, price=Price(input=price, output=0))
            for name, price in zip("abc", prices, strict=True)
        ]
        return CorePool((), object(), clock=FakeClock()).successor(cores, object())  # type: ignore[arg-type]

    def ask(
        self,
        quality: np.ndarray,
        target: float | None = None,
        plan: PlanRow | None = None,
        *,
        counted_before: bool = False,
    ) -> Placement:
        call = Call(CallText("?", 10), Requirements(10), None, lambda *_: None, quality_target=target)
        cost, allowed = self.pool.prices[0], np.ones(3, dtype=bool)
        call.row = EstimateRow(self.pool, quality, cost, allowed, np.zeros(3), plans=plan)
        spare = None if plan is None else self.extra.spare
        if counted_before:
            self.pipeline.count(self.pool, self.settings, [call], self.debt.owed, spare)
        (placed,) = self.pipeline.plan(
            self.pool, self.settings, [call], self.debt.owed, 0.0, spare_calls=spare
        ).placements
        assert placed.target is not None
        got, asked = float(quality[placed.column]), 1.0
        if placed.plan is not None and plan is not None:
            got, asked = float(plan.quality[0]), float(plan.calls[0])
        self.debt.sent(placed.target, got)
        self.extra.sent(asked)
        return placed


def cost_of_first_calls(target: float, calls: int, past: int) -> float:
    """Mean cost of the first calls of one caller over the least that their quality costs."""
    quality = questions(calls + past)
    caller = OneByOne(target)
    caller.pool = replace(caller.pool, predictor=ExactQuality(quality))
    texts = [CallText(str(number), 10) for number in range(calls, calls + past)]
    caller.pipeline.prime(caller.pool, caller.settings, texts, None)
    columns = [caller.ask(quality[row]).column for row in range(calls)]
    frontier = Frontier.of(quality[:calls], np.broadcast_to(PRICES, (calls, 3)))
    got = quality[np.arange(calls), columns].mean()
    assert got > target - 0.03  # few calls are harder by chance
    assert caller.failures == []
    return float(np.take(PRICES, columns).mean() / np.interp(got, frontier.quality, frontier.cost))


@pytest.mark.parametrize("target", [0.5, 0.6, 0.7])
def test_with_past_calls_the_first_ones_cost_little_more_than_the_optimum(target: float) -> None:
    assert cost_of_first_calls(target, calls=60, past=200) < 1.01 < cost_of_first_calls(target, 60, past=0)


def test_the_first_call_that_a_scheduler_gets_is_decided_at_the_price_of_past_ones() -> None:
    easy, hard = [0.9, 0.9, 0.9], [0.1, 0.1, 0.9]
    quality = np.array([hard] + 19 * [easy])
    asked: list[str] = []
    for past in ((), [CallText(str(row), 10) for row in range(len(quality))]):
        done = threading.Event()

        def execute(_: Call, core: str) -> ExecutionResult:
            asked.append(core)
            return ExecutionResult(core)

        def on_done(call: Call, result: CallResult, done: threading.Event = done) -> None:
            done.set()

        cores = OneByOne(0.8).pool.cores
        settings = SchedulerSettings(quality_target=0.8, batch_window_s=0.0)
        scheduler = Scheduler(cores, ExactQuality(quality), execute, settings, past=past)
        scheduler.start()
        scheduler.submit(Call(CallText("0", 10), Requirements(10), None, on_done))
        assert done.wait(10)
        scheduler.stop()
    assert asked == ["c", "a"]  # the mean of past calls reaches the target without the dear core


def test_past_calls_that_cannot_be_estimated_leave_the_price_to_the_first_calls() -> None:
    caller = OneByOne(0.8)
    caller.pool = replace(caller.pool, predictor=ExactQuality(np.zeros((0, 3))))
    caller.pipeline.prime(caller.pool, caller.settings, [CallText("7", 10)], None)
    assert caller.ask(np.array([0.5, 0.6, 0.9])).column == 2


@pytest.mark.parametrize("target", [0.5, 0.6, 0.7])
def test_one_caller_pays_little_more_than_the_optimum_over_all_its_calls(target: float) -> None:
    quality = questions()
    cores = [LoopCore(name, 4, usd, lambda _: 0.1) for name, usd in zip("abc", PRICES, strict=True)]
    result = run_loop(cores, 1, quality, SchedulerSettings(quality_target=target), seconds=60.0)
    frontier = Frontier.of(quality, np.broadcast_to(PRICES, quality.shape))
    least = np.interp(result.mean_quality, frontier.quality, frontier.cost)
    assert result.mean_quality == pytest.approx(target, abs=0.02)
    assert result.mean_cost < 1.1 * least
    # Each call at the cheapest core that reaches the target alone costs far more.
    alone = np.where(quality >= target, PRICES, np.inf).min(axis=1)
    assert result.mean_cost < 0.8 * np.where(np.isfinite(alone), alone, PRICES[-1]).mean()


def test_calls_of_one_question_mix_two_cores_to_reach_the_target() -> None:
    caller = OneByOne(0.8)
    got = [caller.ask(np.array([0.6, 0.6, 0.9])).column for _ in range(60)]
    assert np.mean(np.where(np.array(got) == 2, 0.9, 0.6)) == pytest.approx(0.8, abs=0.01)
    assert set(got) == {0, 2}
    assert caller.debt.points <= 1e-9  # at no time has less been delivered than was asked


def test_agents_with_targets_of_their_own_reach_them() -> None:
    caller, quality = OneByOne(0.5), questions(800)
    got: dict[float, list[float]] = {0.4: [], 0.7: []}
    for row in range(len(quality)):
        target = (0.4, 0.7)[row % 2]
        got[target].append(float(quality[row, caller.ask(quality[row], target).column]))
    assert {target: np.mean(each) for target, each in got.items()} == {
        0.4: pytest.approx(0.4, abs=0.03),
        0.7: pytest.approx(0.7, abs=0.03),
    }


def test_a_target_out_of_reach_is_told_and_costs_no_more_than_nearly_the_best() -> None:
    caller, quality = OneByOne(0.99), questions()
    placed = [caller.ask(each) for each in quality]
    assert np.mean([each.reason == OUT_OF_REACH for each in placed]) > 0.7
    columns = [each.column for each in placed]
    got, paid = quality[np.arange(len(quality)), columns].mean(), np.take(PRICES, columns).mean()
    best, dearest = quality.max(axis=1).mean(), np.take(PRICES, quality.argmax(axis=1)).mean()
    assert got > best - 0.02
    assert paid < 0.9 * dearest


def test_plans_ask_no_more_cores_than_their_bound_and_are_spent_where_they_gain_most() -> None:
    caller, rng = OneByOne(0.75, plans="agree", max_calls_per_query=1.5), np.random.default_rng(0)
    asked, quality, gains = [], [], []
    for _ in range(600):
        gain = float(rng.uniform(0, 0.4))
        row = PlanRow(
            (AGREE,),
            np.array([0.6 + gain]),
            np.array([6.0]),
            np.array([2.2]),
            np.array([0.2]),
            np.ones(1, bool),
        )
        placed = caller.ask(np.array([0.6, 0.6, 0.85]), plan=row)
        asked.append(1.0 if placed.plan is None else 2.2)
        quality.append((0.6 + gain) if placed.plan else (0.6, 0.6, 0.85)[placed.column])
        if placed.plan:
            gains.append(gain)
    assert np.mean(asked) <= 1.5 + 0.05
    assert min(gains[-100:]) > 0.1
    assert np.mean(quality) == pytest.approx(0.75, abs=0.02)


def test_other_prices_of_cores_are_another_price_of_quality() -> None:
    caller, quality = OneByOne(0.6), questions()
    for each in quality:
        caller.ask(each)
    caller.pool = caller.pool_of((1.0, 400.0, 2000.0))
    caller.debt, changed = QualityDebt(), np.array([0.2, 0.5, 0.65])
    # By the old price a point was worth a hundredth of what it costs now, and the cheapest would do.
    assert caller.ask(changed).column == 2


@pytest.mark.parametrize("method", ["count", "wanted"])
def test_a_fault_of_the_price_leaves_each_call_its_own_target(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(*_: object) -> None:
        raise FloatingPointError("no price")

    monkeypatch.setattr(QualityPrice, method, broken)
    caller = OneByOne(0.8)
    assert [caller.ask(np.array([0.6, 0.65, 0.9])).column for _ in range(2)] == [2, 2]
    assert caller.failures == [0, 0]  # counted as degraded


def test_calls_that_are_counted_before_their_round_are_decided_alike_and_count_once() -> None:
    before, within, quality = OneByOne(0.6), OneByOne(0.6), questions(150)
    for each in quality:
        placed = before.ask(each, counted_before=True)
        assert (placed.column, placed.reason) == ((other := within.ask(each)).column, other.reason)


@pytest.mark.parametrize("price_per_second", [0.0, 0.5])
@pytest.mark.parametrize("target", [0.5, 0.7, 0.84, 0.99])
def test_calls_that_come_one_by_one_get_what_they_get_together(
    target: float, price_per_second: float
) -> None:
    batch = batch_of(40, target)
    batch = replace(batch, target=replace(batch.target, price_per_second=price_per_second))
    together, alone = QualityPrice(), QualityPrice()
    each = [batch.take(np.array([row])) for row in range(len(batch))]
    together.count(batch, None)
    for one in each:
        alone.count(one, None)
    wanted = together.wanted(batch, 1.5)
    assert wanted is not None
    for row, one in enumerate(each):
        found = alone.wanted(one, 1.5)
        assert found is not None
        assert found.quality[0] == pytest.approx(wanted.quality[row], abs=1e-12)
        assert found.out_of_reach[0] == wanted.out_of_reach[row]
