"""The optimiser's (winner's) curse: what chosen estimates promise too much, measured and corrected.

An optimiser picks the cells whose estimates err upward, so the mean over the chosen cells promises more than
it delivers, although every single estimate is calibrated. What errs most is the advantage over the core that
is best on average, so that is shrunk: with b the estimate of the best core on average, every estimate q > b
of a call becomes ``b + shrinkage * (q - b)``. The order of the cores on a call stays, so the best reachable
quality stays too; only the promise changes.

The shrinkage is found on left-out predictions: for all cores and for random sets of them, the best core of
every record is chosen, and promise and outcome are compared. Prices do not matter, so it holds for any.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.estimates import FloatArray

MIN_SHRINKAGE = 0.25  # the optimiser must still see the order of the cores
DEFAULT_SHRINKAGE = 0.5  # without records
PRIOR_STRENGTH = 50.0  # records at which the measured shrinkage weighs as much as the default
CORE_SETS = 24  # random sets of cores, besides the set of all


def shrink_advantage(quality: FloatArray, means: FloatArray, shrinkage: float) -> FloatArray:
    """Multiply what each estimate exceeds the best core on average by with `shrinkage`.

    Parameters
    ----------
    quality : ndarray of shape (calls, cores)
    means : ndarray of shape (cores,)
        Each core's mean quality.
    shrinkage : float
        0 to 1; 1 leaves the estimates as they are.
    """
    if not quality.shape[1]:
        return quality
    best = quality[:, int(means.argmax()), None]
    beyond = np.maximum(quality - best, 0.0)
    return np.asarray(np.minimum(quality, best) + shrinkage * beyond, dtype=np.float64)


def fit_shrinkage(left_out: FloatArray, outcome: FloatArray, means: FloatArray) -> float:
    """The shrinkage at which promise and outcome agree on average over the sets of cores.

    Parameters
    ----------
    left_out : ndarray of shape (records, cores)
        Estimates that were made without the record.
    outcome : ndarray of the same shape
        NaN where unknown; the choice is among the known.
    means : ndarray of shape (cores,)
    """
    sets = _core_sets(left_out.shape[1])
    measured = [_base_and_advantage(left_out[:, cores], outcome[:, cores], means[cores]) for cores in sets]
    excess = sum(part[0] for part in measured)
    advantage = sum(part[1] for part in measured)
    records = len(left_out)
    if advantage <= 0:
        return DEFAULT_SHRINKAGE
    best_shrinkage = float(np.clip(excess / advantage, MIN_SHRINKAGE, 1.0))
    return (records * best_shrinkage + PRIOR_STRENGTH * DEFAULT_SHRINKAGE) / (records + PRIOR_STRENGTH)


def _core_sets(cores: int) -> list[NDArray[np.int64]]:
    """The set of all cores, repeated to weigh a fifth of the whole, and random sets of at least two."""
    if cores < 2:
        return []
    random = np.random.default_rng(0)
    drawn = [
        np.sort(random.choice(cores, size=random.integers(2, cores + 1), replace=False))
        for _ in range(CORE_SETS)
    ]
    return [np.arange(cores)] * (CORE_SETS // 4) + drawn


def _base_and_advantage(left_out: FloatArray, outcome: FloatArray, means: FloatArray) -> tuple[float, float]:
    """Delivered and promised advantage of the chosen cells over the best core on average.

    Both are means over the records, so that all sets weigh the same.
    """
    chosen = left_out.argmax(axis=1)
    rows = np.flatnonzero(~np.isnan(outcome[np.arange(len(outcome)), chosen]))
    if not len(rows):
        return 0.0, 0.0
    chosen = chosen[rows]
    base = left_out[rows, int(np.argmax(means))]
    promised = left_out[rows, chosen] - base
    ahead = np.maximum(promised, 0.0)
    delivered = outcome[rows, chosen] - base - np.minimum(promised, 0.0)
    return float(delivered.mean()), float(ahead.mean())
