"""What a round is given beside its calls: what the cores can take, what to reach, how long calls may wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.schedule.call import Call

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Capacity:
    """What the cores can take; every array has shape (cores,).

    Attributes
    ----------
    free : ndarray of int
        Slots that are free now.
    soon : ndarray of int
        Slots that come free within the time that a call may wait to be served cheaper.
    later : ndarray of int
        Slots that come free within the time that a call may wait to be served well enough.
    service_s : ndarray of float
        Seconds that a call takes.
    """

    free: IntArray
    soon: IntArray
    later: IntArray
    service_s: NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What a round has to reach.

    Attributes
    ----------
    quality : float
        Mean quality, 0 to 1, for calls that have no target of their own.
    owed : callable
        Points beyond that for a round of so many calls; see `QualityDebt`.
    price_per_second : float
        US dollars that a second until the answer counts for.
    """

    quality: float
    owed: Callable[[int], float]
    price_per_second: float = 0.0

    def of(self, call: Call) -> float:
        """The target of one call."""
        return self.quality if call.quality_target is None else call.quality_target


@dataclass(frozen=True)
class Waiting:
    """How long a call may wait for a core that is busy while another is free, in seconds.

    Attributes
    ----------
    for_price_s : float
        For a cheaper one.
    for_quality_s : float
        For one that is good enough.
    """

    for_price_s: float
    for_quality_s: float

    @property
    def limits_s(self) -> tuple[float, float]:
        """Both."""
        return self.for_price_s, self.for_quality_s
