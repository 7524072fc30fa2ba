"""What is known of a core before the call is known: by records, by its manifest, or by its price alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import Core
from eccos_aios.predict.dataset import PRIOR_STRENGTH, CorePriors, core_positions
from eccos_aios.predict.estimates import FloatArray, prices_of

NEWCOMER_RECORDS = 50  # with as many, a core's own records are enough
BELOW_CHEAPER = 0.02  # a core without records, below the known core that is next cheaper
BELOW_ALL = 0.1  # below the worst known core, where none is cheaper
UNTRIED_RANGE = (0.3, 0.5)  # of the cheapest and of the dearest core, where no core has records


@dataclass(frozen=True, eq=False)
class CoreExperience:
    """What a fitted predictor knows of M cores on the whole; arrays have shape (M,).

    Attributes
    ----------
    records : ndarray
        Outcomes of each core.
    quality : ndarray
        What the predictor expects of each core, 0 to 1, before the call is known.
    """

    records: FloatArray
    quality: FloatArray

    @classmethod
    def of(cls, priors: CorePriors, known: Sequence[str], cores: Sequence[str]) -> CoreExperience:
        """By the priors over the `known` cores."""
        columns = core_positions(tuple(known), tuple(cores))
        return cls(priors.records.take(columns), priors.quality.take(columns))

    def unrecorded(self, load: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which cores get calls, `load` of shape (M,), without a single recorded outcome."""
        found: NDArray[np.bool_] = (load > 0) & (self.records == 0)
        return found


def prior_shift(cores: Sequence[Core], experience: CoreExperience) -> FloatArray | None:
    """What to add to the estimated quality on each core, shape (M,); None where that is nothing.

    A predictor expects of a core without records what the others deliver on the mean, which draws all calls
    to a new cheap one. In place of that mean stands the manifest's ``quality``, by its weight in records, and
    without one a cautious guess by price, which fades until the core has `NEWCOMER_RECORDS`:

    - just below the known core that is next cheaper, so that it is not preferred to it unseen;
    - well below the worst known core where none is cheaper;
    - where no core has records, by the order of prices.

    Parameters
    ----------
    cores : sequence of Core
    experience : CoreExperience
        Of the same cores.
    """
    records = experience.records
    is_stated = [core.quality is not None for core in cores]
    if not any(is_stated) and min(records.tolist(), default=NEWCOMER_RECORDS) >= NEWCOMER_RECORDS:
        return None
    stated = np.array(is_stated, dtype=np.bool_)
    mean = np.array([core.quality.mean if core.quality else 0.0 for core in cores])
    weight = np.array([float(core.quality.records) if core.quality else 0.0 for core in cores])
    guess_weight = PRIOR_STRENGTH * np.maximum(1.0 - records / NEWCOMER_RECORDS, 0.0)
    prior = np.where(stated, mean, _guesses(cores, experience, stated, mean))
    strength = np.where(stated, weight, guess_weight)
    share = strength / (np.maximum(records, 0.0) + np.maximum(strength, 1e-9))
    return np.asarray(share * (prior - experience.quality), dtype=np.float64)


def _guesses(
    cores: Sequence[Core], experience: CoreExperience, stated: NDArray[np.bool_], mean: FloatArray
) -> FloatArray:
    """The cautious guess for each core, shape (M,)."""
    price = prices_of(cores).sum(axis=0)
    known = (experience.records > 0) | stated
    quality = np.where(experience.records > 0, experience.quality, mean)
    if not known.any():
        order = np.unique(price, return_inverse=True)[1].reshape(-1)
        low, high = UNTRIED_RANGE
        return np.asarray(low + (high - low) * order / max(int(order.max()), 1), dtype=np.float64)
    worst = float(quality[known].min())
    guesses = np.empty(len(cores))
    for column, own in enumerate(price.tolist()):
        cheaper = np.flatnonzero(known & (price <= own))
        if cheaper.size:
            guesses[column] = quality[cheaper[price[cheaper] == price[cheaper].max()]].min() - BELOW_CHEAPER
        else:
            guesses[column] = worst - BELOW_ALL
    return np.clip(guesses, 0.0, 1.0)
