"""SchedulerMetrics: what the scheduler counts and how long things took, since its start."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from copy import deepcopy
from typing import Any

import numpy as np

from eccos_aios.reasons import base_reason
from eccos_aios.schedule.baselines import Baselines
from eccos_aios.schedule.call import CallResult
from eccos_aios.schedule.decision_log import REMEMBERED_DECISIONS, Decision
from eccos_aios.schedule.plan_stages import PlanStages

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, float("inf"))


class Histogram:
    """Counts of durations in seconds. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        self._counts = [0] * len(BOUNDS_S)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """For each bound, in Prometheus's spelling, the number of durations up to it."""
        total, buckets = 0, []
        for bound, count in zip(BOUNDS_S, self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets


class SchedulerMetrics:
    """Counters and histograms. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self) -> None:
        self.submitted = 0
        self.completed = 0
        self.failed = 0
        self.retries = 0
        self.refused = 0  # calls beyond max_pending
        self.abandoned = 0  # calls whose agent left before they were sent
        self.degraded_rounds = 0
        self.degraded_calls = 0  # whose estimates were wrong and replaced by the prior
        self.plans = {"single": 0, "check": 0, "agree": 0}  # calls that were sent, by the kind of plan
        self.reasons: Counter[str] = Counter()  # decisions by `base_reason`
        self.plan_stages = 0  # that answered or failed, of plans of several cores
        self.accepted_first = 0  # such plans that ended without their last core
        self.extra_calls = 0  # attempts of theirs beyond the first
        self.plans_usd = 0.0
        self.baselines = Baselines()
        self.wait = Histogram()
        self.service = Histogram()
        self._decided = 0
        self._quality_sum = 0.0
        self._cost_usd = 0.0
        self._decision_ms: deque[float] = deque(maxlen=REMEMBERED_DECISIONS)

    def add_round(self, calls: int, decision_ms: float) -> None:
        """Count a round that took this long and placed so many calls."""
        self._decision_ms.extend([decision_ms] * calls)

    def add_decision(self, decision: Decision) -> None:
        """Count a call that got its slot."""
        self._decided += 1
        self.wait.add(decision.waited_s)
        self._quality_sum += decision.predicted_quality
        self._cost_usd += decision.predicted_cost
        self.plans[decision.plan["kind"]] += 1
        self.reasons[base_reason(decision.reason)] += 1
        self.baselines.add(decision.estimates)

    def add_plan(self, stages: PlanStages) -> None:
        """Count a plan of several cores that has ended."""
        self.plan_stages += len(stages.ended)
        self.accepted_first += stages.accepted_at_first and not stages.given_up
        self.extra_calls += max(0, stages.begun - 1)
        self.plans_usd += sum(stage.cost or 0.0 for stage in stages.ended)

    def add_result(self, result: CallResult) -> None:
        """Count a call's final result."""
        if result.failed:
            self.failed += 1
        else:
            self.completed += 1

    def histograms(self) -> list[tuple[str, str, Histogram]]:
        """Name, meaning and a copy of each histogram of seconds."""
        return [
            ("wait", "From a call's arrival to its slot.", deepcopy(self.wait)),
            ("service", "From a call's slot to its core's answer.", deepcopy(self.service)),
        ]

    def decision_ms(self) -> list[float]:
        """Milliseconds of the last decisions."""
        return list(self._decision_ms)

    def totals(self) -> dict[str, Any]:
        """The ``totals`` of ``/eccos/status``, without `decision_percentiles`."""
        return {
            "submitted": self.submitted,
            "completed": self.completed,
            "failed": self.failed,
            "retries": self.retries,
            "refused": self.refused,
            "abandoned": self.abandoned,
            "predicted_quality": round(self._quality_sum / max(1, self._decided), 6),
            "cost_usd": round(self._cost_usd, 9),
            "degraded_rounds": self.degraded_rounds,
            "degraded_calls": self.degraded_calls,
            "reasons": dict(self.reasons),
            "plans": dict(self.plans),
            "plan_stages": self.plan_stages,
            "accepted_at_first_stage": self.accepted_first,
            "extra_calls": self.extra_calls,
            "plans_usd": round(self.plans_usd, 9),
        }


def decision_percentiles(decision_ms: list[float]) -> dict[str, float]:
    """The part of the ``totals`` that takes longer to compute, for a caller that holds no lock."""
    p50, p99 = np.percentile(np.array(decision_ms or [0.0]), [50, 99]).tolist()
    return {"decision_ms_p50": round(p50, 3), "decision_ms_p99": round(p99, 3)}
