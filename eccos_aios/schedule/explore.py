"""Exploration: a small share of calls goes to cores that are not known well enough."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
