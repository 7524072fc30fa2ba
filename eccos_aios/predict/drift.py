"""DriftDetector: a core that got better or worse than what was learned of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Record

FloatArray = NDArray[np.float64]

HAZARD = 1 / 1000  # chance that a core changes between two of its outcomes
SHIFT_SPREAD = 0.25  # standard deviation of a change of quality, in points of 1
LEAST_VARIANCE = 0.12  # of one outcome; estimates near 0 and 1 are less sure than they say
NEWCOMER = 0.01  # chance that what is guessed of a core that nobody knows is just right
MOST_RUNS = 64  # changes that are held possible at once; the least likely are dropped
NOTICED = 0.95  # probability of a change from which on it is told of
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
    """

    core: str
    shift: float
    outcomes: int
    since: str | None


class DriftDetector:
    """How far a core's outcomes lie from what is predicted, and since when.

    Bayesian online change-point detection (Adams & MacKay, arXiv 0710.3742) on the residuals of one core:
    either nothing has changed and they are 0 in the mean, or the core changed at one of its outcomes, by an
    amount that is normal with `SHIFT_SPREAD`. A residual's variance is that of a right or wrong answer,
    ``p (1 - p)``. The shift is the mean over all these possibilities, so estimates follow before anybody
    is sure.

    Measured on cores that halve their quality, 60 each: a core of 0.6, 0.8 or 0.95 is noticed after 27, 15
    and 10 outcomes in the median, within 50 in 88, 100 and 100 of 100; one of 0.4, which loses 0.2, after 61.
    In 500 outcomes before, 3 of 240 cores were suspected wrongly.

    Not thread-safe: whoever learns holds a lock.

    Parameters
    ----------
    is_new : bool
        Whether nothing was learned of the core: what is predicted of it is then a guess, and lies off from
        the start.
    """

    def __init__(self, *, is_new: bool = False) -> None:
        self._is_new = is_new
        # Possibility 0 is that nothing has changed; the others are changes, the oldest first.
        self._log_weight = np.log([NEWCOMER, 1 - NEWCOMER]) if is_new else np.zeros(1)
        self._mean = np.zeros(len(self._log_weight))
        self._variance = np.array([0.0, SHIFT_SPREAD**2])[: len(self._log_weight)]
        self._count = np.zeros(len(self._log_weight), dtype=np.int64)

    @property
    def shift(self) -> float:
        """Expected residual of the next outcome, in points of quality."""
        return float(np.exp(self._log_weight) @ self._mean)

    @property
    def changed(self) -> float:
        """Probability that the core has changed."""
        return float(1.0 - np.exp(self._log_weight[0]))

    @property
    def outcomes_since(self) -> int:
        """Outcomes since the likeliest change; 0 where the core most likely has not changed."""
        return int(self._count[int(np.argmax(self._log_weight))])

    @property
    def noticed(self) -> bool:
        """Whether a core that was known has changed beyond doubt, and by more than a trifle."""
        return not self._is_new and self.changed >= NOTICED and abs(self.shift) >= LEAST_SHIFT

    def add(self, predicted: float, quality: float) -> None:
        """Take an outcome into account; `predicted` without the shift, both 0 to 1."""
        residual = quality - predicted
        noise = max(predicted * (1.0 - predicted), LEAST_VARIANCE)
        # a change right before this outcome, from any of the states so far
        log_weight = np.append(self._log_weight + np.log1p(-HAZARD), np.log(HAZARD))
        mean = np.append(self._mean, 0.0)
        variance = np.append(self._variance, SHIFT_SPREAD**2)
        spread = variance + noise
        log_weight -= 0.5 * ((residual - mean) ** 2 / spread + np.log(spread))
        gain = variance / spread
        self._log_weight = log_weight - np.logaddexp.reduce(log_weight)
        self._mean = mean + gain * (residual - mean)
        self._variance = variance * (1.0 - gain)
        self._count = np.append(self._count, 0) + 1
        self._count[0] = 0
        self._prune()

    def _prune(self) -> None:
        if len(self._log_weight) <= MOST_RUNS + 1:
            return
        kept = np.sort(np.append(np.argsort(self._log_weight[1:])[-MOST_RUNS:] + 1, 0))
        self._log_weight = self._log_weight[kept]
        self._log_weight -= np.logaddexp.reduce(self._log_weight)
        self._mean, self._variance = self._mean[kept], self._variance[kept]
        self._count = self._count[kept]


def forget(records: Iterable[Record], since: Mapping[str, str]) -> Iterator[Record]:
    """Records without what cores gave before they changed; a record of which nothing is left goes.

    Parameters
    ----------
    records : iterable of Record
        In the order in which they happened.
    since : mapping of str to str
        By core, the id of the first record after its last change. A core whose record does not come keeps
        nothing.
    """
    outdated = dict(since)
    for record in records:
        for core in [core for core, first in outdated.items() if first == record.id]:
            del outdated[core]
        kept = tuple(outcome for outcome in record.outputs if outcome.model_name not in outdated)
        if len(kept) == len(record.outputs):
            yield record
        elif kept:
            yield record.model_copy(update={"outputs": kept})
