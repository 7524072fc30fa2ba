"""QualityDebt: holds the quality target over time instead of in each round."""

from __future__ import annotations

import math
from dataclasses import dataclass

CREDIT_LIMIT = 20.0  # points; a point is the whole quality of one call. 3 lost up to 2 points in 100 to noise
REPAID_PER_CALL = 0.15  # points; how far a round's target rises above the user's to repay, at most
SPENT_PER_CALL = 0.5  # points; how far it falls below to spend credit, at most
BIAS_WEIGHT = 0.02  # of the newest feedback in the running mean of the predictor's error
REMEMBERED = 3000  # calls sent and feedback, for corrections; the scheduler remembers 1,000 calls


@dataclass(slots=True)
class _Event:
    """A call that was sent (no quality) or feedback, and what stood before it."""

    predicted: float
    target: float
    quality: float | None
    points: float
    bias: float


class QualityDebt:
    """A virtual queue of the quality points that past calls stayed behind their targets.

    A round has to reach ``target * calls + owed``, so a small round may take the cheap core while past
    rounds gave more than was asked, and has to give more when they gave less. This is the virtual queue of
    MESS+ (Woisetschläger et al., arXiv 2505.19947), bounded both ways, and settled little by little: a
    good stretch must not pay for very bad answers, nor the other way round.

    What a call delivers is known from feedback alone. Until then it counts as predicted, less the mean
    error that feedback on other calls has shown. Feedback that is corrected leaves everything as though the
    correction had been given in the first place: what came after it is counted once more, half a microsecond
    each. What is not finite is ignored: a single NaN would stay in the sums for ever.

    Not thread-safe: the scheduler's lock guards it.
    """

    def __init__(self) -> None:
        self._points = 0.0
        self._bias = 0.0
        self._events: list[_Event] = []

    @property
    def points(self) -> float:
        """Owed (above 0) or in credit (below 0)."""
        return self._points

    @property
    def bias(self) -> float:
        """Predicted less delivered quality, a running mean over feedback."""
        return self._bias

    def owed(self, calls: int) -> float:
        """Points that a round of so many calls has to give beyond its target."""
        settled = min(REPAID_PER_CALL * calls, max(-SPENT_PER_CALL * calls, self._points))
        return settled + self._bias * calls

    def sent(self, target: float, predicted: float) -> None:
        """A call was sent to a core that promises `predicted`."""
        if math.isfinite(target + predicted):
            self._take(_Event(predicted, target, None, 0.0, 0.0))

    def delivered(self, predicted: float, quality: float) -> None:
        """Feedback told the quality of a call that had been sent."""
        if math.isfinite(predicted + quality):
            self._take(_Event(predicted, 0.0, quality, 0.0, 0.0))

    def corrected(self, before: float, quality: float, predicted: float | None = None) -> None:
        """Feedback that had told `before` of a call now tells `quality`: what it said first is taken back.

        Parameters
        ----------
        before, quality : float
        predicted : float, optional
            What `delivered` was given with `before`; tells apart the calls of which the same was told.
            Default: the latest of them is meant.
        """
        if before == quality or not math.isfinite(before + quality):
            return
        for place in range(len(self._events) - 1, -1, -1):
            event = self._events[place]
            if event.quality == before and predicted in (None, event.predicted):
                event.quality = quality
                self._count(place)
                return
        self._points = _bounded(self._points + before - quality)  # its part in the mean error has faded

    def _take(self, event: _Event) -> None:
        if len(self._events) >= 2 * REMEMBERED:
            del self._events[:REMEMBERED]
        event.points, event.bias = self._points, self._bias
        self._events.append(event)
        self._count(len(self._events) - 1)

    def _count(self, first: int) -> None:
        """Count the events from one on, from what stood before it."""
        points, bias = self._events[first].points, self._events[first].bias
        for event in self._events[first:]:
            event.points, event.bias = points, bias
            if event.quality is None:
                points += event.target - event.predicted + bias
            else:
                error = event.predicted - event.quality
                points += error - bias
                bias += BIAS_WEIGHT * (error - bias)
            if not -CREDIT_LIMIT <= points <= CREDIT_LIMIT:
                points = _bounded(points)
        self._points, self._bias = points, bias


def _bounded(points: float) -> float:
    return min(CREDIT_LIMIT, max(-CREDIT_LIMIT, points))
