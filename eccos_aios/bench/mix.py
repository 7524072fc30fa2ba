"""Mix: single cores mixed by their means, the floor that needs no estimate of any call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from eccos_aios.bench.fold import FloatArray, IntArray
from eccos_aios.bench.fold_estimates import FoldEstimates
from eccos_aios.bench.policy import Choice, Delivered, TargetPolicy


class Mix(TargetPolicy):
    """At each target two cores share the calls at random: the neighbours on the upper hull of the means.

    Means of quality and cost are those of the fold's history. What is delivered is the expectation over the
    random shares, so nothing is drawn. Where a record does not know one of the two cores, the other stands.
    """

    def promise_range(self, learned: FoldEstimates, quota: IntArray) -> tuple[float, float]:
        quality, _, hull = self._means(learned)
        return float(quality[hull[0]]), float(quality[hull[-1]])

    def at(self, learned: FoldEstimates, quota: IntArray, targets: Sequence[float]) -> Iterator[Choice]:
        """As in `TargetPolicy`; `quota` must not limit anything.

        Raises
        ------
        ValueError
            A quota is less than the number of calls.
        """
        truth = learned.fold.truth
        if (quota < len(truth.quality)).any():
            raise ValueError("mix: cannot be replayed with quotas")
        quality, cost, hull = self._means(learned)
        known = ~np.isnan(truth.quality)
        for target in targets:
            share = shares(quality, hull, target)
            weight = np.where(known, share, 0.0)
            total = weight.sum(axis=1, keepdims=True)
            weight = np.divide(weight, total, out=np.full_like(weight, np.nan), where=total > 0)
            placed = total[:, 0] > 0
            yield Choice(
                target,
                np.where(placed, np.where(known, share, -1.0).argmax(axis=1), -1),
                np.where(placed, float(share @ quality), np.nan),
                np.where(placed, float(share @ cost), np.nan),
                Delivered(
                    _expected(weight, truth.quality),
                    _expected(weight, truth.cost),
                    np.where(placed, 1.0, np.nan),
                    _expected(weight, truth.seconds),
                ),
            )

    @staticmethod
    def _means(learned: FoldEstimates) -> tuple[FloatArray, FloatArray, IntArray]:
        """Mean quality and cost per core, 0 of a core without records, and the cores on the hull."""
        past = learned.past
        known = ~np.isnan(past.quality)
        count = known.sum(axis=0)
        quality = np.where(known, past.quality, 0.0).sum(axis=0) / np.maximum(count, 1)
        cost = np.where(known, past.cost, 0.0).sum(axis=0) / np.maximum(count, 1)
        return quality, cost, upper_hull(quality, np.where(count > 0, cost, np.inf))


def upper_hull(quality: FloatArray, cost: FloatArray) -> IntArray:
    """Positions of the upper concave hull of quality over cost, from the cheapest to the best.

    Parameters
    ----------
    quality, cost : ndarray of shape (cores,)
        Infinite cost leaves a core out, unless all are left out.
    """
    hull: list[int] = []
    order = np.lexsort((-quality, cost))
    for core in [int(core) for core in order if np.isfinite(cost[core])] or [int(order[0])]:
        if hull and quality[core] <= quality[hull[-1]]:
            continue
        while len(hull) >= 2:
            one, other = hull[-2], hull[-1]
            by_other = (quality[other] - quality[one]) * (cost[core] - cost[one])
            direct = (quality[core] - quality[one]) * (cost[other] - cost[one])
            if by_other > direct:
                break
            hull.pop()
        hull.append(core)
    return np.array(hull, dtype=np.int64)


def shares(quality: FloatArray, hull: IntArray, target: float) -> FloatArray:
    """Share of the calls that each core gets so that the mean reaches a target, as far as it can."""
    share = np.zeros(len(quality))
    place = float(np.interp(target, quality[hull], np.arange(len(hull))))
    below = int(place)
    share[hull[below]] = 1.0 - (place - below)
    if place > below:
        share[hull[below + 1]] = place - below
    return share


def _expected(weight: FloatArray, values: FloatArray) -> FloatArray:
    """Weighted mean over the cores that have a weight, shape (calls,); NaN where one of them has no value."""
    return np.asarray(
        np.where(weight > 0, weight * values, np.where(np.isnan(weight), np.nan, 0.0)).sum(axis=1)
    )
