"""QualityDebt: holds the quality target over time instead of in each round."""

from __future__ import annotations

CREDIT_LIMIT = 20.0  # points; a point is the whole quality of one call. 3 lost up to 2 points in 100 to noise
REPAID_PER_CALL = 0.15  # points; how far a round's target rises above the user's to repay, at most
SPENT_PER_CALL = 0.5  # points; how far it falls below to spend credit, at most
BIAS_WEIGHT = 0.02  # of the newest feedback in the running mean of the predictor's error


class QualityDebt:
    """A virtual queue of the quality points that past calls stayed behind their targets.

    A round has to reach ``target * calls + owed``, so a small round may take the cheap core while past
    rounds gave more than was asked, and has to give more when they gave less. This is the virtual queue of
    MESS+ (Woisetschläger et al., arXiv 2505.19947), bounded both ways, and settled little by little: a
    good stretch must not pay for very bad answers, nor the other way round.

    What a call delivers is known from feedback alone. Until then it counts as predicted, less the mean
    error that feedback on other calls has shown.

    Not thread-safe: the scheduler's lock guards it.
    """

    def __init__(self) -> None:
        self._points = 0.0
        self._bias = 0.0

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
        self._add(target - (predicted - self._bias))

    def delivered(self, predicted: float, quality: float) -> None:
        """Feedback told the quality of a call that had been sent."""
        self._add(predicted - self._bias - quality)
        self._bias += BIAS_WEIGHT * (predicted - quality - self._bias)

    def corrected(self, before: float, quality: float) -> None:
        """Feedback that had told `before` of a call now tells `quality`: what it said first is taken back."""
        self._add(before - quality)
        self._bias += BIAS_WEIGHT * (before - quality)

    def _add(self, points: float) -> None:
        self._points = min(CREDIT_LIMIT, max(-CREDIT_LIMIT, self._points + points))
