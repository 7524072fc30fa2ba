"""Spans and metrics of calls, each case in a process of its own: a provider can be set only once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from traced_service import SECRET, TRACEPARENT

from eccos_aios.config import EccosConfig
from eccos_aios.errors import MissingExtraError
from eccos_aios.reasons import FELL_BACK, NO_HISTORY
from eccos_aios.runtime.configuration import prepare

needs_sdk = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import opentelemetry.sdk"], capture_output=True).returncode != 0,
    reason="opentelemetry-sdk is not installed",
)


def exported(kind: str) -> dict[str, Any]:
    script = Path(__file__).with_name("traced_service.py")
    done = subprocess.run([sys.executable, str(script), kind], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    found["log"] = done.stderr
    return found


@needs_sdk
def test_a_call_is_a_span_with_its_waits_and_attempts_in_it() -> None:
    found = exported("sdk")
    spans = found["spans"]
    trace = f"0x{TRACEPARENT.split('-')[1]}"
    assert {span["context"]["trace_id"] for span in spans} == {trace}
    calls = [span for span in spans if span["name"] == "eccos.call"]
    assert {span["parent_id"] for span in calls} == {f"0x{TRACEPARENT.split('-')[2]}"}
    inside = [[span for span in spans if span["parent_id"] == call["context"]["span_id"]] for call in calls]
    assert [sorted(span["name"] for span in each) for each in inside] == [
        ["chat small", "eccos.queued"],
        ["chat large", "chat small", "eccos.queued", "eccos.queued"],
        ["chat large", "chat large", "eccos.queued", "eccos.queued"],
    ]
    fine = calls[0]["attributes"]
    assert (fine["gen_ai.agent.name"], fine["gen_ai.request.model"]) == ("an agent", "small")
    assert (fine["eccos.outcome"], fine["eccos.attempts"]) == ("completed", 1)
    (attempt,) = [span for span in inside[0] if span["name"] == "chat small"]
    assert attempt["kind"] == "SpanKind.CLIENT"
    assert attempt["attributes"]["gen_ai.usage.input_tokens"] == 11
    assert attempt["attributes"]["gen_ai.usage.output_tokens"] == 7
    assert attempt["attributes"]["gen_ai.response.finish_reasons"] == ["stop"]
    assert [event["name"] for event in calls[1]["events"]] == ["decided", "decided", "answered"]
    reasons = [event["attributes"]["eccos.reason"] for event in calls[1]["events"][:2]]
    assert reasons == [NO_HISTORY, f"{FELL_BACK} (small refused: HTTP 401)"]
    (refused,) = [span for span in inside[1] if span["name"] == "chat small"]
    assert refused["attributes"]["error.type"] == "core refuses"
    assert refused["status"] == {"status_code": "ERROR", "description": "HTTP 401"}


@needs_sdk
def test_calls_and_cores_are_measured() -> None:
    found = exported("sdk")
    scopes = found["metrics"]["resource_metrics"][0]["scope_metrics"]
    points = {metric["name"]: metric["data"]["data_points"] for metric in scopes[0]["metrics"]}
    counted = {
        (point["attributes"]["eccos.outcome"], point["attributes"]["gen_ai.request.model"]): point["value"]
        for point in points["eccos.calls"]
    }
    assert counted == {("completed", "small"): 1, ("completed", "large"): 1, ("failed", "large"): 1}
    tokens = {point["attributes"]["gen_ai.token.type"]: 0 for point in points["gen_ai.client.token.usage"]}
    for point in points["gen_ai.client.token.usage"]:
        tokens[point["attributes"]["gen_ai.token.type"]] += point["sum"]
    assert tokens == {"input": 22, "output": 14}
    assert [point["value"] for point in points["eccos.core.quota"]] == [4, 4]
    assert [point["value"] for point in points["eccos.pending"]] == [0]
    assert points["eccos.call.wait"][0]["explicit_bounds"][0] == 0.01
    assert found["statuses"] == 1  # for all gauges of an export


@needs_sdk
def test_a_provider_that_comes_later_is_used_where_telemetry_is_on() -> None:
    assert "eccos.call" in {span["name"] for span in exported("late")["spans"]}


@needs_sdk
def test_a_processor_that_raises_costs_no_call() -> None:
    found = exported("broken")
    assert found["failed"] == [False, False, True]
    assert "telemetry failed, calls go on (logged once)" in found["log"]


def test_without_a_provider_nothing_is_imported() -> None:
    found = exported("none")
    assert found["failed"] == [False, False, True]
    assert not found["imported"]


def test_without_the_api_a_config_that_asks_for_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    config = EccosConfig(manifest=tmp_path / "cores.yaml", telemetry="on")
    with pytest.raises(MissingExtraError, match=r"eccos-aios\[telemetry\]"):
        prepare(config, ())
