"""The optimiser's (winner's) curse: how far estimates can be trusted once a choice is made among them.

An optimiser picks the cells whose estimates err upward, so the mean over the chosen cells promises more than
it delivers, although every single estimate is calibrated. The corrections are measured on left-out
predictions of all records and cores:

1. An estimate's deviation from its core's mean has parts: the call's difficulty, common to all cores, and
   what is special to the core on this call. Only the second decides between cores, and it is much harder to
   predict, so each part is multiplied by its own slope of outcome on prediction. Where a history teaches
   nothing about single calls, the second slope goes to 0, and routing becomes the mix of single cores by
   their means. Columns that combine cores (plans) differ less among themselves than cores do: they have a
   slope of their own, as has what they have in common against the cores.
2. The means themselves are measured on the same records. They move towards their common mean as far as they
   differ by chance (James and Stein 1961; Efron and Morris 1973).
3. What still exceeds the core that is best on average is multiplied by one factor (`advantage`). It comes
   from few records, those where another core is chosen, so it moves away from its default only as far as its
   standard error permits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.blas import product
from eccos_aios.predict.estimates import FloatArray

IntArray = NDArray[np.int64]

DEFAULT_DIFFICULTY = 1.0
DEFAULT_CONTRAST = 0.5
DEFAULT_SPECIFIC = (0.5, 0.3)  # among cores, among plans
DIFFICULTY_SD = 0.1  # how far the slope lies from its default over histories
CONTRAST_SD = 0.2
SPECIFIC_SD = (0.1, 0.2)
MAX_SLOPE = 1.2  # left-out predictions are a little too cautious, never much
DEFAULT_ADVANTAGE = 0.7
ADVANTAGE_SD = 0.2  # how far the factor lies from its default over histories
LEAST_ERROR = 0.5  # of a slope from one record: a few records that agree prove little
MIN_ERROR = 1e-3  # of the factor, where outcomes are all alike
MIN_ADVANTAGE = 0.25  # the optimiser must still see the order of the cores
CORE_SETS = 24  # random sets of cores, besides the set of all
LEAST_LEVELS = 3  # columns whose spread can be told from chance


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far each part of an estimate counts.

    Attributes
    ----------
    difficulty, contrast : float
        Slopes of what all columns have in common, and of what the plans have in common against the cores,
        0 to `MAX_SLOPE`.
    specific : ndarray of shape (cores,)
        Slope of the rest, of each column.
    level : ndarray of shape (cores,)
        Mean quality of each column, less what is chance.
    group : ndarray of int of shape (cores,)
        0 for a core, 1 for a plan that combines cores.
    advantage : float
        Factor of what exceeds the core that is best on average, `MIN_ADVANTAGE` to 1.
    """

    difficulty: float
    contrast: float
    specific: FloatArray
    level: FloatArray
    group: IntArray
    advantage: float

    @classmethod
    def default(cls, means: FloatArray, group: IntArray | None = None) -> Calibration:
        """The calibration of a history without records; parameters as in `fit_calibration`."""
        group = np.zeros(len(means), dtype=np.int64) if group is None else group
        specific = np.array(DEFAULT_SPECIFIC)[group]
        return cls(DEFAULT_DIFFICULTY, DEFAULT_CONTRAST, specific, np.array(means), group, DEFAULT_ADVANTAGE)

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
        deviation: FloatArray = quality - means
        calibrated = self.level + product(deviation, self._slopes)
        best = calibrated[:, self._best, None]
        beyond = np.maximum(calibrated - best, 0.0)
        shown = np.minimum(calibrated, best) + self.advantage * beyond
        return np.asarray(np.minimum(np.maximum(shown, 0.0), 1.0))

    @cached_property
    def _slopes(self) -> FloatArray:
        """How each column's estimate, by row, moves with every column's deviation: the parts are linear."""
        cores = len(self.level)
        difficulty, contrast, specific = _parts(np.eye(cores), np.zeros(cores), self.group)
        slopes = self.difficulty * difficulty + self.specific * specific
        if contrast is not None:
            slopes += self.contrast * contrast
        return np.ascontiguousarray(slopes.T)

    @cached_property
    def _best(self) -> int:
        """Column of the core that is best on average."""
        return int(self.level.argmax())


def fit_calibration(
    left_out: FloatArray, outcome: FloatArray, means: FloatArray, group: IntArray | None = None
) -> Calibration:
    """The calibration by which promise and outcome agree, whichever cores are chosen at whatever prices.

    Parameters
    ----------
    left_out : ndarray of shape (records, cores)
        Estimates that were made without the record.
    outcome : ndarray of the same shape
        NaN where unknown; such cells say nothing.
    means : ndarray of shape (cores,)
    group : ndarray of int of shape (cores,), optional
        As in `Calibration`. Default: all are cores.
    """
    fitted = Calibration.default(means, group)
    if not left_out.size:
        return fitted
    group = fitted.group
    error_free = np.where(np.isnan(outcome), left_out, outcome)
    predicted, delivered = _parts(left_out, means, group), _parts(error_free, means, group)
    difficulty = _slope(predicted[0], delivered[0], DEFAULT_DIFFICULTY, DIFFICULTY_SD)
    contrast = fitted.contrast
    if predicted[1] is not None and delivered[1] is not None:
        ends = [int(group.argmin()), int(group.argmax())]  # all columns of a group have the same
        contrast = _slope(predicted[1][:, ends], delivered[1][:, ends], contrast, CONTRAST_SD)
    specific = fitted.specific.copy()
    for number in np.unique(group).tolist():
        own = group == number
        specific[own] = _slope(
            predicted[2][:, own], delivered[2][:, own], DEFAULT_SPECIFIC[number], SPECIFIC_SD[number]
        )
    level = _levels(outcome, means, group)
    fitted = Calibration(difficulty, contrast, specific, level, group, advantage=1.0)
    advantage = _fit_advantage(fitted.apply(left_out, means), outcome, level)
    return replace(fitted, advantage=advantage)


def _parts(
    quality: FloatArray, means: FloatArray, group: IntArray
) -> tuple[FloatArray, FloatArray | None, FloatArray]:
    """Deviations from the cores' means: common to all, shape (calls, 1), of cores or plans, and the rest.

    The second is None where there are only cores, or only plans.
    """
    deviation = quality - means
    common = deviation.mean(axis=1, keepdims=True)
    rest = deviation - common
    plans = int(group.sum())
    if plans in (0, len(group)):
        return common, None, rest
    # the rest sums to 0 over all columns, so the plans' sum is that of the cores with the other sign
    contrast = (rest @ group)[:, None] * np.where(group == 1, 1.0 / plans, -1.0 / (len(group) - plans))
    return common, contrast, rest - contrast


def _levels(outcome: FloatArray, means: FloatArray, group: IntArray) -> FloatArray:
    """The columns' means, moved towards the mean of their group as far as they differ by chance.

    Chance is measured on the columns' differences within records, as the records are the same for all.
    """
    level = np.array(means)
    known = ~np.isnan(outcome)
    compared = known.sum(axis=1) >= 2
    for number in np.unique(group).tolist():
        own = group == number
        cells = known[compared][:, own]
        values = np.where(cells, outcome[compared][:, own], 0.0)
        row_mean = values.sum(axis=1, keepdims=True) / np.maximum(cells.sum(axis=1, keepdims=True), 1)
        count = cells.sum(axis=0)
        if own.sum() < LEAST_LEVELS or (count < 2).all():
            continue
        squares = np.where(cells, (values - row_mean) ** 2, 0.0).sum(axis=0)
        chance = float(np.median((squares / np.maximum(count, 1) ** 2)[count >= 2]))
        spread = float(means[own].var(ddof=1))
        share = max(0.0, 1.0 - chance / spread) if spread > 0 else 1.0
        level[own] = means[own].mean() + share * (means[own] - means[own].mean())
    return level


def _slope(predicted: FloatArray, delivered: FloatArray, default: float, sd: float) -> float:
    """Posterior mean of the least-squares slope through the origin; both of shape (records, any).

    `sd` is how far it lies from its default over histories. Its standard error counts a record, whose cores
    err alike, as one observation.
    """
    spread = float((predicted**2).sum())
    if spread <= 0:
        return default
    slope = float((predicted * delivered).sum()) / spread
    per_record = ((delivered - slope * predicted) * predicted).sum(axis=1)
    error = float(np.sqrt((per_record**2).sum())) / spread
    error = max(error, LEAST_ERROR / float(np.sqrt(len(predicted))))
    return float(np.clip(_posterior_mean(slope, error, default, sd), 0.0, MAX_SLOPE))


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
