"""Frontier: the least mean cost of each mean quality, where no core's slots are short."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from eccos_aios.assign.problem import FloatArray, IntArray

LEAST_GAIN = 1e-9  # of quality; less is no step up
SAME_VALUE = 1e-9  # relative


@dataclass(frozen=True, eq=False)
class Frontier:
    """The steps by which calls that begin at their cheapest options reach more quality, the cheapest first.

    The linear relaxation of stage 2 without quotas is a multiple-choice knapsack, whose optimum takes each
    call's upper hull of quality over cost, and the steps of all hulls by their price (Sinha & Zoltners,
    Oper. Res. 27(3), 1979).

    Attributes
    ----------
    price : ndarray of shape (steps,)
        US dollars per point of quality, ascending.
    quality, cost : ndarray of shape (steps + 1,)
        Means over the calls, first of the cheapest options, then after each step.
    """

    price: FloatArray
    quality: FloatArray
    cost: FloatArray

    @classmethod
    def of(cls, quality: FloatArray, cost: FloatArray) -> Frontier:
        """The frontier of calls by their options.

        Parameters
        ----------
        quality, cost : ndarray of shape (calls, options)
            At least one call. `cost` is infinite where a call may not have an option; each has one.
        """
        calls = len(quality)
        gained, spent, at_price = [], [], []
        # The best of the cheapest; from there, again and again the option to which quality costs least.
        _, at = best_at(quality, cost, np.zeros(calls))
        rows = np.arange(calls)
        here_quality, here_cost = quality[rows, at], cost[rows, at]
        first = float(here_quality.mean()), float(here_cost.mean())
        while quality.size:
            more = quality - here_quality[:, None]
            above = more > LEAST_GAIN
            with np.errstate(divide="ignore", invalid="ignore"):
                each = np.where(above, (cost - here_cost[:, None]) / more, np.inf)
            # Of options on one line the last, which is a single step.
            least = each.min(axis=1)
            at = np.where(each <= least[:, None], quality, -np.inf).argmax(axis=1)
            goes_on = np.flatnonzero(np.isfinite(least))
            at, quality, cost = at[goes_on], quality[goes_on], cost[goes_on]
            rows = np.arange(len(goes_on))
            next_quality, next_cost = quality[rows, at], cost[rows, at]
            gained.append(next_quality - here_quality[goes_on])
            spent.append(next_cost - here_cost[goes_on])
            at_price.append(least[goes_on])
            here_quality, here_cost = next_quality, next_cost
        price = np.concatenate(at_price) if at_price else np.empty(0)
        order = np.argsort(price, kind="stable")
        return cls(
            price[order],
            _means(first[0], gained, order, calls),
            _means(first[1], spent, order, calls),
        )

    @property
    def most(self) -> float:
        """The best mean quality at any cost."""
        return float(self.quality[-1])

    def price_of(self, quality: FloatArray) -> FloatArray:
        """The least prices, in US dollars per point, at which the calls reach these means, or the best.

        At a price each call gets the option of least cost - price * quality, of equal ones the best.
        """
        step = np.searchsorted(self.quality, quality - LEAST_GAIN)
        free = np.concatenate([np.zeros(1), self.price])
        prices: FloatArray = free[np.minimum(step, len(self.price))]
        return prices

    def price_of_one(self, quality: float) -> float:
        """The same for one mean, in fewer steps."""
        step = min(bisect_left(self.quality, quality - LEAST_GAIN), len(self.price))
        return float(self.price[step - 1]) if step else 0.0


def best_at(quality: FloatArray, cost: FloatArray, price: FloatArray) -> tuple[IntArray, IntArray]:
    """The best option of each call at its price of quality; of equal ones, the least and the most quality.

    Parameters
    ----------
    quality, cost : ndarray of shape (calls, options)
        `cost` is infinite where a call may not have an option.
    price : ndarray of shape (calls,)
        US dollars per point of quality.
    """
    value = cost - price[:, None] * quality
    least = value.min(axis=1, keepdims=True)
    same = value <= least + SAME_VALUE * np.abs(least)
    lower: IntArray = np.where(same, quality, np.inf).argmin(axis=1)
    upper: IntArray = np.where(same, quality, -np.inf).argmax(axis=1)
    return lower, upper


def _means(first: float, steps: list[FloatArray], order: IntArray, calls: int) -> FloatArray:
    taken = np.concatenate(steps)[order] if steps else np.empty(0)
    means: FloatArray = first + np.concatenate([np.zeros(1), np.cumsum(taken)]) / calls
    return means
