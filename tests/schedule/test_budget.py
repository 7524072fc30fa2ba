"""Budgets: money lasts its period and buys the most quality, and what happens when it is spent."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from closed_loop import LoopCore, LoopResult, run_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from test_waiting import pool_of, varying

from eccos_aios.config import BudgetConfig
from eccos_aios.core import Core, Price
from eccos_aios.predict import CallText
from eccos_aios.reasons import CHEAPEST
from eccos_aios.schedule import Call, Requirements, SchedulerSettings, Usage
from eccos_aios.schedule.budget import (
    UNLIMITED,
    Budget,
    BudgetExhaustedError,
    affordable,
    period_of,
    within,
)
from eccos_aios.schedule.budgets import Budgets
from eccos_aios.schedule.call import EstimateRow
from eccos_aios.schedule.pipeline import RoundPipeline

HOUR_S = 3600.0


def unix_s(*moment: int) -> float:
    return datetime(*moment, tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("per", "begin", "end"),
    [
        ("hour", (2026, 12, 31, 23), (2027, 1, 1)),
        ("day", (2026, 12, 31), (2027, 1, 1)),
        ("month", (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_periods_are_those_of_the_calendar(per: Any, begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert period_of(per, unix_s(2026, 12, 31, 23, 30)) == (unix_s(*begin), unix_s(*end))
    assert period_of(per, unix_s(*end))[0] == unix_s(*end)


# The price


@given(
    seed=st.integers(0, 2**32), calls=st.integers(1, 60), cores=st.integers(1, 6), share=st.floats(0.01, 1.5)
)
def test_the_price_is_that_at_which_the_money_is_spent(
    seed: int, calls: int, cores: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    quality, cost = rng.random((calls, cores)), rng.lognormal(-5, 2, (calls, cores))
    cost[:, 1:][rng.random((calls, cores - 1)) < 0.2] = np.inf
    rows = np.arange(calls)
    best = np.where(np.isfinite(cost), quality, -1).argmax(axis=1)
    may_cost = share * float(cost[rows, best].mean())
    price, reached = affordable(quality, cost, may_cost)
    if cost[rows, best].mean() <= may_cost:
        assert (price, reached) == (0.0, pytest.approx(quality[rows, best].mean()))
        return
    # No choice of a core for each call that costs no more is better, as the price is a dual of that problem.
    bound = (
        price * may_cost
        + np.where(np.isfinite(cost), quality - price * np.where(np.isfinite(cost), cost, 0), -np.inf)
        .max(axis=1)
        .mean()
    )
    if cost.min(axis=1).mean() < may_cost:
        assert reached == pytest.approx(bound, abs=1e-6)


def test_a_price_leaves_the_cores_that_are_worth_it() -> None:
    quality, cost = np.tile([0.9, 0.8, 0.3], (3, 1)), np.tile([10.0, 2.0, 1.0], (3, 1))
    allowed = np.ones((3, 3), dtype=bool)
    left = within(quality, cost, allowed, np.array([0.0, 0.05, np.inf]))
    assert left.tolist() == [[True, True, True], [False, True, True], [False, False, True]]


# One budget, driven by hand: calls of two cores, the dear one ten times as expensive


def spend(
    budget: Budget, calls_per_s: float, until: float, rng: np.random.Generator, bill: float = 1.0
) -> tuple[list[float], float]:
    """Send calls as the budget allows; the quality of each, and the most that one cost."""
    now, qualities, dearest = budget.begin, [], 0.0
    while (now := now + float(rng.exponential(1 / calls_per_s))) < until:
        if budget.refusal(now):
            continue
        gain = float(rng.random())
        quality, cost = np.array([0.9, 0.9 - gain]), np.array([1.0, 0.1]) * rng.lognormal(0, 0.3)
        limit = budget.priced(now)
        allowed = within(quality[None], cost[None], np.ones((1, 2), bool), np.array([limit.price]))[0]
        # A target of quality over time, as the quality debt has it.
        owed = min(0.9, max(0.0, limit.quality)) * (len(qualities) + 1) - sum(qualities)
        column = 0 if allowed[0] and owed > quality[1] else 1
        budget.sent(quality, cost, float(cost[column]), 0.9, now)
        budget.billed(float(cost[column]), bill * float(cost[column]), now)
        dearest = max(dearest, bill * float(cost[column]))
        qualities.append(float(quality[column]))
    return qualities, dearest


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    calls_per_s=st.sampled_from([0.2, 0.5]),
    share=st.floats(0.25, 0.9),
    bill=st.sampled_from([0.5, 1.0, 1.6]),
)
def test_under_a_steady_overload_nearly_all_is_spent_and_no_more_and_it_lasts(
    seed: int, calls_per_s: float, share: float, bill: float
) -> None:
    usd = share * bill * calls_per_s * HOUR_S  # the cheap core alone costs a tenth, the dear one all
    budget = Budget(BudgetConfig(usd=usd, per="hour", when_exhausted="error"), "the budget", 0.0)
    rng = np.random.default_rng(seed)
    _, dearest = spend(budget, calls_per_s, 0.9 * HOUR_S, rng, bill)
    assert budget.left > 0.02 * usd
    _, dearest_later = spend(budget, calls_per_s, HOUR_S - 1e-3, rng, bill)
    assert budget.spent <= usd + max(dearest, dearest_later)
    assert budget.spent >= 0.9 * usd


def test_the_more_money_the_more_quality() -> None:
    reached = []
    for usd in (90.0, 200.0, 400.0, 900.0):
        budget = Budget(BudgetConfig(usd=usd, per="hour"), "the budget", 0.0)
        qualities, _ = spend(budget, 0.25, HOUR_S - 1, np.random.default_rng(0))
        reached.append(np.mean(qualities))
    assert reached == sorted(reached)
    assert reached[-1] > 0.85


def test_a_new_period_begins_with_all_of_the_money() -> None:
    budget = Budget(BudgetConfig(usd=1.0, per="hour", when_exhausted="error"), "the budget", 10.0)
    row = np.array([0.9]), np.array([2.0])
    budget.sent(*row, 2.0, 0.8, 20.0)
    refusal = budget.refusal(30.0)
    assert isinstance(refusal, BudgetExhaustedError)
    assert "1 US dollars per hour is spent until 1970-01-01 01:00 UTC" in str(refusal)
    assert budget.refusal(HOUR_S) is None
    assert (budget.spent, budget.status()["resets_at"]) == (0.0, 2 * HOUR_S)
    budget.billed(2.0, 5.0, 20.0)  # of the hour before
    assert budget.spent == 0.0


def test_a_restart_does_not_refill_it_but_a_new_period_does() -> None:
    config = BudgetConfig(usd=5.0, per="day")
    budget = Budget(config, "the budget", 100.0)
    budget.sent(np.array([0.9]), np.array([2.0]), 2.0, 0.8, 100.0)
    again = Budget(config, "the budget", 200.0)
    again.restore(budget.state())
    assert again.left == 3.0
    tomorrow = Budget(config, "the budget", 90_000.0)
    tomorrow.restore(budget.state())
    assert tomorrow.left == 5.0
    for damaged in ({}, {"per": "day", "begin": 0.0, "spent": "all"}, {**budget.state(), "spent": -1}):
        tomorrow.restore(damaged)
    assert tomorrow.left == 5.0


def test_a_clock_that_is_set_back_refills_nothing() -> None:
    budget = Budget(BudgetConfig(usd=5.0, per="hour"), "the budget", 10 * HOUR_S)
    budget.sent(np.array([0.9]), np.array([2.0]), 2.0, 0.8, 10 * HOUR_S)
    budget.turn(10 * HOUR_S - 1)
    budget.turn(5 * HOUR_S)
    assert (budget.left, budget.end) == (3.0, 6 * HOUR_S)
    budget.turn(6 * HOUR_S)
    assert budget.left == 5.0


# Budgets of all calls and of agents


def call_of(agent: str = "", quality: Any = (0.9, 0.5), cost: Any = (1.0, 0.1)) -> Call:
    call = Call(CallText("a question", 10), Requirements(10), None, lambda *_: None, agent=agent)
    allowed = np.ones(len(cost), dtype=bool)
    call.row = EstimateRow(None, np.array(quality), np.array(cost), allowed, np.zeros(len(cost)))
    return call


def test_the_bill_replaces_the_estimate() -> None:
    budgets = Budgets(BudgetConfig(usd=10.0, per="day"), wall_s=lambda: 0.0)
    core = Core(name="dear", price=Price(input=2.0, output=4.0, cached_input=1.0))

    def spent_after(usage: Usage | None, *, free: bool) -> float:
        budget: Any = budgets.status()["budget"]
        before, call = budget["spent"], call_of()
        budgets.sent(call, "dear", 0, 0.8)
        budgets.returned(call, core, usage, free=free)
        budget = budgets.status()["budget"]
        return round(float(budget["spent"] - before), 6)

    million = 1_000_000
    assert spent_after(Usage(million // 2, million // 4), free=False) == 2.0
    assert spent_after(Usage(million // 2, million // 4, cached_tokens=million // 4), free=False) == 1.75
    assert spent_after(None, free=True) == 0.0
    assert spent_after(None, free=False) == 1.0
    before: Any = budgets.status()["budget"]
    budgets.returned(call_of(), core, Usage(million, 0), free=False)  # a call's further stage, not estimated
    after: Any = budgets.status()["budget"]
    assert after["spent"] - before["spent"] == 2.0


def test_an_agent_that_has_spent_its_money_gets_an_error_and_the_others_do_not() -> None:
    config = BudgetConfig(usd=0.5, per="day", when_exhausted="error")
    budgets = Budgets(BudgetConfig(usd=50.0, per="month"), {"a": config}, wall_s=lambda: 0.0)
    budgets.sent(call_of("a"), "dear", 0, 0.8)
    assert "the budget of agent 'a'" in str(budgets.refusal("a"))
    assert budgets.refusal("b") is None
    status: Any = budgets.status()
    assert (status["budget"]["spent"], status["agent_budgets"]["a"]["exhausted"]) == (1.0, True)


def test_a_change_of_the_configuration_keeps_what_is_spent() -> None:
    budgets = Budgets(BudgetConfig(usd=5.0, per="day"), wall_s=lambda: 0.0)
    budgets.sent(call_of(), "dear", 0, 0.8)
    budgets.configure(BudgetConfig(usd=9.0, per="day"), {})
    budget: Any = budgets.status()["budget"]
    assert budget["left"] == 8.0


def test_an_exhausted_budget_leaves_the_cheapest_core_and_says_so() -> None:
    budgets = Budgets(None, {"poor": BudgetConfig(usd=0.5, per="day")}, wall_s=lambda: 0.0)
    budgets.sent(call_of("poor"), "dear", 0, 0.8)
    calls = [call_of("poor"), call_of("rich")]
    pool = pool_of({"dear": 1.0, "cheap": 1.0})
    chosen = SchedulerSettings(quality_target=0.9)
    dispatch = RoundPipeline(lambda _: None).plan(pool, chosen, calls, lambda _: 0.0, 0.0, budgets.limits)
    sent = {each.call.agent: (each.column, each.reason, each.target) for each in dispatch.placements}
    assert sent["poor"] == (1, "the budget of agent 'poor' is exhausted: the cheapest core", 0.5)
    assert sent["rich"] == (0, CHEAPEST, 0.9)
    assert budgets.limits((calls[1],)) == (UNLIMITED,)


# In the scheduler's rounds: three cores of very different prices, two callers, an hour


def hour_of(
    usd: float | None, target: float, when_exhausted: Any = "cheapest", seconds: float = HOUR_S
) -> LoopResult:
    difficulty = np.random.default_rng(0).random(1000)
    quality = np.stack([0.97 - 0.1 * difficulty, 0.95 - 0.45 * difficulty, 0.9 - 0.8 * difficulty], axis=1)
    cores = [
        LoopCore(name, 16, price, varying(2.0))
        for name, price in (("dear", 10.0), ("mid", 3.0), ("low", 1.0))
    ]
    budget = None if usd is None else BudgetConfig(usd=usd, per="hour", when_exhausted=when_exhausted)
    chosen = SchedulerSettings(quality_target=target)
    return run_loop(
        cores, 2, quality, chosen, seconds=seconds, warm_up_s=0.0, think_s=4.0, seed=1, budget=budget
    )


@pytest.mark.parametrize("usd", [1500.0, 3000.0, 7500.0])
def test_a_budget_beats_the_quality_target_and_buys_about_the_most_quality(usd: float) -> None:
    result = hour_of(usd, 0.95)
    assert 0.95 * usd < result.cost_usd <= usd + 4 * 10  # of the calls that were in flight
    difficulty = np.random.default_rng(0).random(1000)
    quality = np.stack([0.97 - 0.1 * difficulty, 0.95 - 0.45 * difficulty, 0.9 - 0.8 * difficulty], axis=1)
    _, best = affordable(quality, np.tile([10.0, 3.0, 1.0], (1000, 1)), result.mean_cost)
    assert result.mean_quality > best - 0.02
    last = sum(cost for moment, cost, _ in result.finished if moment > 0.75 * HOUR_S)
    assert 0.6 < last / (usd / 4) < 1.4  # it lasts


def test_a_budget_that_does_not_bind_changes_nothing() -> None:
    free, bounded = (hour_of(usd, 0.8, seconds=HOUR_S / 4) for usd in (None, 1e6))
    assert bounded.mean_quality == free.mean_quality
    assert bounded.cost_usd == free.cost_usd
