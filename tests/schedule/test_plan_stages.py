"""Calls that several cores answer: stages, what ends them, and whose answer is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fake_clock import FakeClock
from test_scheduler import Answers, TableOfQualities, call

from eccos_aios.core import Core, Price
from eccos_aios.plans import AnswerPlan, PlanEstimates
from eccos_aios.predict import CallText
from eccos_aios.reasons import EXPLORED
from eccos_aios.schedule import (
    ANSWERED,
    AttemptOutcome,
    Call,
    CallResult,
    ExecutionResult,
    OutcomeKind,
    Requirements,
    RetryPolicy,
    Scheduler,
    SchedulerSettings,
    StoppedError,
)
from eccos_aios.verify import AnswerCheck, Question

CORES = tuple(
    Core(name=name, quota=2, price=Price(input=price, output=price))
    for name, price in (("a", 1), ("b", 2), ("c", 20))
)
QUALITY = {"a": 0.6, "b": 0.62, "c": 0.9}
CHECK = AnswerPlan.check("a", "c")
AGREE = AnswerPlan.agree("a", "b", "c")
QUESTION = Question("what?")
FAILS = AttemptOutcome(OutcomeKind.CORE_FAILS, "HTTP 500")
WAIT_S = 10.0


class Planner:
    """Every call has the same estimates under each plan."""

    def __init__(
        self,
        *plans: AnswerPlan,
        quality: float = 0.85,
        reached: float = 0.2,
        to_explore: tuple[AnswerPlan, ...] = (),
    ) -> None:
        self.plans = (*(AnswerPlan.single(core.name) for core in CORES), *plans)
        self.quality, self.reached, self.to_explore = quality, reached, to_explore

    def estimate(self, calls: Sequence[CallText]) -> PlanEstimates:
        n, own = len(calls), len(CORES)
        quality = np.full((n, len(self.plans)), self.quality)
        quality[:, :own] = [QUALITY[core.name] for core in CORES]
        reached = np.zeros_like(quality)
        reached[:, own:] = self.reached
        calls_ = np.array([len(plan.cores) for plan in self.plans]) + reached
        cores = TableOfQualities(**QUALITY).predict(calls, [core.name for core in CORES])
        return PlanEstimates(
            self.plans, quality, np.zeros_like(quality), calls_, reached, np.zeros_like(reached), cores
        )


class Scripted:
    """Cores that answer what the script says: ``ok X`` passes with key X, ``bad`` fails its check."""

    def __init__(self, held: Sequence[str] = (), **script: str | AttemptOutcome) -> None:
        self.script = script
        self.asked: list[str] = []
        self.gates = {core: threading.Event() for core in held}
        self.begun = threading.Semaphore(0)
        self._lock = threading.Lock()  # guards the counts
        self.in_flight = dict.fromkeys("abc", 0)
        self.most = dict.fromkeys("abc", 0)

    def __call__(self, call: Call, core: str) -> ExecutionResult:
        with self._lock:
            self.asked.append(core)
            self.in_flight[core] += 1
            self.most[core] = max(self.most[core], self.in_flight[core])
        self.begun.release()
        try:
            if core in self.gates:
                assert self.gates[core].wait(WAIT_S)
        finally:
            with self._lock:
                self.in_flight[core] -= 1
        said = self.script[core]
        if isinstance(said, AttemptOutcome):
            return ExecutionResult(None, said)
        return ExecutionResult((core, said), ANSWERED)

    def wait_begun(self, number: int = 1) -> None:
        for _ in range(number):
            assert self.begun.acquire(timeout=WAIT_S)


def judge(call: Call, value: Any) -> AnswerCheck:
    verdict, _, key = value[1].partition(" ")
    return AnswerCheck(verdict == "ok", key or None, "" if verdict == "ok" else "no tool call")


@contextmanager
def running(
    backend: Scripted, *plans: AnswerPlan, clock: FakeClock | None = None, **given: Any
) -> Iterator[Scheduler]:
    quality, reached = given.pop("quality", 0.85), given.pop("reached", 0.2)
    to_explore = given.pop("to_explore", ())
    given = {
        "quality_target": 0.8,
        "grace_s": 0.0,
        "batch_window_s": 0.0,
        "plans": "agree",
        "retry": RetryPolicy(max_attempts=1),
        **given,
    }
    scheduler = Scheduler(
        given.pop("cores", CORES),
        TableOfQualities(**QUALITY),
        backend,
        SchedulerSettings(**given),
        clock=clock or FakeClock(),
        judge=judge,
        planner=Planner(*plans, quality=quality, reached=reached, to_explore=to_explore),
    )
    scheduler.start()
    try:
        yield scheduler
    finally:
        for gate in backend.gates.values():
            gate.set()
        scheduler.stop()


def ask(scheduler: Scheduler, answers: Answers, **fields: Any) -> Call:
    fields.setdefault("question", QUESTION)
    asked = call(answers, **fields)
    scheduler.submit(asked)
    return asked


def test_an_answer_that_passes_ends_the_plan_at_its_first_core() -> None:
    backend, answers = Scripted(a="ok 1", b="ok 1", c="ok 1"), Answers()
    with running(backend, CHECK) as scheduler:
        asked = ask(scheduler, answers)
        (result,) = answers.wait(1)
        assert result.core == "a"
        assert backend.asked == ["a"]
        decision = scheduler.decision(asked.id)
        totals: Any = scheduler.status()["totals"]
    assert decision is not None
    assert decision.plan == {"kind": "check", "cores": ["a"], "else": "c"}
    assert [(stage["core"], stage["passes"]) for stage in decision.stages] == [("a", True)]
    assert decision.predicted_quality == pytest.approx(0.85)
    assert totals["plans"] == {"single": 0, "check": 1, "agree": 0}
    assert (totals["accepted_at_first_stage"], totals["extra_calls"]) == (1, 0)


def test_an_answer_that_fails_its_check_is_replaced_by_the_next_cores() -> None:
    backend, answers = Scripted(a="bad", b="ok 1", c="ok 1"), Answers()
    with running(backend, CHECK) as scheduler:
        asked = ask(scheduler, answers)
        (result,) = answers.wait(1)
        decision = scheduler.decision(asked.id)
        cores: Any = scheduler.status()["cores"]
    assert (result.core, result.value) == ("c", ("c", "ok 1"))
    assert backend.asked == ["a", "c"]
    assert [stage.core for stage in result.stages] == ["a", "c"]
    assert decision is not None
    assert decision.core == "c"
    assert [(s["core"], s["passes"], s["reason"]) for s in decision.stages] == [
        ("a", False, "no tool call"),
        ("c", True, ""),
    ]
    assert all(stage["cost"] > 0 for stage in decision.stages)
    assert (cores["a"]["completed"], cores["c"]["completed"]) == (1, 1)


def test_two_cores_are_asked_side_by_side_and_accepted_where_they_agree() -> None:
    backend, answers = Scripted(held="ab", a="ok 1", b="ok 1", c="ok 1"), Answers()
    with running(backend, AGREE) as scheduler:
        ask(scheduler, answers)
        backend.wait_begun(2)  # both, before either has answered
        for gate in backend.gates.values():
            gate.set()
        (result,) = answers.wait(1)
    assert result.core == "a"
    assert sorted(backend.asked) == ["a", "b"]


def test_a_plan_of_which_nothing_is_known_is_explored_by_a_share_of_the_calls() -> None:
    backend, answers = Scripted(a="ok 1", b="ok 2", c="ok 3"), Answers()
    with running(
        backend, to_explore=(AGREE,), explore_plans=0.5, max_calls_per_query=3.0, quality_target=0.0
    ) as scheduler:
        for _ in range(8):
            asked = ask(scheduler, answers)
            answers.wait(1)
        decision = scheduler.decision(asked.id)
        totals: Any = scheduler.status()["totals"]
    assert totals["plans"] == {"single": 4, "check": 0, "agree": 4}
    assert totals["reasons"][EXPLORED] == 4
    assert decision is not None
    assert (decision.plan, decision.reason) == (AGREE.to_dict(), EXPLORED)
    assert decision.predicted_quality == pytest.approx(0.5 * (0.6 + 0.62) / 2 + 0.5 * 0.9)
    assert [stage["core"] for stage in decision.stages] in (["a", "b", "c"], ["b", "a", "c"])


def test_the_third_decides_where_two_disagree() -> None:
    backend, answers = Scripted(a="ok 1", b="ok 2", c="ok 2"), Answers()
    with running(backend, AGREE) as scheduler:
        ask(scheduler, answers)
        (result,) = answers.wait(1)
    assert result.core == "c"
    assert sorted(backend.asked) == ["a", "b", "c"]


def test_the_second_core_is_asked_later_where_it_has_no_slot() -> None:
    busy = Core(name="b", quota=1, price=Price(input=2, output=2))
    backend, answers = Scripted(held="b", a="ok 1", b="ok 1", c="ok 1"), Answers()
    with running(backend, AGREE, cores=(CORES[0], busy, CORES[2])) as scheduler:
        ask(scheduler, answers, requirements=Requirements(10, cores=frozenset({"b"})), quality_target=0.62)
        backend.wait_begun()
        ask(scheduler, answers)
        backend.wait_begun()
        backend.gates["b"].set()
        results = answers.wait(2)
    assert {result.core for result in results} == {"a", "b"}
    assert backend.asked == ["b", "a", "b"]
    assert backend.most["b"] == 1


def test_the_best_answer_seen_is_given_where_the_last_one_fails() -> None:
    backend, answers = Scripted(a="bad", b="ok 2", c="bad"), Answers()
    with running(backend, AGREE) as scheduler:
        ask(scheduler, answers)
        (result,) = answers.wait(1)
    assert result.core == "b"
    assert not result.failed


@pytest.mark.parametrize(("first", "failed"), [("ok 1", False), (FAILS, True)])
def test_at_the_deadline_an_answer_in_hand_is_given_instead_of_an_error(
    first: str | AttemptOutcome, failed: bool
) -> None:
    clock, answers = FakeClock(), Answers()
    backend = Scripted(held="c", a=first, b="ok 2", c="ok 1")
    plan = CHECK if failed else AGREE
    with running(backend, plan, clock=clock, call_timeout_s=5.0) as scheduler:
        ask(scheduler, answers)
        backend.wait_begun(2 if failed else 3)
        clock.advance_waiters(5.0)
        (result,) = answers.wait(1)
    assert result.failed is failed
    assert (result.core, result.error is None) == (("c", False) if failed else ("a", True))


def test_a_fault_at_the_first_core_leaves_the_rest_of_the_plan() -> None:
    backend, answers = Scripted(a=FAILS, b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK) as scheduler:
        ask(scheduler, answers)
        (result,) = answers.wait(1)
    assert (result.core, backend.asked) == ("c", ["a", "c"])
    assert result.causes == {"a": "HTTP 500"}


def test_a_fault_at_the_last_core_asks_another_where_no_answer_passes() -> None:
    backend, answers = Scripted(a="bad", b="ok 2", c=FAILS), Answers()
    with running(backend, CHECK) as scheduler:
        ask(scheduler, answers)
        (result,) = answers.wait(1)
    assert (result.core, result.failed, backend.asked) == ("b", False, ["a", "c", "b"])


@pytest.mark.parametrize("other", [FAILS, AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 429")])
def test_where_no_other_core_is_left_the_answer_that_failed_its_check_is_given(other: AttemptOutcome) -> None:
    backend, answers = Scripted(a="bad", b=other, c=other), Answers()
    with running(backend, CHECK) as scheduler:
        ask(scheduler, answers)
        (result,) = answers.wait(1)
    assert (result.core, result.failed, result.error) == ("a", False, None)
    assert backend.asked == ["a", "c", "b"]


def test_a_plan_without_any_answer_goes_on_as_a_call_of_one_core() -> None:
    backend, answers = Scripted(a=FAILS, b="ok 2", c=FAILS), Answers()
    with running(backend, CHECK) as scheduler:
        asked = ask(scheduler, answers)
        (result,) = answers.wait(1)
        decision = scheduler.decision(asked.id)
    assert (result.core, backend.asked) == ("b", ["a", "c", "b"])
    assert decision is not None
    assert decision.plan == {"kind": "single", "cores": ["b"]}


def test_a_stage_that_waits_does_not_wait_for_a_core_that_is_removed() -> None:
    one = Core(name="c", quota=1, price=Price(input=20, output=20))
    backend, answers = Scripted(held="c", a="bad", b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK, cores=(*CORES[:2], one)) as scheduler:
        ask(scheduler, answers, requirements=Requirements(10, cores=frozenset({"c"})), quality_target=0.9)
        backend.wait_begun()
        ask(scheduler, answers)
        backend.wait_begun()
        scheduler.remove_core("c")
        (result,) = answers.wait(1)
        assert (result.core, result.value) == ("b", ("b", "ok 2"))
        backend.gates["c"].set()
        answers.wait(1)


def test_a_stop_gives_the_answer_in_hand() -> None:
    backend, answers = Scripted(held="c", a="bad", b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK) as scheduler:
        ask(scheduler, answers)
        backend.wait_begun(2)
        scheduler.stop(0.0)
        (result,) = answers.wait(1)
    assert (result.core, result.failed) == ("a", False)


def test_a_stop_before_any_answer_ends_with_its_error() -> None:
    backend, answers = Scripted(held="a", a="bad", b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK) as scheduler:
        ask(scheduler, answers)
        backend.wait_begun()
        scheduler.stop(0.0)
        (result,) = answers.wait(1)
    assert isinstance(result.error, StoppedError)


def test_a_call_that_cannot_be_checked_or_is_pinned_has_one_core() -> None:
    backend, answers = Scripted(a="bad", b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK) as scheduler:
        ask(scheduler, answers, question=None)
        ask(scheduler, answers, pinned="a")
        results = answers.wait(2)
    assert [len(result.stages) for result in results] == [0, 0]
    assert sorted(backend.asked) == ["a", "c"]


@pytest.mark.parametrize(
    "limits",
    [{"plans": "off"}, {"max_calls_per_query": 1.0}],
    ids=["off", "one call a query"],
)
def test_no_plan_is_chosen_where_the_settings_allow_none(limits: dict[str, Any]) -> None:
    backend, answers = Scripted(a="bad", b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK, **limits) as scheduler:
        ask(scheduler, answers)
        assert answers.wait(1)[0].core == "c"
    assert backend.asked == ["c"]


def test_all_of_a_plans_cores_must_be_permitted() -> None:
    backend, answers = Scripted(a="bad", b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK) as scheduler:
        ask(scheduler, answers, requirements=Requirements(10, cores=frozenset({"a", "b"})))
        answers.wait(1)
    assert backend.asked == ["b"]


def test_the_mean_number_of_cores_asked_keeps_its_bound() -> None:
    calls, bound = 200, 1.25
    backend, answers = Scripted(a="ok 1", b="ok 2", c="ok 2"), Answers()
    with running(backend, AGREE, quality=0.89, max_calls_per_query=bound, quality_target=0.88) as scheduler:
        for _ in range(calls):
            ask(scheduler, answers)
            answers.wait(1)
        totals: Any = scheduler.status()["totals"]
    assert totals["plans"]["agree"] > 10
    assert len(backend.asked) <= bound * calls + 10


def test_many_calls_at_once_keep_quotas_and_get_one_answer_each() -> None:
    calls = 60
    backend, answers = Scripted(a="bad", b="ok 2", c="ok 1"), Answers()
    with running(backend, CHECK, AGREE, quality_target=0.84, max_calls_per_query=3.0) as scheduler:
        for number in range(calls):
            ask(scheduler, answers, agent=f"agent {number % 3}")
        results = answers.wait(calls)
        totals: Any = scheduler.status()["totals"]
    assert len(results) == calls
    assert not any(result.failed for result in results)
    assert max(backend.most.values()) <= 2
    assert totals["plans"]["check"] + totals["plans"]["agree"] > 0
    assert totals["completed"] == calls


def test_a_later_stage_goes_before_calls_that_came_after_it() -> None:
    one = Core(name="c", quota=1, price=Price(input=20, output=20))
    backend, answers = Scripted(held="c", a="bad", b="ok 2", c="ok 1"), Answers()
    only_c = Requirements(10, cores=frozenset({"c"}))
    order: list[int] = []

    def note(call: Call, result: CallResult) -> None:
        order.append(call.number)
        answers(call, result)

    with running(backend, CHECK, cores=(*CORES[:2], one)) as scheduler:
        first = call(note, requirements=only_c, quality_target=0.9)
        staged = call(note, question=QUESTION)
        late = call(note, requirements=only_c, quality_target=0.9)
        for each in (first, staged):
            scheduler.submit(each)
            backend.wait_begun()
        scheduler.submit(late)
        backend.gates["c"].set()
        answers.wait(3)
    assert order == [first.number, staged.number, late.number]
