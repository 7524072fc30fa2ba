"""Histogram: how often a duration fell into which bucket."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, float("inf"))


class Histogram:
    """Counts of durations in seconds. Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        self._counts = [0] * len(BOUNDS_S)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """For each bound, in Prometheus's spelling, how many durations did not exceed it."""
        total, buckets = 0, []
        for bound, count in zip(BOUNDS_S, self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets
