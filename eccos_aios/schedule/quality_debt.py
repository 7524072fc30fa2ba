"""QualityDebt: meets the quality target over time instead of in each round."""

from __future__ import annotations

import math
from dataclasses import dataclass

CREDIT_LIMIT = (
    20.0  # points; one point is a quality of 1 for one call. A limit of 3 cost up to 0.02 of quality
)
REPAID_PER_CALL = 0.15  # points; the most that a round's target rises above the user's to repay debt
SPENT_PER_CALL = 0.5  # points; the most that it falls below the user's to spend credit
BIAS_WEIGHT = 0.005  # of the latest feedback in the running mean of the predictor's error, at least
BIAS_PRIOR = 50  # grades without error that count beside the first ones
ROUNDING = 1e-9  # points
REMEMBERED = 3000  # events kept for corrections; the scheduler remembers 1,000 calls


@dataclass(slots=True)
class _Event:
    """A call sent (no quality), feedback, or a change by other kernels, and the sums before it."""

    predicted: float
    target: float
    quality: float | None
    points: float
    bias: float
    graded: int
    change: float = 0.0


class QualityDebt:
    """A virtual queue of the quality points by which past calls fell short of their targets.

    A round has to reach ``target * calls + owed``. So a small round may use the cheap core while past rounds
    exceeded the target, and has to deliver more after they fell short. This is the virtual queue of MESS+
    (Woisetschläger et al., arXiv 2505.19947), bounded both ways and settled gradually: a good stretch must
    not pay for very bad answers, nor the other way round.

    The quality that a call delivered is known only from feedback. Until then its prediction counts, less
    the mean error that feedback on other calls has shown. After a correction all sums are as though the
    corrected value had been given first: later events are recounted, at half a microsecond each. Values
    that are not finite are ignored, as a single NaN would stay in the sums for ever.

    Not thread-safe: the scheduler's lock guards it.
    """

    def __init__(self) -> None:
        self._points = 0.0
        self._bias = 0.0
        self._graded = 0  # calls with feedback
        self._known_elsewhere = 0.0  # the points of which other kernels know
        self._events: list[_Event] = []

    @property
    def points(self) -> float:
        """Debt (above 0) or credit (below 0)."""
        return self._points

    @property
    def bias(self) -> float:
        """Predicted less delivered quality, a running mean over feedback."""
        return self._bias

    def owed(self, calls: int) -> float:
        """Points that a round of so many calls has to deliver beyond its target."""
        settled = min(REPAID_PER_CALL * calls, max(-SPENT_PER_CALL * calls, self._points))
        return settled + self._bias * calls

    def sent(self, target: float, predicted: float) -> None:
        """Count a call sent to a core with the estimate `predicted`."""
        if math.isfinite(target + predicted):
            self._take(_Event(predicted, target, None, 0.0, 0.0, 0))

    def changed_elsewhere(self, points: float) -> None:
        """Count points that calls of other kernels have added or repaid, where kernels share one debt."""
        if points and math.isfinite(points):
            before = self._points
            self._take(_Event(0.0, 0.0, None, 0.0, 0.0, 0, points))
            self._known_elsewhere += self._points - before

    def take_change(self) -> float:
        """Points that this kernel's calls have added since this was last asked."""
        change = self._points - self._known_elsewhere
        if abs(change) < ROUNDING:  # else kernels would answer each other's rounding errors for ever
            return 0.0
        self._known_elsewhere = self._points
        return change

    def delivered(self, predicted: float, quality: float) -> None:
        """Count the first feedback on a call."""
        if math.isfinite(predicted + quality):
            self._take(_Event(predicted, 0.0, quality, 0.0, 0.0, 0))

    def corrected(self, before: float, quality: float, predicted: float | None = None) -> None:
        """Replace the feedback `before` on a call by `quality`.

        Parameters
        ----------
        before, quality : float
        predicted : float, optional
            As given to `delivered` with `before`; distinguishes calls with the same feedback. Default: the
            latest of them.
        """
        if before == quality or not math.isfinite(before + quality):
            return
        for place in range(len(self._events) - 1, -1, -1):
            event = self._events[place]
            if event.quality == before and predicted in (None, event.predicted):
                event.quality = quality
                self._count(place)
                return
        self._points = _bounded(self._points + before - quality)  # too old to be recounted

    def _take(self, event: _Event) -> None:
        if len(self._events) >= 2 * REMEMBERED:
            del self._events[:REMEMBERED]
        event.points, event.bias, event.graded = self._points, self._bias, self._graded
        self._events.append(event)
        self._count(len(self._events) - 1)

    def _count(self, first: int) -> None:
        """Recount the events from `first` on."""
        start = self._events[first]
        points, bias, graded = start.points, start.bias, start.graded
        for event in self._events[first:]:
            event.points, event.bias, event.graded = points, bias, graded
            if event.change:
                points += event.change
            elif event.quality is None:
                points += event.target - event.predicted + bias
            else:
                error = event.predicted - event.quality
                points += error - bias
                bias += max(BIAS_WEIGHT, 1 / (BIAS_PRIOR + graded)) * (error - bias)
                graded += 1
            if not -CREDIT_LIMIT <= points <= CREDIT_LIMIT:
                points = _bounded(points)
        self._points, self._bias, self._graded = points, bias, graded


def _bounded(points: float) -> float:
    return min(CREDIT_LIMIT, max(-CREDIT_LIMIT, points))
