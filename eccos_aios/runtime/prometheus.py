"""``GET /eccos/metrics``: the scheduler's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eccos_aios.schedule.metrics import Histogram

CORE_STATES = ("ok", "paused", "half-open", "open")


def exposition(
    status: Mapping[str, Any], histograms: Sequence[tuple[str, str, Histogram]]
) -> tuple[bytes, str]:
    """The metrics and their content type.

    Parameters
    ----------
    status : mapping
        What `SchedulingService.status` returns.
    histograms : sequence
        What `Scheduler.histograms` returns.

    Raises
    ------
    ImportError
        prometheus-client is not installed.
    """
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(status, histograms))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """One exposition's figures, gathered on request so that calls do not pay for being measured."""

    def __init__(self, status: Mapping[str, Any], histograms: Sequence[tuple[str, str, Histogram]]) -> None:
        self._status = status
        self._histograms = histograms

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        status = self._status
        totals = status["totals"]
        yield GaugeMetricFamily("eccos_pending_calls", "Calls that wait for a core.", status["pending"])
        yield GaugeMetricFamily("eccos_quality_target", "Mean quality to reach.", status["quality_target"])
        yield GaugeMetricFamily("eccos_quality_owed", "Quality points owed.", status["quality_owed"])
        yield GaugeMetricFamily(
            "eccos_predicted_quality",
            "Mean predicted quality of the calls sent.",
            totals["predicted_quality"],
        )
        for name, meaning in (
            ("submitted", "Calls that came in."),
            ("completed", "Calls that were answered."),
            ("failed", "Calls that were answered with an error."),
            ("retries", "Retries of calls."),
            ("refused", "Calls that were refused because too many waited."),
            ("abandoned", "Calls that were dropped because their client had disconnected."),
            ("degraded", "Restarts of threads after an exception."),
            ("degraded_rounds", "Rounds in which stage 1 or stage 2 failed."),
            ("degraded_calls", "Calls whose estimates were invalid and replaced by the prior."),
        ):
            yield CounterMetricFamily(f"eccos_{name}", meaning, totals[name])
        plans = CounterMetricFamily("eccos_plans", "Calls sent, by the kind of their plan.", labels=["kind"])
        for kind, count in totals["plans"].items():
            plans.add_metric([kind], count)
        yield plans
        decisions = CounterMetricFamily("eccos_decisions", "Decisions, by their reason.", labels=["reason"])
        for reason, count in totals["reasons"].items():
            decisions.add_metric([reason], count)
        yield decisions
        for name, meaning in (
            ("plan_stages", "Cores that answered or failed in plans of several cores."),
            ("accepted_at_first_stage", "Plans of several cores that ended without their last core."),
            ("extra_calls", "Attempts of such plans beyond the first."),
            ("plans_usd", "US dollars of such plans."),
        ):
            yield CounterMetricFamily(f"eccos_{name}", meaning, totals[name])
        yield CounterMetricFamily("eccos_cost_usd", "Estimated US dollars of calls sent.", totals["cost_usd"])
        for section, name, meaning in (
            ("history", "recorded", "Outcomes of calls that are in the store."),
            ("history", "dropped", "Outcomes that never reached the store."),
            ("learning", "learned", "Graded outcomes that the predictor has learned."),
            ("learning", "refused", "Graded outcomes that could not be learned."),
            ("learning", "refits", "New fits of the trained part."),
        ):
            yield CounterMetricFamily(f"eccos_{section}_{name}", meaning, status[section][name])
        refused = CounterMetricFamily(
            "eccos_feedback_refused", "Grades refused because of this.", labels=["account"]
        )
        for account, count in status["feedback"]["refused"].items():
            refused.add_metric([account], count)
        yield refused
        meaning = "Quality of the core less its quality at the last fit."
        shift = GaugeMetricFamily("eccos_core_shift", meaning, labels=["core"])
        for core, points in status["learning"]["shifts"].items():
            shift.add_metric([core], points)
        yield shift
        yield from self._budgets(GaugeMetricFamily)
        for name, meaning, histogram in self._histograms:
            yield HistogramMetricFamily(
                f"eccos_{name}_seconds", meaning, buckets=histogram.cumulative(), sum_value=histogram.sum_s
            )
        yield from self._cores(status["cores"], CounterMetricFamily, GaugeMetricFamily)

    def _budgets(self, gauge: Any) -> Iterable[Any]:
        budgets = {"": self._status.get("budget"), **self._status.get("agent_budgets", {})}
        labels = ["agent"]  # empty for the budget of all calls
        families = {
            "usd": gauge("eccos_budget_usd", "US dollars for the period.", labels=labels),
            "spent": gauge("eccos_budget_spent_usd", "Spent of them.", labels=labels),
            "left": gauge("eccos_budget_left_usd", "Left of them.", labels=labels),
            "price": gauge(
                "eccos_budget_price", "Points of quality that a US dollar must buy; 0: any.", labels=labels
            ),
            "resets_at": gauge("eccos_budget_resets_at", "Unix seconds of the next period.", labels=labels),
            "exhausted": gauge("eccos_budget_exhausted", "1 where nothing is left.", labels=labels),
        }
        for agent, budget in budgets.items():
            for key, family in families.items() if budget is not None else ():
                family.add_metric([agent], float(budget[key] or 0.0))
        return families.values() if any(budgets.values()) else ()

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
