"""Curves: the means of every policy over the records, and over resamples of them or over splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eccos_aios.bench.fold import FloatArray
from eccos_aios.bench.policy import Purpose
from eccos_aios.bench.replay import PolicyOutcome, Replay

RESAMPLES = 1000  # of the bootstrap

Row = tuple[str, bool, Purpose]  # policy, with quotas, purpose


@dataclass(frozen=True)
class Curve:
    """One policy: the means at each of its levels; arrays have shape (draws, levels).

    A draw is the sample, a resample of it, or a split.

    Attributes
    ----------
    level, placed : ndarray
        Target or threshold, NaN where there is none; share of the calls that were assigned a core.
    quality, cost, promised_quality, promised_cost, asked, seconds : ndarray
        Means over the placed calls, as in `PolicyOutcome`.
    per_core : ndarray of shape (draws, levels, cores)
        Calls on each core; with plans, calls whose plan asks it first.
    """

    level: FloatArray
    placed: FloatArray
    quality: FloatArray
    cost: FloatArray
    promised_quality: FloatArray
    promised_cost: FloatArray
    asked: FloatArray
    seconds: FloatArray
    per_core: FloatArray

    @property
    def promise_error(self) -> FloatArray:
        """Promised less delivered quality."""
        return self.promised_quality - self.quality


@dataclass(frozen=True)
class Curves:
    """The curves of a replay, or of several that were stacked.

    Attributes
    ----------
    rows : dict
    best_single, oracle, least_cost : ndarray of shape (draws,)
        As in `Replay`, the last as a mean over the records.
    """

    rows: dict[Row, Curve]
    best_single: FloatArray
    oracle: FloatArray
    least_cost: FloatArray

    def find(self, policy: str, quotas: bool = False, purpose: Purpose = "curve") -> Curve | None:
        """A policy's curve; None where it was not replayed."""
        return self.rows.get((policy, quotas, purpose))


def curves_of(replay: Replay, resamples: int = RESAMPLES, seed: int = 0) -> Curves:
    """Means over the records of a replay, the first draw, and over resamples of them.

    The resamples are the same for all policies, so that differences between them are paired.
    """
    records = len(replay.outcomes[0].core)
    drawn = np.random.default_rng(seed).multinomial(records, np.full(records, 1 / records), size=resamples)
    weights = np.vstack([np.ones(records), drawn])
    rows: dict[Row, list[PolicyOutcome]] = {}
    for outcome in sorted(replay.outcomes, key=lambda outcome: outcome.step):
        rows.setdefault((outcome.policy, outcome.quotas, outcome.purpose), []).append(outcome)
    order = dict.fromkeys((each.policy, each.quotas, each.purpose) for each in replay.outcomes)
    draws = len(weights)
    return Curves(
        {row: _curve(rows[row], weights, replay) for row in order},
        np.full(draws, replay.best_single),
        np.full(draws, replay.oracle),
        means(weights, [replay.least_cost])[:, 0],
    )


def stacked(parts: Sequence[Curves]) -> Curves:
    """The curves of several replays of the same policies as draws of one."""
    rows = {
        row: Curve(*(np.concatenate([getattr(part.rows[row], name) for part in parts]) for name in FIELDS))
        for row in parts[0].rows
    }
    whole = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("best_single", "oracle", "least_cost")
    )
    return Curves(rows, *whole)


FIELDS = tuple(Curve.__dataclass_fields__)


def means(weights: FloatArray, rows: Sequence[FloatArray]) -> FloatArray:
    """Weighted means of arrays of shape (records,), NaN left out; shape (draws, rows)."""
    values = np.array(rows)
    known = ~np.isnan(values)
    total = weights @ np.where(known, values, 0.0).T
    count = weights @ known.T.astype(np.float64)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _curve(outcomes: Sequence[PolicyOutcome], weights: FloatArray, replay: Replay) -> Curve:
    draws, cores = len(weights), len(replay.cores)
    count = np.array([np.bincount(row.core[row.core >= 0], minlength=cores) for row in outcomes], np.float64)
    return Curve(
        level=np.tile([row.level for row in outcomes], (draws, 1)),
        placed=np.tile(count.sum(axis=1) / max(replay.records, 1), (draws, 1)),
        quality=means(weights, [row.quality for row in outcomes]),
        cost=means(weights, [row.cost for row in outcomes]),
        promised_quality=means(weights, [row.promised_quality for row in outcomes]),
        promised_cost=means(weights, [row.promised_cost for row in outcomes]),
        asked=means(weights, [row.asked for row in outcomes]),
        seconds=means(weights, [row.seconds for row in outcomes]),
        per_core=np.tile(count, (draws, 1, 1)),
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


def quality_if_spent(quality: FloatArray, cost: FloatArray, spent: float) -> float:
    """Quality where a policy spends just that much, its last beyond its end; NaN where everything costs more.

    Less money may have bought more, but nobody knows that beforehand.
    """
    order = np.lexsort((quality, cost))
    if spent < cost[order[0]]:
        return float("nan")
    return float(np.interp(spent, cost[order], quality[order]))


def along(
    read: Callable[[FloatArray, FloatArray, float], float], curve: Curve, given: FloatArray
) -> FloatArray:
    """One of the three above in every draw, shape (draws,)."""
    return np.array([read(*row) for row in zip(curve.quality, curve.cost, given, strict=True)])
