"""A thousand calls on a real AIOS kernel over cores that fail one time in five, with a refresh under way."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eccos_aios.history import CallOutcome, HistoryStore
from eccos_aios.sandbox.fault import FAULT_KINDS
from eccos_aios.sandbox.server import SandboxCore

QUOTAS = {"first": 4, "second": 3, "third": 2}
CALLS, CALLERS = 1000, 48
TROUBLE_EVERY_S = 1.0


@pytest.mark.aios_long
def test_a_thousand_calls_over_failing_cores_are_answered_once_within_the_quotas(aios: Any) -> None:
    cores = [SandboxCore(name, latency_s=0.02).start() for name in QUOTAS]
    manifest = json.dumps({"cores": [{"name": name, "quota": quota} for name, quota in QUOTAS.items()]})
    section = {
        "manifest": "cores.yaml",
        "history": "history.db",
        "quality_target": 0.5,
        "max_wait_s": 0.1,
        "call_timeout_s": 20,
    }
    scheduler = {"scheduler_type": "eccos", "eccos": section}
    done = threading.Event()

    def make_trouble(kernel: Any) -> None:
        victims, kinds = itertools.cycle(cores), itertools.cycle(FAULT_KINDS)
        for number in itertools.count(1):
            if done.wait(TROUBLE_EVERY_S):
                return
            if number == 3:
                kernel.request("/core/refresh", {})
            next(victims).fail(next(kinds), 0.2, seed=number)

    try:
        with aios.kernel(cores, scheduler, {"cores.yaml": manifest}) as kernel:
            trouble = threading.Thread(target=make_trouble, args=(kernel,), name="trouble")
            trouble.start()
            try:
                with ThreadPoolExecutor(CALLERS) as agents:
                    answers = list(agents.map(lambda n: kernel.query(f"question {n}"), range(CALLS)))
            finally:
                done.set()
                trouble.join()
            status = kernel.request("/eccos/status")
            kernel.stop()
            outcomes = list(HistoryStore(kernel.folder / "aios/config/history.db", read_only=True).outcomes())
    finally:
        for core in cores:
            core.stop()
    assert [answer["finished"] for answer in answers] == [True] * CALLS
    assert {core.name: core.max_in_flight for core in cores if core.max_in_flight > QUOTAS[core.name]} == {}
    totals = status["totals"]
    assert totals["submitted"] == CALLS == totals["completed"] + totals["failed"]
    assert totals["failed"] == sum(answer["error"] is not None for answer in answers)
    assert_one_outcome_each(outcomes, answers)


def assert_one_outcome_each(outcomes: list[CallOutcome], answers: list[Any]) -> None:
    assert Counter(outcome.query for outcome in outcomes) == Counter(f"question {n}" for n in range(CALLS))
    for answer, outcome in zip(answers, sorted(outcomes, key=number_of), strict=True):
        assert (outcome.error is None) == (answer["error"] is None)


def number_of(outcome: CallOutcome) -> int:
    return int(outcome.query.split()[-1])
