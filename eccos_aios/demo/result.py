"""The measurements of the demo."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, Field

THOUSAND = 1000
NORMAL_95 = 1.96  # standard errors in half of a 95 % interval


class CoreUse(BaseModel):
    """One core's counters over a run, and the cost of its tokens."""

    name: str
    quota: int
    calls: int
    max_in_flight: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


class RunResult(BaseModel):
    """One scheduler on the load.

    Attributes
    ----------
    policy : str
        ``FIFO``, ``SmartRouting``, ``all to`` a core, or ``ECCOS``.
    qualities : list of float
        Of each question's answer, 0 to 1, in the order of the questions; 0 for an error.
    latencies_s : list of float
        From an agent's query to its answer, waiting included, in the same order.
    errors : int
        Calls answered with an error.
    seconds : float
        From the first query to the last answer.
    costs_usd : list of float
        Of each question, in the same order: what its answers cost by the tokens recorded.
    predicted_quality : float or None
        Mean quality that the scheduler predicted; None if it predicts none.
    decision_ms_p50, decision_ms_p99 : float or None
        Of the scheduler's own decisions; None if it makes none.
    cores : list of CoreUse
        In AIOS's order of models.
    """

    policy: str
    qualities: list[float]
    latencies_s: list[float]
    errors: int
    seconds: float
    costs_usd: list[float] = Field(default_factory=list)
    predicted_quality: float | None = None
    decision_ms_p50: float | None = None
    decision_ms_p99: float | None = None
    cores: list[CoreUse]

    @property
    def calls(self) -> int:
        """Number of calls."""
        return len(self.qualities)

    @property
    def quality(self) -> float:
        """Mean quality of the answers, 0 to 1."""
        return float(np.mean(self.qualities))

    @property
    def quality_error(self) -> float:
        """Standard error of `quality` over the questions."""
        return float(np.std(self.qualities) / np.sqrt(self.calls))

    @property
    def cost_error(self) -> float:
        """Standard error of `cost_usd_per_1000` over the questions."""
        return float(np.std(self.costs_usd) / np.sqrt(self.calls) * THOUSAND) if self.costs_usd else 0.0

    @property
    def cost_usd_per_1000(self) -> float:
        """US dollars per 1,000 calls."""
        return sum(core.cost_usd for core in self.cores) / self.calls * THOUSAND

    @property
    def calls_per_s(self) -> float:
        """Answered calls per second."""
        return self.calls / self.seconds

    def latency_s(self, percentile: float) -> float:
        """A percentile of the latencies, seconds."""
        return float(np.percentile(self.latencies_s, percentile))

    def summary(self) -> dict[str, object]:
        """The run's fields in ``results.json``."""
        return {
            "policy": self.policy,
            "calls": self.calls,
            "errors": self.errors,
            "quality": self.quality,
            "quality_error": self.quality_error,
            "predicted_quality": self.predicted_quality,
            "cost_usd_per_1000": self.cost_usd_per_1000,
            "cost_error": self.cost_error,
            "latency_p50_s": self.latency_s(50),
            "latency_p95_s": self.latency_s(95),
            "calls_per_s": self.calls_per_s,
            "seconds": self.seconds,
            "decision_ms_p50": self.decision_ms_p50,
            "decision_ms_p99": self.decision_ms_p99,
            "cores": [core.model_dump() for core in self.cores],
        }


def quality_difference(run: RunResult, other: RunResult) -> tuple[float, float]:
    """Mean quality of a run less another's, and its standard error, paired over the questions."""
    difference = np.array(run.qualities) - np.array(other.qualities)
    return float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))


class SingleCore(BaseModel):
    """One core for every question: computed from its recorded outcomes, not run."""

    name: str
    quality: float
    cost_usd_per_1000: float


class DemoResult(BaseModel):
    """The results of the demo.

    Attributes
    ----------
    history : str or None
        The history's file; None if the records were generated.
    questions, records : int
        Numbers of records asked and learned from.
    callers : int
        Concurrent agents, each of which asks its next question when it has an answer.
    time_scale : float
        Factor on recorded latencies, AIOS's pauses and ECCOS's waits; seconds are as measured.
    notes : list of str
        Remarks for the reader of the figures.
    fifo, eccos : RunResult
        The two schedulers on the same questions and cores.
    others : list of RunResult
        On the same load: AIOS's SmartRouting under FIFO, and every call to one core under ECCOS's scheduler.
    alone : list of SingleCore
        Every core alone, for comparison.
    plot : str or None
        The plot's file; None if matplotlib is not installed.
    seconds : float
        Of the whole demo.
    """

    version: str
    seed: int
    history: str | None
    questions: int
    records: int
    callers: int
    quality_target: float
    time_scale: float
    notes: list[str]
    fifo: RunResult
    eccos: RunResult
    others: list[RunResult] = Field(default_factory=list)
    alone: list[SingleCore]
    out: str
    plot: str | None
    seconds: float

    def as_json(self) -> dict[str, object]:
        """The content of ``results.json`` and of ``--json``."""
        fields = self.model_dump(exclude={"fifo", "eccos", "others"})
        others = [run.summary() for run in self.others]
        return {**fields, "fifo": self.fifo.summary(), "eccos": self.eccos.summary(), "others": others}

    @property
    def runs(self) -> list[RunResult]:
        """All runs, ECCOS last."""
        return [self.fifo, *self.others, self.eccos]
