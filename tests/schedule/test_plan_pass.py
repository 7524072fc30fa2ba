"""The choice among cores and plans of several cores, compared with the exact optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from eccos_aios.assign import ResourceProblem, solve_resources
from eccos_aios.candidates import Candidates
from eccos_aios.plans import AnswerPlan
from eccos_aios.predict import CallText
from eccos_aios.reasons import OUT_OF_REACH
from eccos_aios.schedule import Call, Requirements
from eccos_aios.schedule.capacity import Capacity, Target
from eccos_aios.schedule.passes import optimise
from eccos_aios.schedule.plan import Plan, undecided
from eccos_aios.schedule.plan_rows import PlanOptions
from eccos_aios.schedule.round_batch import RoundBatch

PLANS = (AnswerPlan.check("a", "c"), AnswerPlan.check("b", "c"), AnswerPlan.agree("a", "b", "c"))
CORE_COST = np.array([1.0, 1.3, 12.0])


def batch_of(calls: int, target: float, slots: int = 1000, spare_calls: float = 1e9) -> RoundBatch:
    rng = np.random.default_rng(calls)
    hard = rng.random((calls, 1))
    quality = np.clip([0.75, 0.74, 0.9] - 0.4 * hard * [1, 1, 0.3] + rng.normal(0, 0.05, (calls, 3)), 0, 1)
    cost = CORE_COST * rng.lognormal(0, 0.2, (calls, 1))
    reached = np.clip(hard * [0.3, 0.3, 0.8], 0, 1)
    first = np.stack([cost[:, 0], cost[:, 1], cost[:, 0] + cost[:, 1]], axis=1)
    options = PlanOptions(
        PLANS,
        np.array([0, 1, 0]),
        np.array([2, 2, 2]),
        np.clip(quality[:, [0, 1, 0]] + [0.06, 0.06, 0.14], 0, 1),
        first + reached * cost[:, 2:],
        np.array([1.0, 1.0, 2.0]) + reached,
        reached,
        np.ones((calls, 3), dtype=bool),
    )
    free = np.full(3, slots)
    return RoundBatch(
        tuple(Call(CallText("?", 1), Requirements(1), None, lambda *_: None) for _ in range(calls)),
        Candidates(quality, cost, np.ones((calls, 3), dtype=bool)),
        Capacity(free, free * 0, free * 0, np.ones(3), np.ones(3)),
        Target(target, lambda _: 0.0),
        names=("a", "b", "c"),
        options=options,
        spare_calls=spare_calls,
    )


def chosen(batch: RoundBatch, plan: Plan) -> NDArray[np.int64]:
    """The option of each call: a core, or three and more a plan."""
    options = plan.columns.copy()
    for row, staged in plan.staged.items():
        options[row] = 3 + PLANS.index(staged)
    return options


def exact(batch: RoundBatch, slack: float) -> tuple[float, bool]:
    assert batch.options is not None
    cost = np.hstack([batch.candidates.cost, batch.options.cost])
    quality = np.hstack([batch.candidates.quality, batch.options.quality])
    use = np.zeros((len(batch), 6, 3))
    use[:, np.arange(6), [0, 1, 2, 0, 1, 0]] = 1.0
    problem = ResourceProblem(
        cost,
        quality,
        use,
        batch.capacity.free.astype(float),
        batch.target.quality,
        cost > 0,
        reach_slack=slack,
    )
    found = solve_resources(problem)
    return found.cost, found.met


@pytest.mark.parametrize("calls", [1, 2, 3, 8, 60])
@pytest.mark.parametrize("target", [0.5, 0.7, 0.78, 0.84, 0.99])
@pytest.mark.parametrize("slots", [1000, 25])
def test_the_choice_costs_little_more_than_the_optimum(calls: int, target: float, slots: int) -> None:
    batch = batch_of(calls, target, slots)
    plan = optimise(batch, undecided(calls))
    assert batch.options is not None
    cost = np.hstack([batch.candidates.cost, batch.options.cost])
    quality = np.hstack([batch.candidates.quality, batch.options.quality])
    placed = np.flatnonzero(plan.columns >= 0)
    option = chosen(batch, plan)[placed]
    least, met = exact(batch, batch.target.reach_slack)
    if len(placed) == calls:
        assert cost[placed, option].sum() <= 1.05 * least + 1e-9
        assert (quality[placed, option].mean() >= target - 1e-6) == met
        assert met == (OUT_OF_REACH not in plan.reasons.values())
    assert (np.bincount(plan.columns[placed], minlength=3) <= slots).all()


def test_plans_ask_no_more_cores_than_there_are_attempts_to_spare() -> None:
    batch = batch_of(40, 0.84, spare_calls=5.0)
    plan = optimise(batch, undecided(40))
    assert batch.options is not None
    extra = sum(batch.options.calls[row, PLANS.index(staged)] - 1 for row, staged in plan.staged.items())
    assert extra <= 5.0
    more = optimise(replace(batch, spare_calls=1e9), undecided(40))
    assert len(more.staged) > len(plan.staged)


@pytest.mark.parametrize("spare_calls", [0.5, 1e9])
@pytest.mark.parametrize("price_per_second", [0.0, 2.0])
def test_one_call_gets_the_cheapest_choice_that_is_good_enough(
    price_per_second: float, spare_calls: float
) -> None:
    rng = np.random.default_rng(0)
    calls, seconds = batch_of(60, 0.8, spare_calls=spare_calls), np.array([1.0, 3.0, 0.5])
    for row in range(60):
        batch = calls.take(np.array([row]))
        target = replace(
            batch.target, quality=float(rng.uniform(0.4, 0.95)), price_per_second=price_per_second
        )
        free = rng.integers(0, 2, 3) + np.array([0, 0, 1])
        capacity = Capacity(free, free * 0, free * 0, seconds, seconds)
        batch = replace(batch, target=target, capacity=capacity)
        options = batch.choices
        value = options.cost + price_per_second * options.seconds
        open_to = options.allowed[0] & (free[options.first] > 0)
        enough = open_to & (options.quality[0] >= target.quality)
        if not enough.any():
            enough = open_to & (options.quality[0] >= options.quality[0, open_to].max() - target.reach_slack)
        plan = optimise(batch, undecided(1))
        assert value[0, chosen(batch, plan)[0]] == value[0, enough].min()
