"""Exploration: a small share of calls goes to cores that are not known well enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from eccos_aios.schedule.call import Call
from eccos_aios.schedule.plan import Placement

OUTCOME_SPREAD = 0.5  # standard deviation of a right or wrong answer at most, in points of quality

FloatArray = NDArray[np.float64]


class Exploration:
    """Thompson sampling (Thompson, 1933) for at most a share of the calls.

    For a call that explores, every core's quality is drawn from a normal distribution around its estimate
    with deviation ``OUTCOME_SPREAD / sqrt(1 + support)``; the call goes to the cheapest core that reaches its
    target in the draw, or to the best. Cores of which much is known are drawn near their estimates, so that
    exploring ends by itself where nothing is left to learn.

    Not thread-safe: the rounds' thread alone uses it.

    Parameters
    ----------
    share : float
        Of the calls, 0 to 1; 0: none.
    seed : int, optional
    """

    def __init__(self, share: float, seed: int | None = None) -> None:
        self.share = share
        self._random = np.random.default_rng(seed)

    def choose(
        self,
        quality: FloatArray,
        cost: FloatArray,
        support: FloatArray,
        allowed: NDArray[np.bool_],
        target: float,
    ) -> int | None:
        """The column that a call explores, every array of shape (cores,); None: it goes as planned."""
        if not allowed.any() or self._random.random() >= self.share:
            return None
        drawn = self._random.normal(quality, OUTCOME_SPREAD / np.sqrt(1.0 + support))
        drawn = np.where(allowed, drawn, -np.inf)
        reached = np.flatnonzero(drawn >= target)
        return int(reached[np.argmin(cost[reached])] if reached.size else np.argmax(drawn))

    def redirected(
        self, placements: Sequence[Placement], free: NDArray[np.int64], target_of: Callable[[Call], float]
    ) -> list[Placement]:
        """What a round decided, some of it to cores with a slot left that are worth a try.

        Parameters
        ----------
        placements : sequence of Placement
        free : ndarray of shape (cores,)
            Slots before the round.
        target_of : callable
            A call's quality target.
        """
        if not self.share:
            return list(placements)
        left = free - np.bincount([placed.column for placed in placements], minlength=len(free))
        redirected = []
        for placed in placements:
            row = placed.call.row
            column = None
            if row is not None:
                open_to = row.allowed & (left > 0)
                open_to[placed.column] = True
                target = target_of(placed.call)
                column = self.choose(row.quality, row.cost, row.support, open_to, target)
            if column is not None and column != placed.column:
                left[[placed.column, column]] += [1, -1]
                placed = Placement(placed.call, column, "explored")
            redirected.append(placed)
        return redirected
