"""The passes of a round: the optimum, idle slots, calls that have waited long enough, and a user's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.assign import WAITS, AssignmentProblem, solve
from eccos_aios.config import EccosConfig, eccos_config
from eccos_aios.core import Core
from eccos_aios.errors import ConfigError
from eccos_aios.predict import CallText
from eccos_aios.reasons import OVERDUE, PLANNING_FAILED
from eccos_aios.schedule import Call, Requirements, SchedulerSettings
from eccos_aios.schedule.call import EstimateRow
from eccos_aios.schedule.capacity import Capacity, Target, WaitLimits
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.passes import PASSES, optimise, release_overdue, use_idle_slots
from eccos_aios.schedule.pipeline import RoundPipeline
from eccos_aios.schedule.plan import Dispatch, Pass, Plan, dispatch_of, undecided
from eccos_aios.schedule.round_batch import RoundBatch
from eccos_aios.schedule.settings import load_passes


def waiting_calls(cost: Any, quality: Any, allowed: Any = True, arrived_s: Any = 0.0) -> list[Call]:
    cost, quality = np.asarray(cost, dtype=float), np.asarray(quality, dtype=float)
    allowed, arrived_s = np.broadcast_to(allowed, cost.shape), np.broadcast_to(arrived_s, len(cost))
    calls = []
    for row in range(len(cost)):
        call = Call(CallText("a question", 10), Requirements(10), None, lambda *_: None)
        call.arrived_s = float(arrived_s[row])
        call.row = EstimateRow(None, quality[row], cost[row], allowed[row], np.zeros(cost.shape[1]))
        calls.append(call)
    return calls


def capacity(
    free: Any, soon: Any, later: Any = None, service_s: Any = None, quota: float = 1000.0
) -> Capacity:
    free, soon = np.array(free), np.array(soon)
    seconds = np.ones(len(free)) if service_s is None else np.array(service_s)
    return Capacity(free, soon, soon if later is None else np.array(later), seconds, seconds / quota)


def batch_of(
    calls: Sequence[Call], slots: Capacity, target: float, price: float = 0.0, **given: Any
) -> RoundBatch:
    return RoundBatch.of(calls, slots, Target(target, lambda _: 0.0, price), WaitLimits(1.0, 10.0), **given)


def planned(batch: RoundBatch) -> Plan:
    plan = undecided(len(batch))
    for step in PASSES:
        plan = step(batch, plan)
    return plan


# The optimum


@pytest.mark.parametrize("calls", [1, 2, 7, 60, 300])
@pytest.mark.parametrize("target", [0.5, 0.7, 0.99])
def test_a_plan_costs_what_the_optimum_does_and_reaches_as_much(calls: int, target: float) -> None:
    rng = np.random.default_rng(calls)
    quality = np.clip(rng.random((calls, 1)) * 0.5 + np.linspace(0.1, 0.5, 5), 0, 1)
    cost = np.linspace(1, 9, 5) ** 2 * rng.lognormal(0, 0.3, (calls, 1))
    quota = np.full(5, max(1, calls // 8))
    plan = planned(batch_of(waiting_calls(cost, quality), capacity(quota, quota), target))
    exact = solve(
        AssignmentProblem(cost, quality, 2 * quota, target, weight=np.arange(calls, 0, -1, dtype=float))
    )
    placed = np.flatnonzero(plan.columns != WAITS)
    assert not plan.fell_back
    assert len(placed) == (exact.core != WAITS).sum()
    chosen = plan.columns[placed]
    assert (np.bincount(chosen, minlength=5) <= 2 * quota).all()
    assert quality[placed, chosen].mean() >= min(target, exact.quality) - 1e-6
    if exact.met:
        assert cost[placed, chosen].sum() <= exact.cost * 1.002 + 1e-9


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    cores=st.integers(1, 40) | st.just(1),
    calls=st.integers(1, 100),
    slots=st.sampled_from([1, 4, 1000]),
    levels=st.sampled_from([1, 3, 10**6]),
    price=st.sampled_from([0.0, 0.3]),
)
def test_any_number_of_calls_over_any_number_of_cores_is_planned_within_the_quotas(
    seed: int, cores: int, calls: int, slots: int, levels: int, price: float
) -> None:
    rng = np.random.default_rng(seed)
    quality, cost = (rng.integers(0, levels + 1, (calls, cores)) / levels for _ in range(2))
    waiting = waiting_calls(cost, quality)
    free, soon = (rng.integers(0, slots + 1, cores) for _ in range(2))
    plan = planned(batch_of(waiting, capacity(free, soon), float(rng.random()), price))
    assert not plan.fell_back
    assert (plan.columns != WAITS).sum() == min(calls, (free + soon).sum())
    assert (plan.load(cores) <= free + soon).all()


@pytest.mark.parametrize("calls", [32, 64, 90, 5000])
@pytest.mark.parametrize("slots", [4, 64, 10_000])
def test_one_core_takes_as_many_calls_as_it_has_slots(calls: int, slots: int) -> None:
    waiting = waiting_calls(np.ones((calls, 1)), np.full((calls, 1), 0.7))
    plan = planned(batch_of(waiting, capacity([slots], [0]), 0.5))
    assert (plan.load(1).tolist(), plan.fell_back) == ([min(calls, slots)], False)


def test_the_first_in_the_queue_gets_the_slot_that_is_free() -> None:
    calls = waiting_calls(np.tile([1.0, 50.0], (3, 1)), np.full((3, 2), 0.9))
    batch = batch_of(calls, capacity([1, 2], [3, 3]), 0.8)
    dispatch = dispatch_of(batch, planned(batch))
    assert [(placement.call, placement.column) for placement in dispatch.placements] == [(calls[0], 0)]
    assert dispatch.waiting_for == {calls[1]: 0, calls[2]: 0}


def test_where_the_target_is_out_of_reach_for_now_calls_wait_for_a_good_core() -> None:
    calls = waiting_calls(np.tile([1.0, 9.0], (4, 1)), np.tile([0.4, 0.9], (4, 1)))
    now = batch_of(calls, capacity([4, 1], [4, 0]), 0.85)
    assert len(dispatch_of(now, planned(now)).placements) == 4
    later = batch_of(calls, capacity([4, 1], [4, 0], [40, 10]), 0.85)
    dispatch = dispatch_of(later, planned(later))
    assert [placement.column for placement in dispatch.placements] == [1]
    assert set(dispatch.waiting_for.values()) == {1}


# Idle slots


def test_calls_do_not_wait_for_a_core_while_one_as_cheap_and_as_good_is_idle() -> None:
    calls = waiting_calls(np.ones((6, 3)), np.tile([0.9, 0.9, 0.4], (6, 1)))
    batch = batch_of(calls, capacity([2, 4, 4], [4, 4, 4]), 0.8)
    assert sorted(planned(batch).columns.tolist()) == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("quality", "cost", "price", "moves"),
    [
        ((0.9, 0.9), (1.0, 1.0), 0.0, 2),
        ((0.9, 0.6), (1.0, 1.0), 0.0, 1),  # the plan has 0.4 points to spare
        ((0.9, 0.9), (1.0, 1.1), 0.0, 0),
        ((0.9, 0.9), (1.0, 1.0), 0.1, 0),
    ],
)
def test_a_call_moves_to_an_idle_core_only_where_that_costs_nothing_and_the_target_holds(
    quality: tuple[float, float], cost: tuple[float, float], price: float, moves: int
) -> None:
    calls = waiting_calls([cost] * 4, [quality] * 4)
    batch = batch_of(calls, capacity([2, 4], [2, 0]), 0.8, price)
    plan = use_idle_slots(batch, Plan(np.zeros(4, dtype=np.int64)))
    assert plan.columns.tolist() == [0, 0, *[1] * moves, *[0] * (2 - moves)]


def test_an_idle_core_that_is_slower_than_waiting_is_left_idle() -> None:
    calls = waiting_calls(np.ones((2, 2)), np.full((2, 2), 0.9))
    batch = batch_of(calls, capacity([1, 1], [1, 0], service_s=[1.0, 2.5]), 0.8)
    plan = Plan(np.zeros(2, dtype=np.int64))
    assert use_idle_slots(batch, plan) is plan


# Overdue calls


@pytest.mark.parametrize(
    ("now_s", "columns", "reason"),
    [(0.9, [0, 0, 0], None), (1.0, [0, 1, 0], OVERDUE), (10.0, [0, 1, 2], OVERDUE)],
)
def test_a_call_is_offered_good_cores_after_one_limit_and_any_core_after_the_other(
    now_s: float, columns: list[int], reason: str | None
) -> None:
    calls = waiting_calls(np.tile([1.0, 5.0, 1.0], (3, 1)), np.tile([0.7, 0.9, 0.1], (3, 1)))
    batch = batch_of(calls, capacity([1, 1, 1], [9, 0, 0]), 0.6, now_s=now_s)
    plan = release_overdue(batch, Plan(np.zeros(3, dtype=np.int64)))
    moved = plan.columns != 0
    assert sorted(plan.columns.tolist()) == sorted(columns)
    assert {plan.reasons.get(row) for row in np.flatnonzero(moved).tolist()} <= {reason}


def test_an_overdue_call_gets_no_core_that_may_not_take_it() -> None:
    calls = waiting_calls([[1.0, 5.0]] * 2, [[0.7, 0.9]] * 2, allowed=[[True, True], [True, False]])
    batch = batch_of(calls, capacity([1, 1], [9, 0]), 0.6, now_s=100.0)
    assert release_overdue(batch, Plan(np.zeros(2, dtype=np.int64))).columns.tolist() == [0, 0]


@pytest.mark.parametrize(("reach_slack", "column"), [(0.0, 1), (0.05, 0)])
def test_an_overdue_call_pays_for_no_more_quality_than_the_configured_slack(
    reach_slack: float, column: int
) -> None:
    calls = waiting_calls([[1.0, 5.0, 1.0]], [[0.67, 0.7, 0.7]])
    target = Target(0.9, lambda _: 0.0, reach_slack=reach_slack)
    batch = RoundBatch.of(calls, capacity([1, 1, 0], [0, 0, 9]), target, WaitLimits(1.0, 10.0), now_s=100.0)
    assert release_overdue(batch, Plan(np.array([2]))).columns.tolist() == [column]


# A user's passes


def dispatched(calls: Sequence[Call], *passes: Pass, quota: int = 2) -> tuple[Dispatch, list[int]]:
    """What a round decides over three cores with free slots, and what was counted as degraded."""
    degraded: list[int] = []
    cores = [Core(name=name, quota=quota) for name in ("a", "b", "c")]
    pool = CorePool((), object()).successor(cores, object())  # type: ignore[arg-type]
    pipeline = RoundPipeline(degraded.append)
    chosen = SchedulerSettings(quality_target=0.5, passes=passes)
    return pipeline.plan(pool, chosen, calls, lambda _: 0.0, 0.0), degraded


def to_column(column: Any) -> Pass:
    return lambda batch, plan: Plan(np.broadcast_to(column, len(batch)).copy())


def test_a_pass_of_a_user_has_the_last_word() -> None:
    def only_c_for_long_questions(batch: RoundBatch, plan: Plan) -> Plan:
        column = batch.names.index("c")
        long = {row: column for row, call in enumerate(batch.calls) if call.text.input_tokens > 5}
        return plan.moved(long, "long question")

    calls = waiting_calls(np.tile([1.0, 2.0, 9.0], (4, 1)), np.full((4, 3), 0.9))
    dispatch, degraded = dispatched(calls, only_c_for_long_questions)
    assert [(each.column, each.reason) for each in dispatch.placements] == [(2, "long question")] * 2
    assert set(dispatch.waiting_for.values()) == {2}
    assert degraded == []


def test_a_config_names_passes_by_file_and_function(tmp_path: Path) -> None:
    (tmp_path / "cores.yaml").write_text("cores: [{name: a}, {name: b}, {name: c}]")
    (tmp_path / "own.py").write_text("def all_to_b(batch, plan):\n    return plan.moved({0: 1}, 'own')\n")
    section = {"manifest": "cores.yaml", "passes": ["own.py:all_to_b"]}
    chosen = SchedulerSettings.of(eccos_config(section, tmp_path / "config.yaml"))
    dispatch, _ = dispatched(waiting_calls([[1.0, 2.0, 3.0]], [[0.9, 0.9, 0.9]]), *chosen.passes)
    assert [(each.column, each.reason) for each in dispatch.placements] == [(1, "own")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own", "must be module:function"),
        ("no_such_module:f", "cannot be imported: ModuleNotFoundError"),
        ("eccos_aios.schedule.passes:no_such_pass", "cannot be imported: AttributeError"),
        ("eccos_aios.schedule.passes:SAME_COST", "must be a function, not float"),
    ],
)
def test_a_wrong_name_of_a_pass_is_said_at_start(tmp_path: Path, name: str, message: str) -> None:
    config = EccosConfig(
        manifest=tmp_path / "cores.yaml", passes=("eccos_aios.schedule.passes:optimise", name)
    )
    with pytest.raises(ConfigError) as raised:
        load_passes(config, "config.yaml")
    assert str(raised.value).startswith(f"config.yaml: scheduler.eccos.passes[1]: {name!r}")
    assert message in str(raised.value)


def raising(batch: RoundBatch, plan: Plan) -> Plan:
    raise SystemExit("a pass of somebody")


def overwriting(batch: RoundBatch, plan: Plan) -> Plan:
    batch.candidates.allowed[:] = True
    return plan


def changing_the_plan(batch: RoundBatch, plan: Plan) -> Plan:
    plan.columns[:] = 0
    return plan


@pytest.mark.parametrize(
    "broken",
    [
        raising,
        overwriting,
        changing_the_plan,
        to_column(1),  # may not take the calls
        to_column(3),
        to_column(-2),
        to_column(0.5),
        lambda batch, plan: Plan(np.zeros(1, dtype=np.int64)),
        lambda batch, plan: Plan(plan.columns, reasons=None),  # type: ignore[arg-type]
        lambda batch, plan: None,
        lambda batch: batch,
    ],
)
def test_a_wrong_pass_degrades_the_round_and_leaves_the_plan_as_it_was(
    broken: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    calls = waiting_calls(np.tile([2.0, 1.0, 1.0], (4, 1)), np.full((4, 3), 0.9), [True, False, True])
    with caplog.at_level(logging.WARNING):
        dispatch, degraded = dispatched(calls, broken, broken)
    assert [placement.column for placement in dispatch.placements] == [0, 0, 2, 2]
    assert degraded == [0]
    assert len(caplog.records) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-1, 2), min_size=6, max_size=6), st.lists(st.booleans(), min_size=18, max_size=18)
)
def test_whatever_a_pass_returns_no_quota_or_limit_is_broken(columns: list[int], allowed: list[bool]) -> None:
    calls = waiting_calls(np.ones((6, 3)), np.full((6, 3), 0.9), np.reshape(allowed, (6, 3)))
    dispatch, _ = dispatched(calls, to_column(columns))
    for placement in dispatch.placements:
        assert placement.call.row is not None
        assert placement.call.row.allowed[placement.column]
    assert (np.bincount([each.column for each in dispatch.placements], minlength=3) <= 2).all()


def test_where_the_optimiser_fails_calls_go_to_their_first_free_core_and_passes_still_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("eccos_aios.schedule.passes.choose_cores", broken)
    monkeypatch.setattr("eccos_aios.schedule.passes.solve", broken)
    seen: list[Plan] = []

    def note(batch: RoundBatch, plan: Plan) -> Plan:
        seen.append(plan)
        return plan

    calls = waiting_calls(np.ones((7, 3)), np.full((7, 3), 0.9), [True, False, True])
    dispatch, degraded = dispatched(calls, note)
    assert [placement.column for placement in dispatch.placements] == [0, 0, 2, 2]
    assert {placement.reason for placement in dispatch.placements} == {PLANNING_FAILED}
    assert (len(seen), degraded) == (1, [0])


def test_the_optimiser_ignores_the_plan_so_far() -> None:
    batch = batch_of(waiting_calls([[1.0, 2.0]], [[0.9, 0.9]]), capacity([1, 1], [0, 0]), 0.5)
    assert optimise(batch, Plan(np.array([1]))).columns.tolist() == [0]


def test_a_backlog_does_not_spend_the_slack_of_all_its_calls_on_the_few_that_are_sent() -> None:
    # 60 calls wait, four can be sent, and the target is out of reach: a core that is 0.3 worse is no way out
    quality = np.tile([0.5, 0.8], (60, 1))
    pool = CorePool((), object()).successor([Core(name=n, quota=2) for n in "ab"], object())  # type: ignore[arg-type]
    calls = waiting_calls(np.tile([1.0, 9.0], (60, 1)), quality)
    settings = SchedulerSettings(quality_target=0.99, max_quality_wait_s=1e6)
    sent = RoundPipeline(lambda _: None).plan(pool, settings, calls, lambda _: 0.0, 0.0).placements
    assert [placed.column for placed in sent] == [1, 1]
