from __future__ import annotations

import numpy as np
import pytest

from eccos_aios.core import Core
from eccos_aios.predict import Estimates, Predictor
from eccos_aios.runtime.prometheus import exposition
from eccos_aios.schedule import Call, ExecutionResult, Requirements, Scheduler
from eccos_aios.schedule.metrics import Histogram

pytest.importorskip("prometheus_client")


BUDGET = {
    "usd": 5.0,
    "per": "day",
    "spent": 2.0,
    "left": 3.0,
    "resets_at": 86400.0,
    "exhausted": False,
    "price": None,
}


class Even(Predictor):
    def fit(self, history: object) -> Even:
        return self

    def predict(self, calls: object, cores: object) -> Estimates:
        ones = np.ones((len(calls), len(cores)))  # type: ignore[arg-type]
        return Estimates(ones, ones, ones, ones)


def test_the_metrics_tell_what_happened() -> None:
    import threading

    from eccos_aios.predict import CallText

    answered = threading.Semaphore(0)
    scheduler = Scheduler([Core(name="only", quota=3)], Even(), lambda call, core: ExecutionResult(core))
    scheduler.start()
    for _ in range(5):
        scheduler.submit(Call(CallText("q", 1), Requirements(1), None, lambda *_: answered.release()))
    for _ in range(5):
        assert answered.acquire(timeout=10)
    scheduler.stop()
    status = {
        **scheduler.status(),
        "history": {"path": "history.db", "recorded": 4, "dropped": 1},
        "learning": {"learned": 2, "refused": 0, "refits": 1, "shifts": {"only": -0.25}},
        "feedback": {"refused": {"call": 3}},
        "budget": {**BUDGET, "price": 12.5},
        "agent_budgets": {"a": {**BUDGET, "exhausted": True}},
    }
    content, media_type = exposition(status, scheduler.histograms())
    lines = content.decode().splitlines()
    assert "eccos_completed_total 5.0" in lines
    assert "eccos_history_recorded_total 4.0" in lines
    assert "eccos_history_dropped_total 1.0" in lines
    assert "eccos_learning_refits_total 1.0" in lines
    assert 'eccos_core_shift{core="only"} -0.25' in lines
    assert 'eccos_feedback_refused_total{account="call"} 3.0' in lines
    assert 'eccos_core_quota{core="only"} 3.0' in lines
    assert 'eccos_core_breaker{core="only",state="ok"} 1.0' in lines
    assert 'eccos_budget_left_usd{agent=""} 3.0' in lines
    assert 'eccos_budget_price{agent=""} 12.5' in lines
    assert 'eccos_budget_exhausted{agent="a"} 1.0' in lines
    assert 'eccos_decisions_total{reason="only core allowed"} 5.0' in lines
    assert "eccos_wait_seconds_count 5.0" in lines
    assert media_type.startswith("text/plain")


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram()
    for seconds in (0.005, 0.2, 1e9):
        histogram.add(seconds)
    buckets = dict(histogram.cumulative())
    assert (buckets["0.005"], buckets["0.25"], buckets["300.0"], buckets["+Inf"]) == (1, 2, 2, 3)
