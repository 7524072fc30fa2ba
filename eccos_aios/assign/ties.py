"""What seconds count where they have no price: just enough to decide between cores that cost the same."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.problem import FloatArray

TIE_BREAK = 1e-6  # share of the mean cost that the longest seconds weigh


def tie_break(cost: FloatArray, seconds: FloatArray) -> float:
    """US dollars a second; 0 where no time passes anywhere."""
    if not seconds.size:
        return 0.0
    # `mean` and `max` do the same, more slowly
    longest, mean = (
        float(np.maximum.reduce(seconds, axis=None)),
        float(np.add.reduce(cost, axis=None)) / cost.size,
    )
    return TIE_BREAK * (mean or 1.0) / longest if longest else 0.0
