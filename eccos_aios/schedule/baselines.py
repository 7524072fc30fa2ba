"""Baselines: what the calls would have cost, and how good they would have been, at a single core."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Baselines:
    """Sums of every core's estimates over the decided calls. Not thread-safe: the scheduler's lock guards it.

    All figures are estimates, made before each call was sent. A core that was added later is compared by its
    mean over the calls that it had estimates for.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, float, float]] = {}  # calls, quality and cost by core
        self._decided = 0

    def add(self, estimates: Mapping[str, Mapping[str, float]]) -> None:
        """Add the estimates, ``quality`` and ``cost`` by core, of one decided call."""
        self._decided += 1
        for core, estimate in estimates.items():
            quality, cost = estimate["quality"], estimate["cost"]
            if math.isfinite(quality) and math.isfinite(cost):
                calls, qualities, costs = self._sums.get(core, (0, 0.0, 0.0))
                self._sums[core] = calls + 1, qualities + quality, costs + cost

    def status(self) -> dict[str, dict[str, Any]]:
        """The best and the cheapest single core; empty before the first decision.

        Returns
        -------
        dict
            ``best`` and ``cheapest``, each with the ``core``, the mean ``predicted_quality`` there, and the
            ``cost_usd`` of all decided calls there.
        """
        means = {
            core: (qualities / calls, costs / calls) for core, (calls, qualities, costs) in self._sums.items()
        }
        if not means:
            return {}
        best = max(means, key=lambda core: (means[core][0], -means[core][1]))
        cheapest = min(means, key=lambda core: (means[core][1], -means[core][0]))
        return {
            name: {
                "core": core,
                "predicted_quality": round(means[core][0], 6),
                "cost_usd": round(means[core][1] * self._decided, 9),
            }
            for name, core in (("best", best), ("cheapest", cheapest))
        }
