"""Exploration: the pass that sends a small share of calls to cores of which little is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eccos_aios.reasons import EXPLORED
from eccos_aios.schedule.plan import Plan
from eccos_aios.schedule.round_batch import RoundBatch, estimates_of

OUTCOME_SPREAD = 0.5  # standard deviation of a right or wrong answer at most, in points of quality

FloatArray = NDArray[np.float64]


class Exploration:
    """Thompson sampling (Thompson, 1933) for at most a share of the calls; a pass.

    For a call that explores, every core's quality is drawn from a normal distribution around its estimate
    with deviation ``OUTCOME_SPREAD / sqrt(1 + support)``; the call goes to the cheapest core that reaches its
    target in the draw, or to the best. A core with much support is drawn near its estimate, so exploration
    ends where nothing is left to learn.

    Not thread-safe: the thread of the rounds alone uses it.

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

    def __call__(self, batch: RoundBatch, plan: Plan) -> Plan:
        """Move some of the calls that are sent now to another core with a free slot."""
        if not self.share:
            return plan
        left = batch.capacity.free - plan.load(len(batch.capacity.free))
        moves: dict[int, int] = {}
        for row, sent in enumerate(plan.is_sent(batch.capacity.free)):
            if not sent:
                continue
            call, planned = batch.calls[row], int(plan.columns[row])
            estimates = estimates_of(call)
            open_to = estimates.allowed & (left > 0)
            open_to[planned] = True
            target = batch.target.of(call)
            column = self.choose(estimates.quality, estimates.cost, estimates.support, open_to, target)
            if column is not None and column != planned:
                moves[row] = column
                left[[planned, column]] += [1, -1]
        return plan.moved(moves, EXPLORED)
