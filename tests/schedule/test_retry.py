from __future__ import annotations

import pytest
from test_scheduler import call

from eccos_aios.schedule import AttemptOutcome, OutcomeKind
from eccos_aios.schedule.retry import NextStep, next_step

FAILS = AttemptOutcome(OutcomeKind.CORE_FAILS, "HTTP 500")
EMPTY = AttemptOutcome(OutcomeKind.NO_ANSWER)
SILENT = AttemptOutcome(OutcomeKind.CORE_SILENT)
REFUSES = AttemptOutcome(OutcomeKind.CORE_REFUSES, disputable=False)
BUSY = AttemptOutcome(OutcomeKind.CORE_BUSY)
WINDOW = AttemptOutcome(OutcomeKind.CORE_UNFIT, "window", disputable=False)
ODD_400 = AttemptOutcome(OutcomeKind.CORE_UNFIT, "HTTP 400")
AT_FAULT = AttemptOutcome(OutcomeKind.CALL_AT_FAULT)
END, ELSEWHERE, LATER = NextStep.END, NextStep.ELSEWHERE, NextStep.LATER


@pytest.mark.parametrize(
    ("failures", "down", "disputed", "step"),
    [
        ([("a", FAILS)], "", False, ELSEWHERE),
        ([("a", FAILS), ("b", FAILS), ("c", FAILS)], "", True, ELSEWHERE),  # d has not had it
        ([("a", FAILS), ("b", FAILS), ("c", FAILS), ("d", FAILS)], "", True, END),
        ([("a", FAILS), ("b", FAILS)], "cd", True, ELSEWHERE),  # two of three attempts: wait for c and d
        ([("a", FAILS), ("b", FAILS), ("c", FAILS)], "d", False, END),
        ([("a", SILENT), ("b", SILENT)], "cd", True, ELSEWHERE),  # may be chance while all of them are ill
        ([("a", SILENT), ("b", SILENT), ("c", EMPTY)], "d", True, END),
        ([("a", AT_FAULT)], "", False, END),
        ([("a", WINDOW)], "", False, ELSEWHERE),
        ([("a", WINDOW), ("b", WINDOW), ("c", WINDOW), ("d", WINDOW)], "", False, END),
        ([("a", ODD_400)], "", False, ELSEWHERE),
        ([("a", ODD_400), ("b", ODD_400)], "", True, END),
        ([("a", BUSY), ("b", BUSY), ("c", BUSY), ("d", BUSY)], "", False, ELSEWHERE),
        ([(name, REFUSES) for name in "abcd"], "abcd", False, END),
    ],
)
def test_a_call_goes_on_while_a_core_that_is_well_has_not_had_it(
    failures: list[tuple[str, AttemptOutcome]], down: str, disputed: bool, step: NextStep
) -> None:
    failed = call(lambda *_: None)
    failed.failures, failed.disputed, failed.attempts = dict(failures), disputed, len(failures)
    assert next_step(failed, failures[-1][1], frozenset("abcd"), frozenset(down), 3) is step


def test_a_call_that_all_cores_leave_silent_ends_in_time_to_say_so() -> None:
    failed = call(lambda *_: None)
    failed.failures, failed.attempts = {"a": SILENT, "b": SILENT}, 2
    assert next_step(failed, SILENT, {"a", "b"}, (), 6) is LATER
    assert next_step(failed, SILENT, {"a", "b"}, (), 6, late=True) is END
    assert next_step(failed, SILENT, {"a", "b", "c"}, (), 6, late=True) is ELSEWHERE


@pytest.mark.parametrize(("attempts", "step"), [(1, LATER), (2, LATER), (3, END)])
def test_the_only_core_is_tried_again_until_attempts_are_used_up(attempts: int, step: NextStep) -> None:
    failed = call(lambda *_: None)
    failed.failures, failed.attempts = {"a": SILENT}, attempts
    assert next_step(failed, SILENT, {"a"}, {"a"} if attempts == 2 else (), 3) is step
