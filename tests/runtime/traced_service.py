"""Serves three calls with the OpenTelemetry that its argument names, and prints what was exported, as JSON.

``sdk``: a provider of the SDK is set before the service is made. ``late``: after it. ``broken``: as ``sdk``,
with a span processor that raises. ``none``: there is none.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core, Price
from eccos_aios.predict import query_text
from eccos_aios.runtime.configuration import prepare
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.schedule import AttemptOutcome, Call, ExecutionResult, OutcomeKind, Requirements
from eccos_aios.schedule.attempt import attempt_under_way

SECRET = "the text of the call"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def provide(broken: bool) -> tuple[Any, Any]:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    class Raising(SpanProcessor):
        def on_start(self, *_: object, **__: object) -> None:
            raise RuntimeError("the processor is broken")

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(Raising() if broken else SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    return exporter, reader


def execute(call: Call, core: str) -> ExecutionResult:
    attempt = attempt_under_way()
    if core == "small" and call.payload == "refused":
        return ExecutionResult(None, AttemptOutcome(OutcomeKind.CORE_REFUSES, "HTTP 401", disputable=False))
    if call.payload == "raises":
        raise RuntimeError(SECRET)
    attempt.note_usage(11, 7)
    attempt.finish_reason = "stop"
    return ExecutionResult("said")


def main(kind: str) -> None:
    provided = provide(kind == "broken") if kind in ("sdk", "broken") else None
    folder = Path(tempfile.mkdtemp())
    mode = "on" if kind == "late" else "auto"
    config = EccosConfig(manifest=folder / "cores.yaml", quality_target=0.0, telemetry=mode, max_attempts=2)
    cores = (Core(name="small", price=Price(input=1)), Core(name="large", price=Price(input=5)))
    service = SchedulingService(prepare(config, cores), Backend(execute, lambda *_: None))
    if kind == "late":
        provided = provide(False)
    service.start()
    results: list[bool] = []
    answered = threading.Semaphore(0)

    def done(_: Call, result: Any) -> None:
        results.append(result.failed)
        answered.release()

    for payload in ("fine", "refused", "raises"):
        text = query_text(SECRET)
        call = Call(text, Requirements(text.input_tokens), payload, done, agent="an agent")
        call.carrier = {"traceparent": TRACEPARENT}
        service.submit(call)
        assert answered.acquire(timeout=20)
    exported: dict[str, Any] = {"failed": results, "imported": "opentelemetry" in sys.modules}
    if provided is not None:
        exporter, reader = provided
        with mock.patch.object(service.scheduler, "status", wraps=service.scheduler.status) as status:
            reader.get_metrics_data()
            exported["statuses"] = status.call_count
        exported["metrics"] = json.loads(reader.get_metrics_data().to_json())
        service.stop()  # the last span ends after its call's answer
        exported["spans"] = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
    service.stop()
    print(json.dumps(exported))


if __name__ == "__main__":
    main(sys.argv[1])
