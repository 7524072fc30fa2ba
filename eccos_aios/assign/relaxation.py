"""The linear relaxation of a small instance, exactly: assignment problems along the price of gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eccos_aios.assign.instance import Instance, Point, point
from eccos_aios.assign.problem import FloatArray, IntArray

MOST_STEPS = 40


@dataclass(frozen=True)
class Steps:
    """Factors on the first price: to try where it met the requirement, and where it did not."""

    down: tuple[float, ...]
    up: tuple[float, ...]


EVERYWHERE = Steps((0.8, 0.4, 0.0), (1.25, 2.5, 10.0))  # and in the end nothing but gain
NEARBY = Steps((0.998, 0.99, 0.96), (1.002, 1.01, 1.04))


@dataclass(frozen=True, eq=False)
class Bracket:
    """The two integer solutions between which the relaxation lies, and the price of gain that ties them.

    Attributes
    ----------
    short : Point or None
        Best at `price` and short of the requirement; None where that was met at every price tried.
    meets : Point or None
        Best at `price` and meeting the requirement; None where that was not met at any price tried. If
        all were, it is out of reach, and `short` has the most gain.
    price : float
        Infinite where the requirement is out of reach.
    """

    short: Point | None
    meets: Point | None
    price: float


class SlotExpansion:
    """An instance with a column per slot, where SciPy's shortest augmenting paths solve it at any price.

    For fixed prices of gain the polytope is that of a transportation problem, whose corners are whole, so
    the relaxation's optimum is the maximum over the price.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        calls = len(instance.value)
        wanted = np.isfinite(instance.value).sum(axis=0)
        # A core with slots for every call that may go there is no constraint: each call has a column of its
        # own for the best of these cores; the others have a column per slot.
        self.free = np.flatnonzero(instance.quota >= wanted)
        bound = np.flatnonzero(instance.quota < wanted)
        self.column_core = np.repeat(bound, instance.quota[bound])
        own = calls if self.free.size else 0
        self.columns = np.full((calls, own + len(self.column_core)), np.inf)

    def at(self, price: float) -> Point:
        """The best assignment where a point of gain is worth `price`."""
        value = self.instance.value
        return self._solved(value - price * self.instance.gain if price else value)

    def _solved(self, priced: FloatArray) -> Point:
        calls = len(priced)
        rows = np.arange(calls)
        if self.free.size:
            best = self.free[priced[:, self.free].argmin(axis=1)]
            if not self.column_core.size:
                return point(self.instance, best)
            self.columns[rows, rows] = priced[rows, best]
            self.columns[:, calls:] = priced[:, self.column_core]
            slot = _columns_of_least_sum(self.columns)
            own = slot < calls
            slot -= calls
            slot[own] = 0
            return point(self.instance, np.where(own, best, self.column_core[slot]))
        return point(self.instance, self.column_core[_columns_of_least_sum(priced[:, self.column_core])])

    def most_gain(self) -> Point:
        """The most gain; of those, about the least value."""
        value, gain = self.instance.value, self.instance.gain
        found = self._solved(self.instance.tie_weight() * value - gain)
        if found.gain >= self.instance.required:
            return found
        pure = self._solved(np.where(np.isfinite(value), -gain, np.inf))
        return pure if pure.gain > found.gain + 1e-12 * max(1.0, abs(found.gain)) else found


def _columns_of_least_sum(cost: FloatArray) -> IntArray:
    """The column of each row, no column twice."""
    from scipy.optimize import linear_sum_assignment  # takes long to import, and few calls need it

    columns: IntArray = linear_sum_assignment(cost)[1]
    return columns


def bracket(expanded: SlotExpansion, first_price: float = 0.0, steps: Steps = EVERYWHERE) -> Bracket:
    """Where the relaxation lies, by secants on the concave dual of the price of gain.

    Parameters
    ----------
    expanded : SlotExpansion
    first_price : float
        A guess.
    steps : Steps
        How far from the guess to look. Where the requirement is met, or short, as far as that, one end of
        the bracket is missing and the price is the last that was tried.
    """
    required = expanded.instance.required
    short, meets, price = _ends(expanded, required, first_price, steps)
    if short is None or meets is None:
        return Bracket(short, meets, price)
    for _ in range(MOST_STEPS):
        if meets.gain - short.gain <= 1e-14 * max(1.0, abs(meets.gain)):
            break
        price = max(0.0, (meets.value - short.value) / (meets.gain - short.gain))
        found = expanded.at(price)
        height = meets.value - price * meets.gain
        if found.value - price * found.gain >= height - 1e-12 * max(abs(height), abs(meets.value)):
            break
        if found.gain >= required:
            meets = found
        else:
            short = found
    return Bracket(short, meets, price)


def _ends(
    expanded: SlotExpansion, required: float, first_price: float, steps: Steps
) -> tuple[Point | None, Point | None, float]:
    price, found = first_price, expanded.at(first_price)
    if found.gain >= required:
        meets = found
        for factor in steps.down if first_price else ():
            price = factor * first_price
            found = expanded.at(price)
            if found.gain < required:
                return found, meets, price
            meets = found
        return None, meets, price
    short = found
    for factor in steps.up if first_price else ():
        price = factor * first_price
        found = expanded.at(price)
        if found.gain >= required:
            return short, found, price
        short = found
    if steps is EVERYWHERE:
        price, found = np.inf, expanded.most_gain()
        if found.gain >= required:
            return short, found, price
    return found, None, price
