"""Every decision says why in one of a closed set of reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fake_clock import FakeClock
from test_scheduler import CHEAP, DEAR, Answers, TableOfQualities, call, running

from eccos_aios.predict import CallText, CoreExperience
from eccos_aios.reasons import (
    AFFINITY,
    BETTER_FULL,
    CHEAPEST,
    CREDIT,
    EXPLORED,
    FELL_BACK,
    MAKES_UP,
    NO_HISTORY,
    OFFSET,
    ONLY_CORE,
    OUT_OF_REACH,
    OVERDUE,
    OWN_PASS,
    PLANNING_FAILED,
    REASONS,
    REPAYS_DEBT,
    RETRIED,
    base_reason,
)
from eccos_aios.schedule import (
    ANSWERED,
    AttemptOutcome,
    Call,
    ExecutionResult,
    OutcomeKind,
    Requirements,
    RetryPolicy,
    SchedulerSettings,
)
from eccos_aios.schedule.call import EstimateRow
from eccos_aios.schedule.capacity import Capacity, Target, WaitLimits
from eccos_aios.schedule.passes import PASSES
from eccos_aios.schedule.plan import Plan, dispatch_of, undecided
from eccos_aios.schedule.reasons import with_reasons
from eccos_aios.schedule.round_batch import RoundBatch

NAMES = ("small", "middle", "large")
COST = (1.0, 2.0, 9.0)


def reasons(
    quality: Sequence[Sequence[float]],
    *,
    free: tuple[int, ...] = (9, 9, 9),
    target: float = 0.8,
    owed: float = 0.0,
    price: float = 0.0,
    service_s: tuple[float, ...] = (1.0, 1.0, 1.0),
    arrived_s: float = 0.0,
    later: int = 0,
    cost: tuple[float, ...] = COST,
    **fields: Any,
) -> list[tuple[str, str]]:
    """Core and reason of each call that a round sends."""
    calls = []
    for each in quality:
        waiting = Call(CallText("a question", 10), Requirements(10), None, lambda *_: None)
        waiting.arrived_s = arrived_s
        given = {"allowed": np.ones(3, dtype=bool), **fields}
        waiting.row = EstimateRow(None, np.array(each), np.array(cost), support=np.ones(3), **given)
        calls.append(waiting)
    seconds = np.array(service_s)
    soon, later_slots = np.zeros(3, dtype=np.int64), np.full(3, later)
    slots = Capacity(np.array(free), soon, later_slots, seconds, seconds / 8)
    goal = Target(target, lambda calls: owed * calls, price)
    batch = RoundBatch.of(calls, slots, goal, WaitLimits(), 0.0, NAMES)
    plan: Plan = undecided(len(batch))
    for step in (*PASSES, with_reasons):
        plan = step(batch, plan)
    return [(NAMES[each.column], each.reason) for each in dispatch_of(batch, plan).placements]


GOOD_ENOUGH = [0.6, 0.85, 0.95]  # at the middle core
EASY = [0.82, 0.85, 0.95]
HARD = [0.3, 0.4, 0.7]


@pytest.mark.parametrize(
    ("quality", "round_", "sent"),
    [
        ([GOOD_ENOUGH], {}, [("middle", CHEAPEST)]),
        ([EASY], {}, [("small", CHEAPEST)]),
        ([EASY], {"owed": 0.02}, [("small", CHEAPEST)]),  # reaches what is owed, too
        ([EASY], {"owed": 0.1}, [("large", REPAYS_DEBT)]),
        ([GOOD_ENOUGH], {"owed": -0.3}, [("small", CREDIT)]),
        ([GOOD_ENOUGH], {"free": (9, 0, 9)}, [("large", f"{BETTER_FULL} (middle)")]),
        ([GOOD_ENOUGH], {"free": (9, 0, 0)}, [("small", OUT_OF_REACH)]),
        ([HARD], {}, [("large", OUT_OF_REACH)]),
        ([[0.3, 0.695, 0.7]], {}, [("middle", OUT_OF_REACH)]),
        # of two calls one makes up for what the other lacks, which costs less than two of the middle core
        ([[0.7, 0.75, 0.99], [0.7, 0.75, 0.76]], {}, [("large", CHEAPEST), ("small", OFFSET)]),
        ([[0.7, 0.8, 0.99], [0.7, 0.75, 0.76]], {}, [("large", MAKES_UP), ("small", OFFSET)]),
        ([EASY], {"allowed": np.array([0, 0, 1], dtype=bool)}, [("large", ONLY_CORE)]),
        ([EASY], {"unrecorded": np.array([1, 0, 0], dtype=bool)}, [("small", NO_HISTORY)]),
        ([GOOD_ENOUGH], {"unrecorded": np.array([1, 0, 0], dtype=bool)}, [("middle", CHEAPEST)]),
        # where time has a price the faster core is the cheaper one
        ([EASY], {"price": 1.0, "service_s": (5.0, 1.0, 1.0)}, [("middle", CHEAPEST)]),
    ],
)  # fmt: skip
def test_a_reason_compares_the_core_with_those_that_the_call_could_have_had(
    quality: list[list[float]], round_: dict[str, Any], sent: list[tuple[str, str]]
) -> None:
    assert reasons(quality, **round_) == sent


def test_a_conversation_that_stays_for_its_cache_says_so() -> None:
    elsewhere = reasons(
        [[0.9, 0.9, 0.9]], cost=(1.0, 0.9, 9.0), prefix_core=1, prefix_usd=1.1, has_choice=True
    )
    assert elsewhere == [("middle", AFFINITY)]
    anyway = reasons([[0.9, 0.9, 0.9]], cost=(1.0, 0.5, 9.0), prefix_core=1, prefix_usd=0.1, has_choice=True)
    assert anyway == [("middle", CHEAPEST)]
    strict = {"allowed": np.array([0, 0, 1], dtype=bool), "has_choice": True, "prefix_core": 2}
    assert reasons([EASY], **strict) == [("large", AFFINITY)]


def test_a_call_that_has_waited_long_enough_says_so() -> None:
    late = reasons([GOOD_ENOUGH] * 2, free=(2, 0, 0), later=9, arrived_s=-11.0)
    assert late == [("small", OVERDUE)] * 2


def test_a_call_that_a_core_has_failed_names_the_core_and_the_cause() -> None:
    refused = AttemptOutcome(OutcomeKind.CORE_REFUSES, "HTTP 401 invalid_api_key", disputable=False)
    answers = Answers()
    cores = {"cheap": ExecutionResult(None, refused), "dear": ExecutionResult("said", ANSWERED)}
    with running(lambda _, core: cores[core], retry=RetryPolicy(max_attempts=3)) as scheduler:
        scheduler.submit(call(answers))
        answers.wait(1)
        (decision,) = scheduler.decisions()
    assert (decision.core, decision.reason) == (
        "dear",
        f"{FELL_BACK} (cheap refused: HTTP 401 invalid_api_key)",
    )


def test_a_call_that_is_tried_again_at_the_same_core_says_so() -> None:
    outcomes = [ANSWERED, AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 429")]
    answers, clock = Answers(), FakeClock()
    retry = RetryPolicy(max_attempts=3)
    with running(
        lambda _, __: ExecutionResult("", outcomes.pop()), (CHEAP,), clock=clock, retry=retry
    ) as scheduler:
        scheduler.submit(call(answers))
        clock.advance_until(lambda: bool(len(answers)), 60.0)
        (decision,) = scheduler.decisions()
    assert decision.reason == f"{RETRIED} (cheap was busy: HTTP 429)"


class Unrecorded(TableOfQualities):
    """Knows nothing of the cheap core."""

    def experience(self, cores: Sequence[str]) -> CoreExperience:
        return CoreExperience(np.array([0.0, 100.0]), np.array([0.9, 0.9]))


def send_one(predictor: TableOfQualities | None = None, **settings: Any) -> str:
    answers = Answers()
    with running(
        lambda _, core: ExecutionResult(core, ANSWERED), (CHEAP, DEAR), predictor, **settings
    ) as scheduler:
        scheduler.submit(call(answers))
        answers.wait(1)
        return scheduler.decisions()[0].reason


def test_a_core_that_no_outcome_is_recorded_of_is_named_as_such_where_it_is_chosen() -> None:
    assert send_one(Unrecorded(cheap=0.95, dear=0.9), quality_target=0.7) == NO_HISTORY


def test_what_passes_say_stays() -> None:
    def own(_: RoundBatch, plan: Plan) -> Plan:
        return plan.moved({0: 1}, "long question")

    def broken(_: RoundBatch, plan: Plan) -> Plan:
        raise RuntimeError("broken")

    assert send_one(passes=(own,)) == "long question"
    assert send_one(passes=(broken,)) == CHEAPEST
    surely = SchedulerSettings(exploration=1.0).exploration
    assert send_one(TableOfQualities(cheap=0.3, dear=0.301), exploration=surely) in (EXPLORED, OUT_OF_REACH)


def test_the_base_of_a_reason_is_one_of_a_closed_set() -> None:
    assert [base_reason(each) for each in REASONS] == list(REASONS)
    assert base_reason(f"{BETTER_FULL} (large)") == BETTER_FULL
    assert base_reason("long question") == OWN_PASS
    assert base_reason(PLANNING_FAILED) == PLANNING_FAILED
