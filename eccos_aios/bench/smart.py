"""AIOS's SmartRouting, replayed: the rule as AIOS ships it, see `Lesson.neighbour_means`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from eccos_aios.bench.fold import IntArray
from eccos_aios.bench.lesson import Lesson
from eccos_aios.bench.policy import Choice, Policy, in_turn

THRESHOLD = 0.7  # AIOS's performance_requirement
THRESHOLDS = (0.5, 0.6, THRESHOLD, 0.8, 0.9)


class Smart(Policy):
    """The cheapest core whose neighbours' mean reaches the threshold, else the one of the best mean."""

    def choices(self, lesson: Lesson, quota: IntArray) -> Iterator[Choice]:
        quality, cost = lesson.neighbour_means
        cheapness = 2.0 - cost / max(float(cost.max(initial=0.0)), 1e-30)
        rows = np.arange(len(quality))
        for threshold in THRESHOLDS:
            scores = np.where(quality >= threshold, cheapness, quality - 1.0)
            core = in_turn(scores, quota, lesson.fold.allowed)
            yield Choice(threshold, core, quality[rows, core], cost[rows, core])


class KnnArgmax(Policy):
    """The core of the best neighbours' mean, whatever it costs."""

    def choices(self, lesson: Lesson, quota: IntArray) -> Iterator[Choice]:
        quality, cost = lesson.neighbour_means
        core = in_turn(quality, quota, lesson.fold.allowed)
        rows = np.arange(len(quality))
        yield Choice(float("nan"), core, quality[rows, core], cost[rows, core])
