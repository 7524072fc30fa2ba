"""The reference for replayed calls: estimates by predictors fitted on all other calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eccos_aios.assign import solve
from eccos_aios.bench.fold import FloatArray, IntArray, Truth, folds, recorded_truth
from eccos_aios.candidates import Candidates
from eccos_aios.core import Core
from eccos_aios.history import Record
from eccos_aios.predict import Estimates, HybridPredictor
from eccos_aios.schedule.quality_debt import QualityDebt

FOLDS = 5  # of the offline estimates
TARGET_STEPS = (0.3, 0.6, 0.9)  # between the quality of the cheapest core and the best that can be reached
CURVE_POINTS = 25  # targets at which the offline estimates are replayed


@dataclass(frozen=True)
class Replayed:
    """The calls in the order of the replay, with every core's outcomes; arrays of shape (calls, cores)."""

    records: list[Record]
    cores: tuple[Core, ...]
    truth: Truth
    offline: Estimates

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(core.name for core in self.cores)


@dataclass(frozen=True)
class OfflinePoint:
    """Quality per measured call, and mean cost, under the offline estimates at one target."""

    quality: FloatArray
    cost_usd: float


def replayed_of(records: list[Record], cores: Sequence[Core], seed: int) -> Replayed:
    """The calls with estimates by predictors fitted on all other queries."""
    truth = recorded_truth(records, cores)
    parts = []
    rows = []
    for fold in folds(records, cores, FOLDS, seed):
        parts.append(HybridPredictor().fit(fold.history).predict(fold.calls, fold.names))
        rows.append(fold.rows)
    back = np.argsort(np.concatenate(rows))
    quality, input_tokens, output_tokens, support = (
        np.concatenate([getattr(part, name) for part in parts])[back]
        for name in ("quality", "input_tokens", "output_tokens", "support")
    )
    return Replayed(records, tuple(cores), truth, Estimates(quality, input_tokens, output_tokens, support))


def targets_between(replayed: Replayed, window: IntArray) -> list[float]:
    """Targets from the quality of the cheapest core to the best that the offline estimates can reach."""
    quality, cost = replayed.truth.quality[window], replayed.truth.cost[window]
    cheapest = float(np.nanmean(quality[:, np.nanmean(cost, axis=0).argmin()]))
    predicted = np.where(np.isnan(quality), -1.0, replayed.offline.quality[window])
    best = float(quality[np.arange(len(window)), predicted.argmax(axis=1)].mean())
    return [cheapest + step * (best - cheapest) for step in TARGET_STEPS]


def offline_curve(replayed: Replayed, window: IntArray, round_size: int) -> list[OfflinePoint]:
    """The Pareto front of quality and cost under the offline estimates with the same quality debt."""
    quality = replayed.offline.quality
    least, most = (float(part.mean()) for part in (quality[window].min(axis=1), quality[window].max(axis=1)))
    points = []
    for target in np.linspace(least, most, CURVE_POINTS).tolist():
        chosen = offline_choice(replayed, quality, window, target, round_size)
        cost = replayed.truth.cost[window, chosen]
        points.append(OfflinePoint(replayed.truth.quality[window, chosen], float(cost.mean())))
    best: list[OfflinePoint] = []
    for point in sorted(points, key=lambda point: (point.cost_usd, -point.quality.mean())):
        if not best or point.quality.mean() > best[-1].quality.mean():
            best.append(point)
    return best


def offline_choice(
    replayed: Replayed, quality: FloatArray, window: IntArray, target: float, round_size: int
) -> IntArray:
    """The core of each call of a window under estimates that do not learn, shape (calls,)."""
    debt = QualityDebt()
    cost, known = replayed.offline.cost(replayed.cores), ~np.isnan(replayed.truth.quality)
    chosen = []
    for start in range(0, len(window), round_size):
        rows = window[start : start + round_size]
        candidates = Candidates(quality[rows], cost[rows], known[rows])
        problem = candidates.problem(target, target_deficit=debt.owed(len(rows)))
        for row, column in zip(rows.tolist(), solve(problem).core.tolist(), strict=True):
            debt.sent(target, quality[row, column])
            debt.delivered(quality[row, column], float(replayed.truth.quality[row, column]))
            chosen.append(column)
    return np.array(chosen, dtype=np.int64)


def at_cost(curve: Sequence[OfflinePoint], cost_usd: float) -> FloatArray:
    """Quality of each measured call at a mean cost, interpolated between two points."""
    costs = [point.cost_usd for point in curve]
    above = min(int(np.searchsorted(costs, cost_usd)), len(curve) - 1)
    low, high = curve[max(above - 1, 0)], curve[above]
    span = high.cost_usd - low.cost_usd
    part = float(np.clip((cost_usd - low.cost_usd) / span, 0.0, 1.0)) if span > 0 else 1.0
    return (1 - part) * low.quality + part * high.quality
