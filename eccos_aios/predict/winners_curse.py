"""The optimiser's (winner's) curse: how far estimates can be trusted once a choice is made among them.

An optimiser picks the cells whose estimates err upward, so the mean over the chosen cells promises more than
it delivers, although every single estimate is calibrated. Two corrections, both measured on left-out
predictions of all records and cores:

1. An estimate's deviation from its core's mean has two parts: the call's difficulty, common to all cores, and
   what is special to the core on this call. Only the second decides between cores, and it is much harder to
   predict, so each part is multiplied by its own slope of outcome on prediction. Where a history teaches
   nothing about single calls, the second slope goes to 0, and routing becomes the mix of single cores by
   their means.
2. What still exceeds the core that is best on average is multiplied by one factor (`advantage_`). It comes
   from few records, those where another core is chosen, so it moves away from its default only as far as its
   standard error permits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.estimates import FloatArray

DEFAULT_DIFFICULTY = 1.0
DEFAULT_SPECIFIC = 0.5
SLOPE_SD = 0.1  # how far the slopes lie from their defaults over histories
MAX_SLOPE = 1.2  # left-out predictions are a little too cautious, never much
DEFAULT_ADVANTAGE = 0.7
ADVANTAGE_SD = 0.2  # how far the factor lies from its default over histories
LEAST_ERROR = 0.5  # of a slope from one record: a few records that agree prove little
MIN_ERROR = 1e-3  # of the factor, where outcomes are all alike
MIN_ADVANTAGE = 0.25  # the optimiser must still see the order of the cores
CORE_SETS = 24  # random sets of cores, besides the set of all


@dataclass(frozen=True)
class Calibration:
    """How far each part of an estimate counts.

    Attributes
    ----------
    difficulty, specific : float
        Slopes of the two parts of a deviation from the core's mean, 0 to `MAX_SLOPE`.
    advantage : float
        Factor of what exceeds the core that is best on average, `MIN_ADVANTAGE` to 1.
    """

    difficulty: float = DEFAULT_DIFFICULTY
    specific: float = DEFAULT_SPECIFIC
    advantage: float = DEFAULT_ADVANTAGE

    def apply(self, quality: FloatArray, means: FloatArray) -> FloatArray:
        """Calibrated estimates of the same shape.

        Parameters
        ----------
        quality : ndarray of shape (calls, cores)
        means : ndarray of shape (cores,)
            Each core's mean quality.
        """
        if not quality.shape[1]:
            return quality
        difficulty, specific = _parts(quality, means)
        calibrated = means + self.difficulty * difficulty + self.specific * specific
        best = calibrated[:, int(means.argmax()), None]
        beyond = np.maximum(calibrated - best, 0.0)
        return np.asarray(np.clip(np.minimum(calibrated, best) + self.advantage * beyond, 0.0, 1.0))


def fit_calibration(left_out: FloatArray, outcome: FloatArray, means: FloatArray) -> Calibration:
    """The calibration by which promise and outcome agree, whichever cores are chosen at whatever prices.

    Parameters
    ----------
    left_out : ndarray of shape (records, cores)
        Estimates that were made without the record.
    outcome : ndarray of the same shape
        NaN where unknown; such cells say nothing.
    means : ndarray of shape (cores,)
    """
    known = ~np.isnan(outcome)
    if not left_out.size:
        return Calibration()
    difficulty, specific = _parts(left_out, means)
    error_free = np.where(known, outcome, left_out) - means
    common = error_free.mean(axis=1, keepdims=True)
    fitted = Calibration(
        _slope(difficulty, common, DEFAULT_DIFFICULTY),
        _slope(specific, error_free - common, DEFAULT_SPECIFIC),
        advantage=1.0,
    )
    advantage = _fit_advantage(fitted.apply(left_out, means), outcome, means)
    return Calibration(fitted.difficulty, fitted.specific, advantage)


def _parts(quality: FloatArray, means: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Deviations from the cores' means: common to all cores, shape (calls, 1), and the rest."""
    deviation = quality - means
    common = deviation.mean(axis=1, keepdims=True)
    return common, deviation - common


def _slope(predicted: FloatArray, delivered: FloatArray, default: float) -> float:
    """Posterior mean of the least-squares slope through the origin; both of shape (records, any).

    Its standard error counts a record, whose cores err alike, as one observation.
    """
    spread = float((predicted**2).sum())
    if spread <= 0:
        return default
    slope = float((predicted * delivered).sum()) / spread
    per_record = ((delivered - slope * predicted) * predicted).sum(axis=1)
    error = float(np.sqrt((per_record**2).sum())) / spread
    error = max(error, LEAST_ERROR / float(np.sqrt(len(predicted))))
    return float(np.clip(_posterior_mean(slope, error, default, SLOPE_SD), 0.0, MAX_SLOPE))


def _posterior_mean(estimate: float, error: float, default: float, spread: float) -> float:
    """Of a normal prior around the default and a normal error; both as standard deviations."""
    precision, prior = 1.0 / max(error, MIN_ERROR) ** 2, 1.0 / spread**2
    return (precision * estimate + prior * default) / (precision + prior)


def _fit_advantage(left_out: FloatArray, outcome: FloatArray, means: FloatArray) -> float:
    """Posterior mean of delivered over promised advantage: normal prior, normal error."""
    sets = _core_sets(left_out.shape[1])
    if not sets:
        return DEFAULT_ADVANTAGE
    measured = [_advantages(left_out[:, cores], outcome[:, cores], means[cores]) for cores in sets]
    promised = float(np.mean([ahead.mean() for _, ahead in measured if len(ahead)] or [0.0]))
    if promised <= 0:
        return DEFAULT_ADVANTAGE
    factor = float(np.mean([delivered.mean() for delivered, _ in measured if len(delivered)])) / promised
    delivered, ahead = measured[0]
    if len(ahead) < 2:
        return DEFAULT_ADVANTAGE
    error = float((delivered - factor * ahead).std()) / np.sqrt(len(ahead)) / max(float(ahead.mean()), 1e-9)
    posterior = _posterior_mean(factor, error, DEFAULT_ADVANTAGE, ADVANTAGE_SD)
    return float(np.clip(posterior, MIN_ADVANTAGE, 1.0))


def _core_sets(cores: int) -> list[NDArray[np.int64]]:
    """The set of all cores first, repeated to weigh a fifth of the whole; random sets of at least two."""
    if cores < 2:
        return []
    random = np.random.default_rng(0)
    drawn = [
        np.sort(random.choice(cores, size=random.integers(2, cores + 1), replace=False))
        for _ in range(CORE_SETS)
    ]
    return [np.arange(cores)] * (CORE_SETS // 4) + drawn


def _advantages(
    left_out: FloatArray, outcome: FloatArray, means: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Delivered and promised advantage of the best estimate over the best core on average, per record."""
    chosen = left_out.argmax(axis=1)
    rows = np.flatnonzero(~np.isnan(outcome[np.arange(len(outcome)), chosen]))
    chosen = chosen[rows]
    base = left_out[rows, int(np.argmax(means))]
    promised = left_out[rows, chosen] - base
    return outcome[rows, chosen] - base - np.minimum(promised, 0.0), np.maximum(promised, 0.0)
