"""``GET /eccos/metrics``: the scheduler's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eccos_aios.schedule import Scheduler

CORE_STATES = ("ok", "paused", "half-open", "open")


def exposition(
    scheduler: Scheduler,
    history: Mapping[str, Any] | None = None,
    learning: Mapping[str, Any] | None = None,
    feedback: Mapping[str, Any] | None = None,
) -> tuple[bytes, str]:
    """The metrics and their content type.

    Parameters
    ----------
    scheduler : Scheduler
    history : mapping, optional
        How many outcomes were ``recorded`` and ``dropped``.
    learning : mapping, optional
        How many outcomes were ``learned`` and ``refused``, how many ``refits`` there were, and the cores'
        ``shifts``.
    feedback : mapping, optional
        How many grades were ``refused`` on each account.

    Raises
    ------
    ImportError
        prometheus-client is not installed.
    """
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(scheduler, history or {}, learning or {}, feedback or {}))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """Reads the scheduler when it is asked, so that no call pays for being measured."""

    def __init__(
        self,
        scheduler: Scheduler,
        history: Mapping[str, Any],
        learning: Mapping[str, Any],
        feedback: Mapping[str, Any],
    ) -> None:
        self._scheduler = scheduler
        self._counts = {
            **{f"history_{name}": value for name, value in history.items()},
            **{f"learning_{name}": value for name, value in learning.items() if name != "shifts"},
        }
        self._shifts = learning.get("shifts", {})
        self._feedback_refused = feedback.get("refused", {})

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        status: Any = self._scheduler.status()
        totals = status["totals"]
        yield GaugeMetricFamily("eccos_pending_calls", "Calls that wait for a core.", status["pending"])
        yield GaugeMetricFamily("eccos_quality_target", "Mean quality to reach.", status["quality_target"])
        yield GaugeMetricFamily("eccos_quality_owed", "Quality points owed.", status["quality_owed"])
        yield GaugeMetricFamily(
            "eccos_predicted_quality",
            "Mean predicted quality of the calls sent.",
            totals["predicted_quality"],
        )
        for name, told in (
            ("submitted", "Calls that came in."),
            ("completed", "Calls that were answered."),
            ("failed", "Calls that were answered with an error."),
            ("retries", "Times that a call was tried again."),
            ("refused", "Calls that were refused because too many waited."),
            ("abandoned", "Calls that were dropped because their client had gone."),
            ("degraded", "Times that a thread raised and was begun again."),
            ("degraded_rounds", "Rounds in which stage 1 or stage 2 failed."),
            ("degraded_calls", "Calls whose estimates were wrong, so that the prior stood in."),
        ):
            yield CounterMetricFamily(f"eccos_{name}", told, totals[name])
        yield CounterMetricFamily("eccos_cost_usd", "Estimated US dollars of calls sent.", totals["cost_usd"])
        for name, told in (
            ("history_recorded", "Outcomes of calls that are in the store."),
            ("history_dropped", "Outcomes that never reached the store."),
            ("learning_learned", "Graded outcomes that the estimates have learned."),
            ("learning_refused", "Graded outcomes that could not be learned."),
            ("learning_refits", "New fits of the trained part."),
        ):
            if name in self._counts:
                yield CounterMetricFamily(f"eccos_{name}", told, self._counts[name])
        refused = CounterMetricFamily(
            "eccos_feedback_refused", "Grades refused on this account.", labels=["account"]
        )
        for account, count in self._feedback_refused.items():
            refused.add_metric([account], count)
        yield refused
        moved = "Points of quality that the core gives beyond what the last fit learned of it."
        shift = GaugeMetricFamily("eccos_core_shift", moved, labels=["core"])
        for core, points in self._shifts.items():
            shift.add_metric([core], points)
        yield shift
        for name, told, histogram in self._scheduler.histograms():
            yield HistogramMetricFamily(
                f"eccos_{name}_seconds", told, buckets=histogram.cumulative(), sum_value=histogram.sum_s
            )
        yield from self._cores(status["cores"], CounterMetricFamily, GaugeMetricFamily)

    def _cores(self, cores: dict[str, dict[str, Any]], counter: Any, gauge: Any) -> Iterable[Any]:
        families = {
            "in_flight": gauge("eccos_core_in_flight", "Calls that the core holds.", labels=["core"]),
            "quota": gauge("eccos_core_quota", "Calls that it may hold.", labels=["core"]),
            "completed": counter("eccos_core_completed", "Calls that it answered.", labels=["core"]),
            "failed": counter("eccos_core_failed", "Calls that it failed.", labels=["core"]),
        }
        breaker = gauge("eccos_core_breaker", "1 for the state of its breaker.", labels=["core", "state"])
        for name, core in cores.items():
            for key, family in families.items():
                family.add_metric([name], core[key])
            for state in CORE_STATES:
                breaker.add_metric([name, state], float(core["state"] == state))
        return [*families.values(), breaker]
