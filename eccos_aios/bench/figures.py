"""Figures of a replay, each with its standard error and a 95 % interval, paired over policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from eccos_aios.bench.curves import Curve, Curves, along, cost_at_quality, quality_at_cost, quality_if_spent
from eccos_aios.bench.fold import FloatArray
from eccos_aios.bench.plan_policy import PLAN_POLICY, UNBOUNDED_PLAN_POLICY
from eccos_aios.bench.policy import SMART_THRESHOLD, SMART_THRESHOLDS
from eccos_aios.bench.replay import MIX_POLICY

INTERVAL = (2.5, 97.5)  # percentiles
BASELINE = "smart"  # at `SMART_THRESHOLD`
BEST_SINGLE, ORACLE, ROUTING = "best-single", "oracle", "eccos"
MIX_COSTS = 25  # costs at which policies are compared with the mix of single cores


@dataclass(frozen=True)
class Figure:
    """A number, its standard error and its 95 % interval; NaN where undefined.

    Attributes
    ----------
    undefined : float
        Share of the resamples or splits in which it is undefined; these are left out.
    """

    value: float
    low: float
    high: float
    se: float = float("nan")
    undefined: float = 0.0


class Spread(ABC):
    """How the draws of a curve become a figure."""

    @abstractmethod
    def centre(self, values: FloatArray) -> FloatArray:
        """The value itself, from an array of shape (draws, ...)."""

    @abstractmethod
    def figure(self, values: FloatArray) -> Figure:
        """From an array of shape (draws,)."""


class Bootstrap(Spread):
    """The first draw is the sample, the others are resamples of it."""

    def centre(self, values: FloatArray) -> FloatArray:
        return np.asarray(values[0], dtype=np.float64)

    def figure(self, values: FloatArray) -> Figure:
        resampled = values[1:][~np.isnan(values[1:])]
        if np.isnan(values[0]) or not len(resampled):
            return Figure(float(values[0]), float("nan"), float("nan"))
        low, high = np.percentile(resampled, INTERVAL)
        undefined = 1.0 - len(resampled) / max(len(values) - 1, 1)
        return Figure(float(values[0]), float(low), float(high), float(resampled.std()), undefined)


class OverSplits(Spread):
    """Every draw is a split; the mean, with the corrected standard error.

    Splits share records, so their spread understates the error of their mean: its variance is
    ``(1 / splits + tested / learned) s²``, Nadeau and Bengio 2003, section 4.2. The interval is Student's.

    Parameters
    ----------
    ratio : float
        Records that a split measures over records that it learns from.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def centre(self, values: FloatArray) -> FloatArray:
        known = ~np.isnan(values)
        total, count = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    def figure(self, values: FloatArray) -> Figure:
        from scipy.stats import t as student

        known = values[~np.isnan(values)]
        undefined = 1.0 - len(known) / len(values)
        if len(known) < 2:
            value = float(known[0]) if len(known) else float("nan")
            return Figure(value, float("nan"), float("nan"), float("nan"), undefined)
        mean = float(known.mean())
        error = float(known.std(ddof=1)) * (1.0 / len(known) + self.ratio) ** 0.5
        half = float(student.ppf(INTERVAL[1] / 100, len(known) - 1)) * error
        return Figure(mean, mean - half, mean + half, error, undefined)


@dataclass(frozen=True)
class Point:
    """One policy at one level.

    Attributes
    ----------
    quality, promised_quality : Figure
        Means over the placed calls.
    promise_error : Figure
        Promised less delivered quality.
    cost, promised_cost : Figure
        US dollars per 1,000 placed calls.
    placed : float
        Share of the calls that were assigned a core.
    per_core : dict of str to float
        Calls on each core, the mean over splits; with plans, calls whose plan asks it first.
    extra_calls : float
        Cores asked per placed call beyond the first; 0 for a policy without plans.
    seconds : float
        Recorded seconds per answer; NaN where latencies were not recorded.
    """

    policy: str
    quotas: bool
    level: float
    quality: Figure
    cost: Figure
    promised_quality: Figure
    promised_cost: Figure
    promise_error: Figure
    placed: float
    per_core: dict[str, float]
    extra_calls: float
    seconds: float


@dataclass(frozen=True)
class Headline:
    """A policy with quality targets against SmartRouting at AIOS's threshold, the best core and the mix.

    Between two of its levels a policy may mix, so its curve is taken as the straight line between them.

    Attributes
    ----------
    cost_share : Figure
        Its cost at SmartRouting's quality, divided by SmartRouting's cost.
    floor_share : Figure
        The same after the cost of the cheapest core for each call is taken from both.
    quality_gain : Figure
        Its quality at SmartRouting's cost, divided by SmartRouting's, less 1.
    single_cost_share : Figure
        Its cost at the best single core's quality, divided by that core's cost.
    gap_closed : Figure
        Share of the gap between the best single core's quality and the oracle's that its best level closes.
    worst_promise, mean_promise : Figure
        Predicted less delivered quality at the level where that is furthest from 0, and over all levels.
    cost_error : Figure
        Predicted over delivered cost, less 1, at the level where that is furthest from 0.
    worst_over_mix, mean_over_mix : Figure
        Quality less that of the mix of single cores at the same cost, where it is least, and over all costs.
    reference_gain, reference_cost : Figure
        Asked for SmartRouting's quality and one point: quality delivered less SmartRouting's, and cost
        divided by SmartRouting's.
    corner : Figure
        Cost at an unreachable target, divided by the cost of one point below the best promise.
    """

    policy: str
    quotas: bool
    cost_share: Figure
    floor_share: Figure
    quality_gain: Figure
    single_cost_share: Figure
    gap_closed: Figure
    worst_promise: Figure
    mean_promise: Figure
    cost_error: Figure
    worst_over_mix: Figure
    mean_over_mix: Figure
    reference_gain: Figure
    reference_cost: Figure
    corner: Figure


@dataclass(frozen=True)
class PlanHeadline:
    """Plans against routing to one core (policy ``eccos``), without quotas.

    Attributes
    ----------
    quality_gain : Figure
        Best quality for at most the best single core's cost, less routing's; 0.01 is a point.
    quality_gain_spent : Figure
        The same where both spend just that much.
    cost_share : Figure
        Cost of routing's best quality in the same draw, divided by what routing pays for it; undefined where
        plans do not reach it.
    gap_closed, routing_gap_closed : Figure
        Share of the gap between the best single core's quality and the oracle's that the best level closes.
    extra_calls : float
        Cores asked per call beyond the first, at the best level.
    seconds, routing_seconds : float
        Recorded seconds per answer at the best levels; NaN where latencies were not recorded.
    """

    policy: str
    quality_gain: Figure
    quality_gain_spent: Figure
    cost_share: Figure
    gap_closed: Figure
    routing_gap_closed: Figure
    extra_calls: float
    seconds: float
    routing_seconds: float


def points(curves: Curves, names: list[str], spread: Spread) -> list[Point]:
    """All policies at all levels."""
    return [
        _point(policy, quotas, curve, step, names, spread)
        for (policy, quotas, purpose), curve in curves.rows.items()
        if purpose == "curve"
        for step in range(curve.quality.shape[1])
    ]


def _point(policy: str, quotas: bool, curve: Curve, step: int, names: list[str], spread: Spread) -> Point:
    per_core = spread.centre(curve.per_core[:, step])
    return Point(
        policy=policy,
        quotas=quotas,
        level=float(spread.centre(curve.level[:, step])),
        quality=spread.figure(curve.quality[:, step]),
        cost=spread.figure(1000 * curve.cost[:, step]),
        promised_quality=spread.figure(curve.promised_quality[:, step]),
        promised_cost=spread.figure(1000 * curve.promised_cost[:, step]),
        promise_error=spread.figure(curve.promise_error[:, step]),
        placed=float(spread.centre(curve.placed[:, step])),
        per_core=dict(zip(names, per_core.tolist(), strict=True)),
        extra_calls=float(spread.centre(curve.asked[:, step])) - 1.0,
        seconds=float(spread.centre(curve.seconds[:, step])),
    )


def headlines(curves: Curves, spread: Spread) -> list[Headline]:
    """Every policy that makes estimates; figures against policies that were not replayed are undefined."""
    return [
        _headline(curves, policy, quotas, spread)
        for policy, quotas, purpose in curves.rows
        if policy.startswith("eccos") and purpose == "curve"
    ]


def plan_headlines(curves: Curves, spread: Spread) -> list[PlanHeadline]:
    """Plans against routing; empty where one of them, the best core or the oracle was not replayed."""
    routing, single, oracle = map(curves.find, (ROUTING, BEST_SINGLE, ORACLE))
    if routing is None or single is None or oracle is None:
        return []
    return [
        _plan_headline(policy, plans, routing, single, oracle, spread)
        for policy in (PLAN_POLICY, UNBOUNDED_PLAN_POLICY)
        if (plans := curves.find(policy)) is not None
    ]


def _plan_headline(
    policy: str, plans: Curve, routing: Curve, single: Curve, oracle: Curve, spread: Spread
) -> PlanHeadline:
    single_quality, single_cost = single.quality[:, 0], single.cost[:, 0]
    gain, spent = (
        along(read, plans, single_cost) - along(read, routing, single_cost)
        for read in (quality_at_cost, quality_if_spent)
    )
    best, top = (_best_level(curve, spread) for curve in (plans, routing))
    every = np.arange(len(routing.quality)), routing.quality.argmax(axis=1)
    share = along(cost_at_quality, plans, routing.quality[every]) / routing.cost[every]
    gap = oracle.quality.max(axis=1) - single_quality
    return PlanHeadline(
        policy=policy,
        quality_gain=spread.figure(gain),
        quality_gain_spent=spread.figure(spent),
        cost_share=spread.figure(share),
        gap_closed=spread.figure((plans.quality[:, best] - single_quality) / gap),
        routing_gap_closed=spread.figure((routing.quality[:, top] - single_quality) / gap),
        extra_calls=float(spread.centre(plans.asked)[best]) - 1.0,
        seconds=float(spread.centre(plans.seconds)[best]),
        routing_seconds=float(spread.centre(routing.seconds)[top]),
    )


def _headline(curves: Curves, policy: str, quotas: bool, spread: Spread) -> Headline:
    own = curves.rows[policy, quotas, "curve"]
    undefined = np.full(len(own.quality), np.nan)
    share = floor = gain = single_share = closed = reference_gain = reference_cost = corner = undefined
    smart, single, oracle, mix = (
        curves.find(name, quotas) for name in (BASELINE, BEST_SINGLE, ORACLE, MIX_POLICY)
    )
    if smart is not None:
        at = SMART_THRESHOLDS.index(SMART_THRESHOLD)
        their_quality, their_cost = smart.quality[:, at], smart.cost[:, at]
        equal = along(cost_at_quality, own, their_quality)
        share = equal / their_cost
        floor = (equal - curves.least_cost) / (their_cost - curves.least_cost)
        gain = along(quality_at_cost, own, their_cost) / their_quality - 1
        if (reference := curves.find(policy, quotas, "reference")) is not None:
            reference_gain = reference.quality[:, 0] - their_quality
            reference_cost = reference.cost[:, 0] / their_cost
    if single is not None:
        single_share = along(cost_at_quality, own, single.quality[:, 0]) / single.cost[:, 0]
        if oracle is not None:
            gap = oracle.quality.max(axis=1) - single.quality[:, 0]
            closed = (own.quality[:, _best_level(own, spread)] - single.quality[:, 0]) / gap
    far, near = (curves.find(policy, quotas, purpose) for purpose in ("unreachable", "near-best"))
    if far is not None and near is not None:
        corner = far.cost[:, 0] / near.cost[:, 0]
    over_mix = undefined[:, None] if mix is None else _over_mix(own, mix)
    errors, cost_errors = own.promise_error, own.promised_cost / own.cost - 1
    return Headline(
        policy=policy,
        quotas=quotas,
        cost_share=spread.figure(share),
        floor_share=spread.figure(floor),
        quality_gain=spread.figure(gain),
        single_cost_share=spread.figure(single_share),
        gap_closed=spread.figure(closed),
        worst_promise=spread.figure(errors[:, _furthest(spread.centre(errors))]),
        mean_promise=spread.figure(_mean(errors)),
        cost_error=spread.figure(cost_errors[:, _furthest(spread.centre(cost_errors))]),
        worst_over_mix=spread.figure(over_mix[:, _least(spread.centre(over_mix))]),
        mean_over_mix=spread.figure(_mean(over_mix)),
        reference_gain=spread.figure(reference_gain),
        reference_cost=spread.figure(reference_cost),
        corner=spread.figure(corner),
    )


def _over_mix(own: Curve, mix: Curve) -> FloatArray:
    """Quality less the mix's at equal costs from the mix's least to the dearest of both.

    Shape (draws, costs). The own curve is read as it is, not its best side: nobody knows that beforehand.
    """
    differences = []
    for quality, cost, their_quality, their_cost in zip(
        own.quality, own.cost, mix.quality, mix.cost, strict=True
    ):
        low, high = max(their_cost.min(), cost.min()), max(their_cost.max(), cost.max())
        # even steps of the logarithm, unless something is free
        costs = np.geomspace(low, high, MIX_COSTS) if low > 0 else np.linspace(low, high, MIX_COSTS)
        one, other = np.argsort(cost, kind="stable"), np.argsort(their_cost, kind="stable")
        differences.append(
            np.interp(costs, cost[one], quality[one])
            - np.interp(costs, their_cost[other], their_quality[other])
        )
    return np.array(differences)


def _best_level(curve: Curve, spread: Spread) -> int:
    return int(np.nanargmax(spread.centre(curve.quality)))


def _furthest(values: FloatArray) -> int:
    """Position of the value furthest from 0; 0 where none is known."""
    known = np.abs(np.where(np.isnan(values), 0.0, values))
    return int(known.argmax())


def _least(values: FloatArray) -> int:
    """Position of the least value; 0 where none is known."""
    return int(np.where(np.isnan(values), np.inf, values).argmin())


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the levels, NaN left out; shape (draws,)."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
