"""The optimiser's curse: what chosen cells promise too much, measured on left-out records and taken off.

An optimiser picks cells whose estimate errs upward, so the mean over the chosen cells promises more than
it keeps, although every single estimate is calibrated. What is chosen because it beats the core that is
best on average is what errs most, so that advantage is shrunk: with b the best core of a call by its
mean, every estimate q > b becomes ``b + keep * (q - b)``. The order of the cores on a call stays as it
is, so the best reachable quality stays, too; only the promise moves.

`keep` is found on left-out predictions: for all cores and for random sets of them, the best core of every
record is chosen, and promise and outcome are compared. Prices play no part in this, so it holds for any.

Tried before (5-fold, worst promised − delivered over all targets, in points, mean of three shuffles of
qa9 and tools12): no correction 1.7 and 2.9; shrinking every deviation from the core's mean 0.0 and 0.0,
but the ranking on tools12 lost 0.5 points of quality at equal cost; this 0.4 and −0.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.estimates import FloatArray

LEAST_KEEP = 0.25  # the order of the cores must stay recognisable for the optimiser
DEFAULT_KEEP = 0.5  # where nothing is known
CAUTION = 50.0  # records at which the default weighs as much as what was measured
CORE_SETS = 24  # random sets of cores, beside the set of all


def shrink_advantage(quality: FloatArray, means: FloatArray, keep: float) -> FloatArray:
    """Estimates with what goes beyond the best core by mean multiplied by `keep`.

    Parameters
    ----------
    quality : ndarray of shape (calls, cores)
    means : ndarray of shape (cores,)
        Each core's mean quality.
    keep : float
        0 to 1.
    """
    if not quality.shape[1]:
        return quality
    best = quality[:, int(means.argmax()), None]
    beyond = np.maximum(quality - best, 0.0)
    return np.asarray(np.minimum(quality, best) + keep * beyond, dtype=np.float64)


def fit_keep(left_out: FloatArray, outcome: FloatArray, means: FloatArray) -> float:
    """The `keep` at which promise and outcome agree in the mean over the sets of cores.

    Parameters
    ----------
    left_out : ndarray of shape (records, cores)
        Estimates that were made without the record.
    outcome : ndarray of the same shape
        NaN where unknown; the choice is then among the known.
    means : ndarray of shape (cores,)
    """
    sets = _core_sets(left_out.shape[1])
    measured = [_base_and_advantage(left_out[:, cores], outcome[:, cores], means[cores]) for cores in sets]
    excess = sum(part[0] for part in measured)
    advantage = sum(part[1] for part in measured)
    records = len(left_out)
    if advantage <= 0:
        return DEFAULT_KEEP
    keep = float(np.clip(excess / advantage, LEAST_KEEP, 1.0))
    return (records * keep + CAUTION * DEFAULT_KEEP) / (records + CAUTION)


def _core_sets(cores: int) -> list[NDArray[np.int64]]:
    """All cores, as often as a fifth of the random sets, and random sets of at least two."""
    if cores < 2:
        return []
    random = np.random.default_rng(0)
    drawn = [
        np.sort(random.choice(cores, size=random.integers(2, cores + 1), replace=False))
        for _ in range(CORE_SETS)
    ]
    return [np.arange(cores)] * (CORE_SETS // 4) + drawn


def _base_and_advantage(left_out: FloatArray, outcome: FloatArray, means: FloatArray) -> tuple[float, float]:
    """Mean delivered and mean promised advantage over the best core by mean, of the chosen cells.

    Both are means over the set's records, so that the sets weigh alike.
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
