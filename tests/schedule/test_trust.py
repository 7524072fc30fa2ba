"""Nothing silences the scheduler: wrong predictors, no threads, hung cores, poisoned calls, too many calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from fake_clock import FakeClock
from test_scheduler import AT_FAULT, CHEAP, DEAR, WAIT_S, Answers, Backend, TableOfQualities, call, running

from eccos_aios.core import Core, Price
from eccos_aios.predict import CallText, Estimates
from eccos_aios.schedule import (
    ANSWERED,
    AbandonedError,
    AttemptOutcome,
    Call,
    CallFailedError,
    CallTimeoutError,
    ExecutionResult,
    OutcomeKind,
    OverloadedError,
    Requirements,
    RetryPolicy,
    Scheduler,
    SchedulerSettings,
    UnavailableError,
    current_attempt,
)

FAILS = AttemptOutcome(OutcomeKind.CORE_FAILS, "HTTP 500")
REFUSES = AttemptOutcome(OutcomeKind.CORE_REFUSES, "HTTP 401", disputable=False)
NO_CONNECTION = AttemptOutcome(OutcomeKind.CORE_FAILS, "no connection", disputable=False)
THREE = RetryPolicy(max_attempts=3, first_backoff_s=0.0)


def exits(*_: object) -> Any:
    raise SystemExit(1)


def with_quality(change: Callable[[Any], Any]) -> Callable[[Estimates], Any]:
    def changed(estimates: Estimates) -> Any:
        others = estimates.input_tokens, estimates.output_tokens, estimates.support
        return Estimates(change(estimates.quality), *others)

    return changed


def all_arrays(change: Callable[[Any], Any]) -> Callable[[Estimates], Any]:
    def changed(e: Estimates) -> Any:
        return Estimates(*(change(a) for a in (e.quality, e.input_tokens, e.output_tokens, e.support)))

    return changed


WRONG: dict[str, Callable[[Estimates], Any]] = {
    "None": lambda _: None,
    "a tuple": lambda estimates: (estimates.quality, estimates.support),
    "transposed": all_arrays(lambda array: array.T),
    "one-dimensional": all_arrays(lambda array: array[0]),
    "empty": all_arrays(lambda array: array[:0]),
    "objects": with_quality(lambda array: np.full(array.shape, None, dtype=object)),
    "raises SystemExit": exits,
    "a quality of 7": with_quality(lambda array: array + 7.0),
    "NaN": with_quality(lambda array: array * np.nan),
    "infinite tokens": lambda e: Estimates(e.quality, e.input_tokens, e.output_tokens + np.inf, e.support),
    "negative tokens": lambda e: Estimates(e.quality, e.input_tokens - 1e6, e.output_tokens, e.support),
}


class Wrong(TableOfQualities):
    """Right but for what `change` makes of it."""

    def __init__(self, change: Callable[[Estimates], Any]) -> None:
        super().__init__(cheap=0.9, dear=0.95)
        self.change = change

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Any:
        return self.change(super().predict(calls, cores))


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_predictor_costs_its_estimates_and_no_call(change: Callable[[Estimates], Any]) -> None:
    backend, answers = Backend(), Answers()
    more_cores = [Core(name=f"more{number}") for number in range(3)]  # no batch of four is square
    with running(backend, [CHEAP, DEAR, *more_cores], Wrong(change)) as scheduler:
        for _ in range(3):
            for _ in range(4):
                scheduler.submit(call(answers))
            answers.wait(4)
        status: Any = scheduler.status()
        assert scheduler.faults() == []
    assert not any(result.failed for _, result in answers.results)
    assert status["totals"]["degraded_calls"] == 12
    assert 0 <= status["totals"]["predicted_quality"] <= 1
    assert np.isfinite(status["quality_owed"])
    assert {core["in_flight"] for core in status["cores"].values()} == {0}


def test_one_wrong_estimate_costs_that_call_alone(caplog: pytest.LogCaptureFixture) -> None:
    def spoiled(estimates: Estimates) -> Estimates:
        estimates.quality[0, 1] = np.nan
        return estimates

    clock, answers = FakeClock(), Answers()
    with running(Backend(), predictor=Wrong(spoiled), clock=clock, batch_window_s=0.3) as scheduler:
        for _ in range(3):
            scheduler.submit(call(answers))
        clock.advance_waiters(0.3)
        answers.wait(3)
        totals: Any = scheduler.status()["totals"]
    # one a batch of estimates; the first call may be one of its own
    assert 1 <= totals["degraded_calls"] <= 2
    (warning,) = [record.getMessage() for record in caplog.records if "stage 1" in record.getMessage()]
    assert "core 'dear'" in warning


def test_an_exhausted_process_holds_no_slot_and_goes_on_when_threads_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, refused = threading.Thread.start, threading.Event()

    def exhausted(thread: threading.Thread) -> None:
        if thread.name.startswith("eccos-call"):
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    clock, answers = FakeClock(), Answers()
    with running(Backend(), clock=clock) as scheduler:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", exhausted)
            for _ in range(6):
                scheduler.submit(call(answers))
            assert refused.wait(WAIT_S)
            status: Any = scheduler.status()
            assert {core["in_flight"] for core in status["cores"].values()} == {0}
        clock.advance_until(lambda: len(answers) == 6, 1.0)
        assert not any(result.failed for _, result in answers.results)


class HangsOnce(TableOfQualities):
    def __init__(self) -> None:
        super().__init__()
        self.entered, self.release = threading.Event(), threading.Event()

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        self.entered.set()
        self.release.wait(WAIT_S)
        return super().predict(calls, cores)


def test_timeouts_do_not_wait_for_a_predictor_that_hangs() -> None:
    clock, predictor, answers = FakeClock(), HangsOnce(), Answers()
    with running(Backend(), predictor=predictor, clock=clock, call_timeout_s=60.0) as scheduler:
        scheduler.submit(call(answers))
        assert predictor.entered.wait(WAIT_S)
        clock.advance(60.0)
        assert isinstance(answers.wait(1)[0].error, CallTimeoutError)
        predictor.release.set()


def test_a_stop_does_not_wait_for_a_predictor_that_hangs() -> None:
    clock, predictor, answers = FakeClock(), HangsOnce(), Answers()
    with running(Backend(), predictor=predictor, clock=clock) as scheduler:
        scheduler.submit(call(answers))
        assert predictor.entered.wait(WAIT_S)
        stopper = threading.Thread(target=scheduler.stop, name="stopper")
        stopper.start()
        clock.advance_until(lambda: not stopper.is_alive(), 10.0)
        assert len(answers) == 1
        predictor.release.set()


def test_a_round_that_raises_is_begun_again_and_the_call_that_does_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from eccos_aios.schedule import rounds

    decide = rounds.decision_of

    def poisoned(placement: Any, *rest: Any) -> Any:
        if placement.call.payload == "poison":
            raise ZeroDivisionError
        return decide(placement, *rest)

    monkeypatch.setattr(rounds, "decision_of", poisoned)
    clock, answers = FakeClock(), Answers()
    with running(Backend(), clock=clock) as scheduler:
        scheduler.submit(call(answers, payload="poison"))
        clock.advance_until(lambda: len(answers) == 1, 10.0)
        assert isinstance(answers.wait(1)[0].error, CallFailedError)
        for _ in range(5):
            scheduler.submit(call(answers))
        assert not any(result.failed for result in answers.wait(5)[1:])
        status: Any = scheduler.status()
    assert {core["in_flight"] for core in status["cores"].values()} == {0}


def test_an_exception_in_the_rounds_is_counted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from eccos_aios.schedule.state import SchedulerState

    end_backoffs, raising = SchedulerState.end_backoffs, [True]

    def raises_once(state: SchedulerState, now_s: float) -> None:
        if raising:
            raising.pop()
            raise RuntimeError("odd")
        end_backoffs(state, now_s)

    monkeypatch.setattr(SchedulerState, "end_backoffs", raises_once)
    clock, answers = FakeClock(), Answers()
    with running(Backend(), clock=clock) as scheduler:
        scheduler.submit(call(answers))
        clock.advance_until(lambda: len(answers) == 1, 1.0)
        assert not answers.wait(1)[0].failed
        totals: Any = scheduler.status()["totals"]
        assert totals["degraded"] == 1
        assert "eccos-rounds" in scheduler.restarts()[0]
        assert scheduler.faults() == []


def cores_with(outcomes: dict[str, AttemptOutcome], poison: AttemptOutcome | None = None) -> Any:
    """Cores that end every call with these outcomes, and poisoned ones with that of `poison`."""

    def execute(each: Call, core: str) -> ExecutionResult:
        if each.payload == "poison" and poison is not None:
            return ExecutionResult(core, poison)
        return ExecutionResult(core, outcomes.get(core, ANSWERED))

    return execute


def states(scheduler: Scheduler) -> dict[str, object]:
    cores: Any = scheduler.status()["cores"]
    return {name: core["state"] for name, core in cores.items()}


@pytest.mark.parametrize("outcome", [FAILS, AttemptOutcome(OutcomeKind.NO_ANSWER), AT_FAULT])
def test_a_call_that_fails_everywhere_is_held_against_no_core(outcome: AttemptOutcome) -> None:
    answers = Answers()
    with running(cores_with({}, outcome), retry=THREE) as scheduler:
        for _ in range(12):
            scheduler.submit(call(answers, payload="poison", agent="bad"))
            assert answers.wait(1)[-1].failed
        assert set(states(scheduler).values()) == {"ok"}
        scheduler.submit(call(answers, agent="good"))
        assert not answers.wait(1)[-1].failed


def test_a_core_that_fails_where_another_answers_is_blamed_after_all() -> None:
    cores = [Core(name=name, quota=4, price=Price(input=p, output=p)) for p, name in enumerate("abc", 1)]
    answers = Answers()
    with running(cores_with({"a": FAILS, "b": FAILS}), cores, TableOfQualities(), retry=THREE) as scheduler:
        for _ in range(8):
            scheduler.submit(call(answers))
            assert answers.wait(1)[-1].core == "c"
        assert states(scheduler) == {"a": "open", "b": "open", "c": "ok"}


def test_a_core_that_refuses_gets_no_more_calls_and_costs_nobody_an_answer() -> None:
    answers, asked = Answers(), []

    def revoked(_: Call, core: str) -> ExecutionResult:
        asked.append(core)
        return ExecutionResult(core, REFUSES if core == "cheap" else ANSWERED)

    with running(revoked, retry=THREE) as scheduler:
        for _ in range(20):
            scheduler.submit(call(answers))
            assert not answers.wait(1)[-1].failed
    assert asked.count("cheap") <= 5


def test_a_core_that_is_silent_loses_its_call_to_another_and_its_slot_until_it_lets_go() -> None:
    clock, answers, hung_up = FakeClock(), Answers(), threading.Event()

    def silent(_: Call, core: str) -> ExecutionResult:
        if core == "cheap":
            attempt = current_attempt()
            assert attempt is not None
            assert attempt.timeout_s == pytest.approx(30.0)
            assert hung_up.wait(WAIT_S)
            return ExecutionResult("late", FAILS)
        return ExecutionResult(core)

    with running(silent, clock=clock, retry=THREE, attempt_timeout_s=30.0) as scheduler:
        for number in range(1, 5):
            scheduler.submit(call(answers))
            clock.advance_until(lambda number=number: len(answers) == number, 40.0)  # type: ignore[misc]
            assert answers.results[-1][1].core == "dear"
        cores: Any = scheduler.status()["cores"]
        assert cores["cheap"]["state"] == "open"
        assert cores["cheap"]["in_flight"] == 2
        hung_up.set()


def test_a_late_answer_is_an_answer_where_there_is_none_yet() -> None:
    clock, answers, late, second = FakeClock(), Answers(), threading.Event(), threading.Event()

    def slow(_: Call, core: str) -> ExecutionResult:
        if core == "cheap":
            assert second.wait(WAIT_S)
            return ExecutionResult("late but good")
        second.set()
        assert late.wait(WAIT_S)
        return ExecutionResult("too late")

    with running(slow, clock=clock, retry=THREE, attempt_timeout_s=3.0) as scheduler:
        scheduler.submit(call(answers))
        clock.advance_waiters(3.0)
        (result,) = answers.wait(1)
        late.set()
        assert (result.core, result.value) == ("cheap", "late but good")
        status: Any = scheduler.status()
        assert status["totals"]["completed"] == 1


@pytest.mark.parametrize(("outcome", "after_s"), [(NO_CONNECTION, 0.3), (NO_CONNECTION, 5.0), (REFUSES, 0.3)])
def test_where_every_core_is_down_the_agent_soon_knows_which_and_why(
    outcome: AttemptOutcome, after_s: float
) -> None:
    clock, answers = FakeClock(), Answers()
    options = {"unavailable_after_s": after_s, "retry": THREE}
    with running(cores_with({"cheap": outcome, "dear": outcome}), clock=clock, **options) as scheduler:
        for number in range(1, 11):
            scheduler.submit(call(answers))
            clock.advance_until(lambda number=number: len(answers) == number, 60.0)  # type: ignore[misc]
            assert answers.results[-1][1].failed
        last = answers.results[-1][1]
        if outcome is NO_CONNECTION:  # two refusals, of trial calls here, end a call as well
            assert isinstance(last.error, UnavailableError)
        for word in ("cheap", "dear", str(outcome)):
            assert word in f"{last.error} {last.causes}"
        assert "every core is down" in scheduler.faults()[0]


class Prober:
    """Says that a core is well once `well` is set."""

    def __init__(self) -> None:
        self.well, self.looked = threading.Event(), threading.Event()
        self.pinged: list[str] = []

    def look(self, core: str) -> AttemptOutcome | None:
        self.looked.set()
        return ANSWERED if self.well.is_set() else NO_CONNECTION

    def ping(self, core: str) -> AttemptOutcome:
        self.pinged.append(core)
        return ANSWERED


def test_a_core_that_is_well_again_serves_the_call_that_waits() -> None:
    clock, answers, prober = FakeClock(), Answers(), Prober()

    def until_well(_: Call, core: str) -> ExecutionResult:
        return ExecutionResult(core, ANSWERED if prober.well.is_set() else NO_CONNECTION)

    scheduler = Scheduler(
        (CHEAP,),
        TableOfQualities(),
        until_well,
        SchedulerSettings(grace_s=0.0, batch_window_s=0.0, retry=THREE, unavailable_after_s=60.0),
        prober,
        clock=clock,
    )
    scheduler.start()
    try:
        scheduler.submit(call(answers))
        assert answers.wait(1)[-1].failed
        scheduler.submit(call(answers))  # its second attempt opens the breaker, then it waits
        clock.advance_until(prober.looked.is_set, 10.0)
        assert prober.pinged == []  # not even that, while the connection is refused
        prober.well.set()
        clock.advance_until(lambda: len(answers) == 2, 10.0)
        assert answers.results[-1][1].value == "cheap"
        assert states(scheduler) == {"cheap": "ok"}
        assert prober.pinged == ["cheap"]
    finally:
        scheduler.stop()


def test_a_busy_core_is_waited_for_where_no_other_may_serve() -> None:
    clock, answers, moments_s = FakeClock(), Answers(), []

    def busy_once(_: Call, core: str) -> ExecutionResult:
        moments_s.append(clock.now_s())
        busy = AttemptOutcome(OutcomeKind.CORE_BUSY, "HTTP 429", retry_after_s=0.2)
        return ExecutionResult(core, busy if len(moments_s) == 1 else ANSWERED)

    with running(busy_once, [CHEAP], TableOfQualities(), clock) as scheduler:
        scheduler.submit(call(answers))
        clock.advance_waiters(0.2)
        assert not answers.wait(1)[0].failed
        assert states(scheduler) == {"cheap": "ok"}
    assert moments_s[1] - moments_s[0] == pytest.approx(0.2)


def test_beyond_max_pending_the_agent_with_most_waiting_is_turned_away() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, [CHEAP], max_pending=5, grace_s=WAIT_S) as scheduler:
        for _ in range(2):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        for _ in range(8):
            scheduler.submit(call(answers, agent="flood"))
        scheduler.submit(call(answers, agent="quiet"))
        turned_away = answers.wait(4)
        assert {type(result.error) for result in turned_away} == {OverloadedError}
        assert {each.agent for each, _ in answers.results} == {"flood"}
        totals: Any = scheduler.status()["totals"]
        assert totals["refused"] == 4
        backend.gate.set()
        answers.wait(7)
    assert [each.agent for each, result in answers.results if not result.failed].count("quiet") == 1


def test_a_call_whose_agent_has_gone_is_dropped_unless_it_is_sent() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, [ONE_SLOT := Core(name="cheap", quota=1)]) as scheduler:
        sent, waiting = call(answers), call(answers)
        scheduler.submit(sent)
        backend.wait_until_holding(1)
        scheduler.submit(waiting)
        assert not scheduler.abandon(sent)
        assert scheduler.abandon(waiting)
        assert not scheduler.abandon(waiting)
        assert isinstance(answers.wait(1)[0].error, AbandonedError)
        totals: Any = scheduler.status()["totals"]
        assert totals["abandoned"] == 1
        backend.gate.set()
        answers.wait(1)
    assert [core for core, _ in backend.served] == [ONE_SLOT.name]


def test_a_round_looks_at_no_more_than_it_can_use() -> None:
    backend, answers, seen = Backend(open_gate=False), Answers(), []

    class Counting(TableOfQualities):
        def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
            seen.append(len(calls))
            return super().predict(calls, cores)

    with running(backend, [CHEAP], Counting(), max_pending=5000) as scheduler:
        for _ in range(2000):
            scheduler.submit(call(answers))
        backend.wait_until_holding(2)
        assert scheduler.pending == 1998
    assert max(seen) < 200


def test_calls_for_a_busy_core_do_not_hide_those_for_a_free_one() -> None:
    backend, answers = Backend(open_gate=False), Answers()
    with running(backend, grace_s=0.0) as scheduler:
        for _ in range(500):
            scheduler.submit(call(answers, requirements=Requirements(1, cores=frozenset({"cheap"}))))
        backend.wait_until_holding(2)
        scheduler.submit(call(answers, requirements=Requirements(1, cores=frozenset({"dear"}))))
        backend.wait_until_holding(1)
        assert backend.served[-1][0] == "dear"


def test_retries_stay_within_their_budget() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    go_on = threading.Event()

    def counting(each: Call, core: str) -> ExecutionResult:
        if each.attempts == 1:
            return ExecutionResult(core, FAILS if core == "cheap" else ANSWERED)
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        go_on.wait(0.002)
        with lock:
            now[0] -= 1
        return ExecutionResult(core)

    cores = [CHEAP.model_copy(update={"quota": 40}), DEAR.model_copy(update={"quota": 40})]
    tight = RetryPolicy(max_attempts=3, first_backoff_s=0.0, budget_share=0.0, budget_floor=2)
    answers = Answers()
    with running(counting, cores, retry=tight, quality_target=0.0) as scheduler:
        for _ in range(60):
            scheduler.submit(call(answers))
        assert not any(result.failed for result in answers.wait(60))
    assert most[0] <= 2
