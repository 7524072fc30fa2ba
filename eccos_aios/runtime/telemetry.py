"""Telemetry: spans and metrics of calls by the OpenTelemetry API; nothing of a call's text is in them.

Only the API is used. What becomes of spans and metrics is up to the SDK that the process has configured, for
one by ``opentelemetry-instrument``; without one the API drops them.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from eccos_aios.errors import MissingExtraError
from eccos_aios.log_once import LogOnce
from eccos_aios.reasons import NEXT_STAGE
from eccos_aios.schedule import Attempt, Call, CallResult, Execute, ExecutionResult, current_attempt
from eccos_aios.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eccos_aios.schedule.decision_log import Decision

logger = logging.getLogger(__name__)

Mode = Literal["auto", "on", "off"]
Status = Callable[[], Mapping[str, Any]]
Lookup = Callable[[int], "Decision | None"]
"""Finds the decision on the call of a number."""

SCOPE = "eccos_aios"
OPERATION = "chat"  # the semantic conventions' name of what a core is asked for
# Bounds of histograms that the semantic conventions advise.
SECONDS = tuple(0.01 * 2**step for step in range(14))
TOKENS = tuple(float(4**step) for step in range(14))
# Of the status of the scheduler: instrument, unit, meaning, and where the figure is.
GAUGES = (
    ("eccos.pending", "{call}", "Calls that wait for a core.", ("pending",)),
    ("eccos.quality.target", "1", "Mean quality to reach.", ("quality_target",)),
    ("eccos.quality.owed", "1", "Points of quality owed.", ("quality_owed",)),
    ("eccos.quality.predicted", "1", "Mean predicted quality.", ("totals", "predicted_quality")),
    ("eccos.cost", "{USD}", "Estimated US dollars of the calls sent.", ("totals", "cost_usd")),
)  # fmt: skip
CORE_GAUGES = (
    ("eccos.core.in_flight", "{call}", "Calls that the core holds.", "in_flight"),
    ("eccos.core.quota", "{call}", "Calls that it may hold.", "quota"),
)
GAUGE_NAMES = frozenset(gauge[0] for gauge in (*GAUGES, *CORE_GAUGES))


def is_configured() -> bool:
    """Whether the process has an OpenTelemetry provider; imports nothing to find out."""
    trace = sys.modules.get("opentelemetry.trace")
    metrics = sys.modules.get("opentelemetry.metrics")
    return (trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)) or (
        metrics is not None and type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider"
    )


def is_wanted(mode: Mode) -> bool:
    """Whether a config and what the process has configured ask for telemetry."""
    return mode == "on" or (mode == "auto" and is_configured())


def check_installed(mode: Mode) -> None:
    """Check that there is what the config asks for.

    Raises
    ------
    MissingExtraError
        It is on, and the API is not installed.
    """
    if mode == "on":
        try:
            import opentelemetry.trace  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("opentelemetry-api", "telemetry") from error


@dataclass
class _Open:
    """A call that is not answered yet: its span, and since when it waits, in Unix nanoseconds."""

    span: Any
    waits_ns: int


class Telemetry:
    """Makes a span per call, with one for each wait and each attempt in it, and counts them.

    Thread-safe. A span's faults never reach a call. What the provider answers a call is not recorded, as it
    may quote the call.

    Parameters
    ----------
    status : callable
        Returns the body of ``GET /eccos/status``.
    decision : callable
        Finds the decision on a call.

    Raises
    ------
    ImportError
        The API is not installed.

    Attributes
    ----------
    active : bool
        Whether calls that are submitted from now on get a span.
    """

    def __init__(self, status: Status, decision: Lookup) -> None:
        from opentelemetry import metrics, propagate, trace

        self._trace, self._propagate = trace, propagate
        self._tracer = trace.get_tracer(SCOPE, __version__)
        self._decision = decision
        self._log = LogOnce(logger)
        self._lock = threading.Lock()  # guards the calls that are not answered yet
        self._open: dict[Call, _Open] = {}
        self.active = True
        meter = metrics.get_meter(SCOPE, __version__)
        self._calls = meter.create_counter("eccos.calls", "{call}", "Calls that were answered.")
        self._wait = _histogram(
            meter, "eccos.call.wait", "s", "From a call's arrival or failure to its slot.", SECONDS
        )
        self._duration = _histogram(
            meter, "gen_ai.client.operation.duration", "s", "Duration of an attempt at a core.", SECONDS
        )
        self._tokens = _histogram(
            meter, "gen_ai.client.token.usage", "{token}", "Tokens by the provider's count.", TOKENS
        )
        observation, exported = metrics.Observation, _ExportedStatus(status)
        for name, unit, meaning, path in GAUGES:
            gauge = self._gauge(path, partial(exported.status_for, name), observation)
            meter.create_observable_gauge(name, [gauge], unit, meaning)
        for name, unit, meaning, key in CORE_GAUGES:
            gauge = self._core_gauge(key, partial(exported.status_for, name), observation)
            meter.create_observable_gauge(name, [gauge], unit, meaning)

    def submitted(self, call: Call) -> None:
        """Begin a call's span."""
        if not self.active:
            return
        with self._guarded():
            now_ns = time.time_ns()
            parent = self._propagate.extract(call.carrier) if call.carrier else None
            span = self._tracer.start_span("eccos.call", parent, start_time=now_ns)
            if span.is_recording():
                span.set_attributes(
                    {
                        "eccos.call.id": call.id,
                        "eccos.call.number": call.number,
                        "gen_ai.agent.name": call.agent,
                        "gen_ai.operation.name": OPERATION,
                    }
                )
            with self._lock:
                self._open[call] = _Open(span, now_ns)

    def answered(self, call: Call, result: CallResult) -> None:
        """End a call's span; its agent has the answer."""
        with self._guarded():
            with self._lock:
                known = self._open.pop(call, None)
            if known is None:
                return
            outcome = "failed" if result.failed else "completed"
            core = {} if result.core is None else {"gen_ai.request.model": result.core}
            fault = {} if result.error is None else {"error.type": type(result.error).__name__}
            self._calls.add(1, {"eccos.outcome": outcome, **core, **fault})
            span = known.span
            span.set_attributes({"eccos.outcome": outcome, "eccos.attempts": call.attempts, **core, **fault})
            if result.failed:
                causes = "; ".join(f"{name}: {cause}" for name, cause in result.causes.items())
                span.set_status(self._trace.StatusCode.ERROR, causes)
            span.add_event("answered")
            span.end()

    def traced(self, execute: Execute) -> Execute:
        """The function with a span around it, as whose children the HTTP client's own appear."""

        def traced_execute(call: Call, core: str) -> ExecutionResult:
            with self._lock:
                known = self._open.get(call)
            attempt = current_attempt()
            if known is None or attempt is None:
                return execute(call, core)
            span, result = None, None
            with self._guarded():
                span = self._begin(call, core, attempt, known)
            if span is None:
                return execute(call, core)
            try:
                with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
                    result = execute(call, core)
                return result
            finally:
                with self._guarded():
                    self._end(span, core, attempt, result)
                    known.waits_ns = time.time_ns()

        return traced_execute

    def _begin(self, call: Call, core: str, attempt: Attempt, known: _Open) -> Any:
        """The span of an attempt; notes that the call has got its slot, and why there."""
        now_ns, context = time.time_ns(), self._trace.set_span_in_context(known.span)
        self._wait.record((now_ns - known.waits_ns) / 1e9)
        if known.span.is_recording():
            self._tracer.start_span("eccos.queued", context, start_time=known.waits_ns).end(now_ns)
            self._note_decision(call, core, attempt, known.span)
        kind = self._trace.SpanKind.CLIENT
        return self._tracer.start_span(f"{OPERATION} {core}", context, kind, start_time=now_ns)

    def _note_decision(self, call: Call, core: str, attempt: Attempt, span: Any) -> None:
        decision = self._decision(call.number)
        if decision is None:
            return
        later = call.stages is not None and call.stages.begun > 1
        decided = {
            "gen_ai.request.model": core,
            "eccos.attempt": attempt.number,
            "eccos.reason": NEXT_STAGE if later else decision.reason,
            "eccos.decision_ms": decision.decision_ms,
            "eccos.predicted_quality": decision.predicted_quality,
            "eccos.predicted_cost_usd": decision.predicted_cost,
            "eccos.plan": decision.plan["kind"],
        }
        span.add_event("decided", decided)

    def _end(self, span: Any, core: str, attempt: Attempt, result: ExecutionResult | None) -> None:
        """Note how an attempt ended."""
        outcome = attempt.outcome() if result is None else result.outcome
        failed = result is None or result.failed
        named = {"gen_ai.operation.name": OPERATION, "gen_ai.request.model": core}
        fault = {"error.type": outcome.kind.value} if failed else {}
        self._duration.record(attempt.clock.now_s() - attempt.started_s, {**named, **fault})
        usage = attempt.usage
        if usage is not None:
            counts = {"input": usage.input_tokens, "output": usage.output_tokens}
            for kind, count in counts.items():
                self._tokens.record(count, {**named, "gen_ai.token.type": kind})
                span.set_attribute(f"gen_ai.usage.{kind}_tokens", count)
        span.set_attributes({**named, **fault, "eccos.attempt": attempt.number})
        if attempt.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [attempt.finish_reason])
        if failed:
            span.set_status(self._trace.StatusCode.ERROR, str(outcome))
        span.end()

    def _gauge(
        self, path: tuple[str, ...], status: Status, observation: Any
    ) -> Callable[[Any], Iterable[Any]]:
        def observed(_: Any) -> Iterable[Any]:
            figure: Any = status() if self.active else None
            for key in path:
                figure = None if figure is None else figure[key]
            return [] if figure is None else [observation(figure)]

        return observed

    def _core_gauge(self, key: str, status: Status, observation: Any) -> Callable[[Any], Iterable[Any]]:
        def observed(_: Any) -> Iterable[Any]:
            cores = status()["cores"] if self.active else {}
            return [observation(core[key], {"gen_ai.request.model": name}) for name, core in cores.items()]

        return observed

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Log once what an exporter or a processor raises, and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a span is worth no call
            self._log.warning(type(error).__name__, "telemetry failed, calls go on", exc_info=error)


class _ExportedStatus:
    """One status for all gauges of an export, which each ask once: one that asks again begins the next."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._lock = threading.Lock()  # guards the two below
        self._latest: Mapping[str, Any] = {}
        self._unread: set[str] = set()

    def status_for(self, gauge: str) -> Mapping[str, Any]:
        with self._lock:
            if gauge in self._unread:
                self._unread.discard(gauge)
                return self._latest
        latest = self._status()
        with self._lock:
            self._latest, self._unread = latest, set(GAUGE_NAMES - {gauge})
        return latest


def _histogram(meter: Any, name: str, unit: str, meaning: str, bounds: tuple[float, ...]) -> Any:
    try:
        return meter.create_histogram(name, unit, meaning, explicit_bucket_boundaries_advisory=bounds)
    except TypeError:  # an older API, which takes no advice
        return meter.create_histogram(name, unit, meaning)
