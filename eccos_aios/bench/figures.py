"""Figures of a replay, each with a 95 % paired bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eccos_aios.bench.fold import FloatArray
from eccos_aios.bench.plan_policy import PLAN_POLICY
from eccos_aios.bench.policy import SMART_THRESHOLD
from eccos_aios.bench.replay import PolicyOutcome, Replay

RESAMPLES = 1000  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percentiles
BASELINE = "smart"  # at `SMART_THRESHOLD`
BEST_SINGLE, ORACLE, ROUTING = "best-single", "oracle", "eccos"


@dataclass(frozen=True)
class Figure:
    """A number and its 95 % interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """One policy at one level.

    Attributes
    ----------
    quality, promised_quality : Figure
        Means over the placed calls.
    cost, promised_cost : Figure
        US dollars per 1,000 placed calls.
    placed : float
        Share of the calls that were assigned a core.
    per_core : dict of str to int
        Calls on each core; with plans, calls whose plan asks it first.
    extra_calls : float
        Cores asked per placed call beyond the first; 0 for a policy without plans.
    """

    policy: str
    quotas: bool
    level: float
    quality: Figure
    cost: Figure
    promised_quality: Figure
    promised_cost: Figure
    placed: float
    per_core: dict[str, int]
    extra_calls: float


@dataclass(frozen=True)
class Headline:
    """A policy with quality targets against SmartRouting at AIOS's threshold.

    Between two of its levels a policy may mix, so its curve is taken as the straight line between them.

    Attributes
    ----------
    cost_share : Figure
        Its cost at SmartRouting's quality, divided by SmartRouting's cost.
    quality_gain : Figure
        Its quality at SmartRouting's cost, divided by SmartRouting's, less 1.
    gap_closed : Figure
        Share of the gap between the best single core's quality and the oracle's that its best level closes.
    worst_promise : Figure
        Predicted less delivered quality at the level where that is most.
    cost_error : Figure
        Predicted over delivered cost, less 1, at the level where that is furthest from 0.
    """

    policy: str
    quotas: bool
    cost_share: Figure
    quality_gain: Figure
    gap_closed: Figure
    worst_promise: Figure
    cost_error: Figure


@dataclass(frozen=True)
class PlanHeadline:
    """Plans against routing to one core (policy ``eccos``), without quotas.

    Attributes
    ----------
    quality_gain : Figure
        Quality at the best single core's cost, less routing's there; 0.01 is a point.
    cost_share : Figure
        Cost of routing's best quality, divided by what routing pays for it; NaN where plans do not reach it.
    gap_closed, routing_gap_closed : Figure
        Share of the gap between the best single core's quality and the oracle's that the best level closes.
    extra_calls : float
        Cores asked per call beyond the first, at the best level.
    """

    policy: str
    quality_gain: Figure
    cost_share: Figure
    gap_closed: Figure
    routing_gap_closed: Figure
    extra_calls: float


class Sample:
    """Means of every outcome row over the records, and over resamples of them.

    The resamples are the same for all rows, so that differences between policies are paired.
    """

    def __init__(self, replay: Replay, seed: int = 0) -> None:
        self.replay = replay
        records = len(replay.outcomes[0].core)
        random = np.random.default_rng(seed)
        drawn = random.multinomial(records, np.full(records, 1 / records), size=RESAMPLES)
        self._weights = np.vstack([np.ones(records), drawn])

    def means(self, rows: Sequence[FloatArray]) -> FloatArray:
        """Of arrays of shape (records,), NaN left out; shape (1 + resamples, rows), the sample first."""
        values = np.array(rows)
        known = ~np.isnan(values)
        total = self._weights @ np.where(known, values, 0.0).T
        count = self._weights @ known.T.astype(np.float64)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def points(sample: Sample) -> list[Point]:
    """All policies at all levels."""
    outcomes = sample.replay.outcomes
    names = [core.name for core in sample.replay.cores]
    columns = {
        "quality": sample.means([row.quality for row in outcomes]),
        "cost": 1000 * sample.means([row.cost for row in outcomes]),
        "promised_quality": sample.means([row.promised_quality for row in outcomes]),
        "promised_cost": 1000 * sample.means([row.promised_cost for row in outcomes]),
    }
    return [
        Point(
            policy=row.policy,
            quotas=row.quotas,
            level=row.level,
            placed=float((row.core >= 0).sum() / sample.replay.records),
            per_core={name: int((row.core == column).sum()) for column, name in enumerate(names)},
            extra_calls=_mean_asked(row) - 1.0,
            **{key: _figure(values[:, number]) for key, values in columns.items()},
        )
        for number, row in enumerate(outcomes)
    ]


def headlines(sample: Sample) -> list[Headline]:
    """Every policy that makes estimates against the baseline, where that was replayed."""
    found = []
    for limited in sorted({row.quotas for row in sample.replay.outcomes}):
        rows = [row for row in sample.replay.outcomes if row.quotas == limited]
        smart = [row for row in rows if row.policy == BASELINE and row.level == SMART_THRESHOLD]
        for name in dict.fromkeys(row.policy for row in rows if row.policy.startswith("eccos")):
            own = [row for row in rows if row.policy == name]
            found.append(_headline(sample, name, own, smart, rows))
    return found


def plan_headline(sample: Sample) -> PlanHeadline | None:
    """Plans against routing; None where one of them, the best single core or the oracle was not replayed."""
    free = [row for row in sample.replay.outcomes if not row.quotas]
    rows = {name: [row for row in free if row.policy == name] for name in {row.policy for row in free}}
    if not {PLAN_POLICY, ROUTING, BEST_SINGLE, ORACLE} <= rows.keys():
        return None
    curves = {
        name: (
            sample.means([row.quality for row in rows[name]]),
            sample.means([row.cost for row in rows[name]]),
        )
        for name in (PLAN_POLICY, ROUTING, BEST_SINGLE, ORACLE)
    }
    (quality, cost), (their_quality, their_cost) = curves[PLAN_POLICY], curves[ROUTING]
    single_quality, single_cost = curves[BEST_SINGLE][0][:, 0], curves[BEST_SINGLE][1][:, 0]
    top, best = int(np.argmax(their_quality[0])), int(np.argmax(quality[0]))
    gap = curves[ORACLE][0].max(axis=1) - single_quality
    gain = _along(quality_at_cost, quality, cost, single_cost)
    gain -= _along(quality_at_cost, their_quality, their_cost, single_cost)
    share = _along(cost_at_quality, quality, cost, their_quality[:, top]) / their_cost[:, top]
    return PlanHeadline(
        policy=PLAN_POLICY,
        quality_gain=_figure(gain),
        cost_share=_figure(share),
        gap_closed=_figure((quality[:, best] - single_quality) / gap),
        routing_gap_closed=_figure((their_quality[:, top] - single_quality) / gap),
        extra_calls=_mean_asked(rows[PLAN_POLICY][best]) - 1.0,
    )


def _headline(
    sample: Sample, name: str, own: list[PolicyOutcome], smart: list[PolicyOutcome], rows: list[PolicyOutcome]
) -> Headline:
    quality, cost = sample.means([row.quality for row in own]), sample.means([row.cost for row in own])
    promised = sample.means([row.promised_quality for row in own])
    promised_cost = sample.means([row.promised_cost for row in own])
    excess, cost_error = promised - quality, promised_cost / cost - 1
    best = int(np.argmax(quality[0]))
    single = [row for row in rows if row.policy == BEST_SINGLE]
    oracle = sorted((row for row in rows if row.policy == ORACLE), key=lambda row: np.nanmean(row.quality))
    share = gain = closed = np.full(len(quality), np.nan)
    if smart:
        their_quality, their_cost = (
            sample.means([smart[0].quality])[:, 0],
            sample.means([smart[0].cost])[:, 0],
        )
        share = _along(cost_at_quality, quality, cost, their_quality) / their_cost
        gain = _along(quality_at_cost, quality, cost, their_cost) / their_quality - 1
    if single and oracle:
        low, high = sample.means([single[0].quality, oracle[-1].quality]).T
        closed = (quality[:, best] - low) / (high - low)
    return Headline(
        policy=name,
        quotas=own[0].quotas,
        cost_share=_figure(share),
        quality_gain=_figure(gain),
        gap_closed=_figure(closed),
        worst_promise=_figure(excess[:, int(np.nanargmax(excess[0]))]),
        cost_error=_figure(cost_error[:, int(np.nanargmax(np.abs(cost_error[0])))]),
    )


def cost_at_quality(quality: FloatArray, cost: FloatArray, wanted: float) -> float:
    """Least cost on a policy's curve that gives a quality; NaN where none does.

    Parameters
    ----------
    quality, cost : ndarray of shape (levels,)
    wanted : float
    """
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    first = int(np.searchsorted(best, wanted))
    if first == len(best):
        return float("nan")
    if first == 0:
        return float(cost[order[0]])
    below, above = best[first - 1], best[first]
    part = (wanted - below) / (above - below)
    return float(cost[order[first - 1]] + part * (cost[order[first]] - cost[order[first - 1]]))


def quality_at_cost(quality: FloatArray, cost: FloatArray, spent: float) -> float:
    """Best quality on a policy's curve for at most a cost; NaN where everything costs more."""
    order = np.lexsort((-quality, cost))
    if spent < cost[order[0]]:
        return float("nan")
    return float(np.interp(spent, cost[order], np.maximum.accumulate(quality[order])))


def _mean_asked(row: PolicyOutcome) -> float:
    asked = row.asked[~np.isnan(row.asked)]
    return float(asked.mean()) if len(asked) else float("nan")


def _along(
    curve: Callable[[FloatArray, FloatArray, float], float],
    quality: FloatArray,
    cost: FloatArray,
    given: FloatArray,
) -> FloatArray:
    return np.array([curve(*row) for row in zip(quality, cost, given, strict=True)])


def _figure(values: FloatArray) -> Figure:
    """From an array whose first value is the sample's and whose others are the resamples'."""
    resampled = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(resampled):
        return Figure(float(values[0]), float("nan"), float("nan"))
    low, high = np.percentile(resampled, INTERVAL)
    return Figure(float(values[0]), float(low), float(high))
