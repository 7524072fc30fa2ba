from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from eccos_aios.core import Core
from eccos_aios.predict import CallText, Estimates, Predictor
from eccos_aios.runtime.prometheus import CORE_STATES, exposition
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


@pytest.fixture(scope="module")
def exposed() -> tuple[str, str]:
    """The metrics of a scheduler that has served five calls, and their media type."""
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
    return content.decode(), media_type


def test_the_metrics_tell_what_happened(exposed: tuple[str, str]) -> None:
    content, media_type = exposed
    lines = content.splitlines()
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


OPERATE = Path(__file__).parents[2] / "manifests" / "operate"
OF_PROMETHEUS = {"instance", "job", "le", "agent"}  # labels that it adds; agent: of an empty budget


def dashboard_queries() -> Iterator[tuple[str, str]]:
    dashboard = json.loads((OPERATE / "grafana" / "dashboard.json").read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']}: {target['expr']}", target["expr"]


def alert_queries() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load((OPERATE / "alerts.yaml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def test_the_dashboard_and_the_alerts_ask_for_what_exists(exposed: tuple[str, str]) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposed[0]):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    labels["up"] = set()
    every: set[str] = set().union(*labels.values()) | OF_PROMETHEUS
    queries = [*dashboard_queries(), *alert_queries()]
    assert len(queries) > 30
    for where, query in queries:
        named = set(re.findall(r"\b(?:eccos_\w+|up)\b", query))
        assert named, where
        assert named <= labels.keys(), where
        for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*=", matchers)) <= labels[name] | OF_PROMETHEUS, where
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert set(re.findall(r"\w+", grouped)) <= every, where
        for states in re.findall(r'state=~?"([^"]*)"', query):
            assert set(states.split("|")) <= set(CORE_STATES), where


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    (group,) = yaml.safe_load((OPERATE / "alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
