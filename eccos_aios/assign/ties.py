"""What seconds count where they have no price: just enough to decide between cores that cost the same."""

from __future__ import annotations

from eccos_aios.assign.problem import FloatArray

TIE_BREAK = 1e-6  # share of the mean cost that the longest seconds weigh


def tie_break(cost: FloatArray, seconds: FloatArray) -> float:
    """US dollars a second; 0 where no time passes anywhere."""
    longest = float(seconds.max(initial=0.0))
    return TIE_BREAK * (float(cost.mean()) or 1.0) / longest if longest else 0.0
