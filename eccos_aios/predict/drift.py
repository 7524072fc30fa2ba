"""DriftDetector: has a core become better or worse than the fit expects?"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

HAZARD = 1 / 1000  # probability that a core changes between two of its outcomes
CHANGE_SPREAD = 0.5  # standard deviation of a change, as a part of what can be lost or gained
MIN_VARIANCE = 0.12  # of one outcome; estimates near 0 and 1 are less certain than they look
NEWCOMER = 0.01  # probability that the prior of an unknown core is right
MAX_CHANGES = 96  # hypotheses at once; the least likely are dropped
NEWEST_WEIGHT = 0.05  # of the newest outcome in the running mean of the predictions
SUSPECTED = 0.2  # probability of a change above which a fit waits for certainty
NOTICED = 0.95  # probability of a change above which it is logged
MIN_CALLS = 10  # that confirm a change: a core of quality 0.5 fails as many in a row once in 1 / HAZARD
MIN_SHIFT = 0.1  # points of quality; a smaller change is corrected for, but not logged


@dataclass(frozen=True)
class Drift:
    """A core that changed.

    Attributes
    ----------
    core : str
    shift : float
        Points of quality, 0 to 1, that it now delivers beyond what the fit expects; below 0: worse.
    outcomes : int
        Estimated number of outcomes since the change.
    since : str or None
        Id of the first record after the estimated change.
    lost, won : float
        Parts a and b of ``p + a p + b (1 - p)``, the quality expected where the fit says p.
    """

    core: str
    shift: float
    outcomes: int
    since: str | None
    lost: float
    won: float


class DriftDetector:
    """How far a core's outcomes deviate from the predictions, and since when.

    Bayesian online change-point detection (Adams & MacKay, arXiv 0710.3742) on the outcomes of one core:
    either nothing has changed, or the core changed at one of its outcomes. A core that became worse loses a
    part of its quality, so that p becomes ``p + c p``; one that became better gains a part of what it lacks,
    ``p + c (1 - p)``; c is normal with standard deviation `CHANGE_SPREAD`. An outcome's variance is that of
    a right or wrong answer, ``p (1 - p)``. The expected change is the mean over all hypotheses, so that
    estimates adapt before there is certainty.

    Each outcome belongs to another call. A change with fewer than `MIN_CALLS` outcomes counts
    proportionally less, and is not reported: otherwise anybody who grades four calls could disable a core.

    Not thread-safe: the caller holds a lock.

    Parameters
    ----------
    is_new : bool
        Whether the fit does not know the core, so that its predictions are a prior and off from the start.
    """

    def __init__(self, *, is_new: bool = False) -> None:
        self._is_new = is_new
        self._typical: float | None = None  # running mean of the predictions
        # hypothesis 0 is that nothing has changed; the others are changes, the oldest first
        self._log_weight = np.zeros(1)
        self._worse = np.zeros(1, dtype=np.bool_)
        self._mean = np.zeros(1)
        self._variance = np.zeros(1)
        self._count = np.zeros(1, dtype=np.int64)
        self._guessed = np.ones(1, dtype=np.bool_)  # whether it is about the prior and not about a change
        self._since = np.full(1, None, dtype=object)  # id of the first call after it
        if is_new:
            self._suspect(1 - NEWCOMER, None)
            self._guessed[:] = True

    @property
    def change(self) -> tuple[float, float]:
        """Parts a and b of ``p + a p + b (1 - p)``, the quality expected where the fit says p."""
        sure = np.where(self._guessed, 1.0, np.minimum(self._count / MIN_CALLS, 1.0))
        part = np.exp(self._log_weight) * self._mean * sure
        return float(part[self._worse].sum()), float(part[~self._worse].sum())

    @property
    def shift(self) -> float:
        """Expected change on a typical call, in points of quality; below 0: worse."""
        lost, won = self.change
        typical = 0.5 if self._typical is None else self._typical
        return lost * typical + won * (1.0 - typical)

    @property
    def outcomes_since(self) -> int:
        """Outcomes since the likeliest change; 0 if the core has more likely not changed."""
        return int(self._count[self._likeliest]) if self._changed > 0.5 else 0

    @property
    def since(self) -> str | None:
        """Id of the first call after the likeliest change, if that call has one."""
        since: str | None = self._since[self._likeliest] if self._changed > 0.5 else None
        return since

    @property
    def suspected(self) -> bool:
        """Whether a core that the fit knows may have changed."""
        return not self._is_new and self._changed >= SUSPECTED

    @property
    def noticed(self) -> bool:
        """Whether a core that the fit knows has certainly changed, and by at least `MIN_SHIFT`.

        The change must also, more likely than not, be `MIN_CALLS` outcomes old.
        """
        if self._is_new or self._changed < NOTICED or abs(self.shift) < MIN_SHIFT:
            return False
        return float(np.exp(self._log_weight[1:])[self._count[1:] >= MIN_CALLS].sum()) >= 0.5

    @property
    def _changed(self) -> float:
        return float(1.0 - np.exp(self._log_weight[0]))

    @property
    def _likeliest(self) -> int:
        """Index of the likeliest change; there is one after the first `add`."""
        return 1 + int(np.argmax(self._log_weight[1:]))

    def copy(self) -> DriftDetector:
        """An independent copy."""
        return copy.copy(self)  # its arrays are only ever replaced

    def add(self, predicted: float, quality: float, call: str | None = None) -> None:
        """Take the outcome of a call into account.

        Parameters
        ----------
        predicted, quality : float
            By the fit, and as graded; 0 to 1.
        call : str, optional
            The call's id.
        """
        self._suspect(HAZARD, call)
        noise = max(predicted * (1.0 - predicted), MIN_VARIANCE)
        range_ = np.where(self._worse, predicted, 1.0 - predicted)
        surprise = quality - predicted - range_ * self._mean
        spread = range_**2 * self._variance + noise
        log_weight = self._log_weight - 0.5 * (surprise**2 / spread + np.log(spread))
        gain = range_ * self._variance / spread
        self._log_weight = log_weight - np.logaddexp.reduce(log_weight)
        self._mean = self._mean + gain * surprise
        self._variance = self._variance * (1.0 - gain * range_)
        self._count = self._count + 1
        self._count[0] = 0
        self._prune()
        typical = predicted if self._typical is None else self._typical
        self._typical = typical + NEWEST_WEIGHT * (predicted - typical)

    def _suspect(self, chance: float, call: str | None) -> None:
        """Add the two hypotheses that the core has just become worse, or better."""
        both = np.full(2, np.log(chance / 2))
        self._log_weight = np.append(self._log_weight + np.log1p(-chance), both)
        self._worse = np.append(self._worse, [True, False])
        self._mean = np.append(self._mean, np.zeros(2))
        self._variance = np.append(self._variance, np.full(2, CHANGE_SPREAD**2))
        self._count = np.append(self._count, np.zeros(2, dtype=np.int64))
        self._guessed = np.append(self._guessed, np.zeros(2, dtype=np.bool_))
        self._since = np.append(self._since, np.full(2, call, dtype=object))

    def _prune(self) -> None:
        if len(self._log_weight) <= MAX_CHANGES + 1:
            return
        likely = np.sort(np.argsort(self._log_weight[1:])[-MAX_CHANGES:] + 1)
        rows = np.append(0, likely)
        self._log_weight = self._log_weight[rows] - np.logaddexp.reduce(self._log_weight[rows])
        self._worse, self._mean = self._worse[rows], self._mean[rows]
        self._variance, self._count = self._variance[rows], self._count[rows]
        self._guessed, self._since = self._guessed[rows], self._since[rows]
