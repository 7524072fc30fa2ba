"""DriftDetector: a core that got better or worse than what was learned of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

HAZARD = 1 / 1000  # chance that a core changes between two of its outcomes
CHANGE_SPREAD = 0.5  # standard deviation of a change; to lose or win half of what one can is no rarity
LEAST_VARIANCE = 0.12  # of one outcome; estimates near 0 and 1 are less sure than they say
NEWCOMER = 0.01  # chance that what is guessed of a core that nobody knows is just right
MOST_CHANGES = 96  # that are held possible at once; the least likely are dropped
NEWEST_WEIGHT = 0.05  # of the newest outcome in what is typically predicted of the core
SUSPECTED = 0.2  # probability of a change from which on a fit should wait for certainty
NOTICED = 0.95  # probability of a change from which on it is logged
LEAST_CALLS = 10  # that speak for a change: a core of even chances fails as many once in 1 / HAZARD
LEAST_SHIFT = 0.1  # points of quality; what moved less is corrected, but no event


@dataclass(frozen=True)
class Drift:
    """A core that changed.

    Attributes
    ----------
    core : str
    shift : float
        Points of quality, 0 to 1, that it now gives beyond what was learned of it; below 0: worse.
    outcomes : int
        Outcomes since the change, as far as can be told.
    since : str or None
        Id of the first record after the change.
    lost, won : float
        Parts a and b of ``p + a p + b (1 - p)``, what is expected of it where p was learned.
    """

    core: str
    shift: float
    outcomes: int
    since: str | None
    lost: float
    won: float


class DriftDetector:
    """How far a core's outcomes lie from what is predicted, and since when.

    Bayesian online change-point detection (Adams & MacKay, arXiv 0710.3742) on the outcomes of one core:
    either nothing has changed, or the core changed at one of its outcomes. A core that got worse loses a
    part of what it had, so that p becomes ``p + c p``; one that got better wins a part of what it lacked,
    ``p + c (1 - p)``; c is normal with `CHANGE_SPREAD`. A change by the same points everywhere left a halved
    core too many of its easy calls. An outcome's variance is that of a right or wrong answer, ``p (1 - p)``.
    What is expected is the mean over all possibilities, so estimates follow before anybody is sure.

    Outcomes are those of different calls. A change that fewer than `LEAST_CALLS` of them speak for counts by
    as much less, and none is noticed before: three wrong answers in a row took a core of 0.92 down to 0.46
    for every call, four to 0.13, which whoever grades four calls could do at will.

    Measured on 60 cores each that halve their quality, predicted with a spread of 0.2 and off by 3 points:
    one of 0.95, 0.8 or 0.6 is noticed after 12, 13 and 25 outcomes in the median (11, 12 and 25 without
    `LEAST_CALLS`), within 50 in 100, 100 and 93 of 100; one of 0.4, which loses 0.2, after 59. In 500
    outcomes before, 8 of the 240 were noticed wrongly.

    Not thread-safe: whoever learns holds a lock.

    Parameters
    ----------
    is_new : bool
        Whether nothing was learned of the core: what is predicted of it is then a guess, and lies off from
        the start.
    """

    def __init__(self, *, is_new: bool = False) -> None:
        self._is_new = is_new
        self._typical: float | None = None  # mean of what was predicted
        # Possibility 0 is that nothing has changed; the others are changes, the oldest first.
        self._log_weight = np.zeros(1)
        self._worse = np.zeros(1, dtype=np.bool_)
        self._mean = np.zeros(1)
        self._variance = np.zeros(1)
        self._count = np.zeros(1, dtype=np.int64)
        self._guessed = np.ones(1, dtype=np.bool_)  # whether it stands from the start and not for a change
        self._since = np.full(1, None, dtype=object)  # id of the first call after it
        if is_new:
            self._suspect(1 - NEWCOMER, None)
            self._guessed[:] = True

    @property
    def change(self) -> tuple[float, float]:
        """Parts a and b of ``p + a p + b (1 - p)``, what is expected of the core where p was learned."""
        sure = np.where(self._guessed, 1.0, np.minimum(self._count / LEAST_CALLS, 1.0))
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
        """Outcomes since the likeliest change; 0 where the core more likely has not changed."""
        return int(self._count[self._likeliest]) if self._changed > 0.5 else 0

    @property
    def since(self) -> str | None:
        """Id of the first call after the likeliest change, where that call had one."""
        since: str | None = self._since[self._likeliest] if self._changed > 0.5 else None
        return since

    @property
    def suspected(self) -> bool:
        """Whether a core that was known may have changed."""
        return not self._is_new and self._changed >= SUSPECTED

    @property
    def noticed(self) -> bool:
        """Whether a core that was known has changed beyond doubt, and by more than a trifle.

        It takes `LEAST_CALLS` outcomes since the change, more likely than not.
        """
        if self._is_new or self._changed < NOTICED or abs(self.shift) < LEAST_SHIFT:
            return False
        return float(np.exp(self._log_weight[1:])[self._count[1:] >= LEAST_CALLS].sum()) >= 0.5

    @property
    def _changed(self) -> float:
        return float(1.0 - np.exp(self._log_weight[0]))

    @property
    def _likeliest(self) -> int:
        """The place of the likeliest change; there is one once an outcome was added."""
        return 1 + int(np.argmax(self._log_weight[1:]))

    def copy(self) -> DriftDetector:
        """Another one that has seen the same."""
        return copy.copy(self)  # its arrays are only ever replaced

    def add(self, predicted: float, quality: float, call: str | None = None) -> None:
        """Take the outcome of a call into account.

        Parameters
        ----------
        predicted, quality : float
            As it was learned, and as it came; 0 to 1.
        call : str, optional
            The call's id.
        """
        self._suspect(HAZARD, call)
        noise = max(predicted * (1.0 - predicted), LEAST_VARIANCE)
        room = np.where(self._worse, predicted, 1.0 - predicted)
        surprise = quality - predicted - room * self._mean
        spread = room**2 * self._variance + noise
        log_weight = self._log_weight - 0.5 * (surprise**2 / spread + np.log(spread))
        gain = room * self._variance / spread
        self._log_weight = log_weight - np.logaddexp.reduce(log_weight)
        self._mean = self._mean + gain * surprise
        self._variance = self._variance * (1.0 - gain * room)
        self._count = self._count + 1
        self._count[0] = 0
        self._prune()
        typical = predicted if self._typical is None else self._typical
        self._typical = typical + NEWEST_WEIGHT * (predicted - typical)

    def _suspect(self, chance: float, call: str | None) -> None:
        """Hold it possible that the core has just changed, for the worse or for the better."""
        both = np.full(2, np.log(chance / 2))
        self._log_weight = np.append(self._log_weight + np.log1p(-chance), both)
        self._worse = np.append(self._worse, [True, False])
        self._mean = np.append(self._mean, np.zeros(2))
        self._variance = np.append(self._variance, np.full(2, CHANGE_SPREAD**2))
        self._count = np.append(self._count, np.zeros(2, dtype=np.int64))
        self._guessed = np.append(self._guessed, np.zeros(2, dtype=np.bool_))
        self._since = np.append(self._since, np.full(2, call, dtype=object))

    def _prune(self) -> None:
        if len(self._log_weight) <= MOST_CHANGES + 1:
            return
        likely = np.sort(np.argsort(self._log_weight[1:])[-MOST_CHANGES:] + 1)
        kept = np.append(0, likely)
        self._log_weight = self._log_weight[kept] - np.logaddexp.reduce(self._log_weight[kept])
        self._worse, self._mean = self._worse[kept], self._mean[kept]
        self._variance, self._count = self._variance[kept], self._count[kept]
        self._guessed, self._since = self._guessed[kept], self._since[kept]
