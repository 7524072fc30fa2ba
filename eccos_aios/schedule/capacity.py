"""Capacity, Target and WaitLimits: what a round may use, has to reach, and may let wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import REACH_SLACK
from eccos_aios.schedule.call import Call

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Capacity:
    """Slots and service times of the cores; every array has shape (cores,).

    Attributes
    ----------
    free : ndarray of int
        Slots that are free now.
    soon : ndarray of int
        Slots that come free within the time that a call may wait to be served cheaper.
    later : ndarray of int
        Slots that come free within the time that a call may wait to be served well enough.
    service_s : ndarray of float
        Expected seconds of a call.
    """

    free: IntArray
    soon: IntArray
    later: IntArray
    service_s: NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """The quality that a round has to reach.

    Attributes
    ----------
    quality : float
        Mean quality, 0 to 1, for calls that have no target of their own.
    owed : callable
        Called with a number of calls: the points of quality that they owe beyond that; see `QualityDebt`.
    price_per_second : float
        US dollars that a second of waiting and answering counts as.
    reach_slack : float
        As in `EccosConfig`.
    """

    quality: float
    owed: Callable[[int], float]
    price_per_second: float = 0.0
    reach_slack: float = REACH_SLACK

    def of(self, call: Call) -> float:
        """The target of one call."""
        return self.quality if call.quality_target is None else call.quality_target


@dataclass(frozen=True)
class WaitLimits:
    """Seconds that a call may wait for a busy core while another core is free.

    Attributes
    ----------
    for_price_s : float
        For a cheaper core.
    for_quality_s : float
        For a core that is good enough.
    """

    for_price_s: float = 1.0
    for_quality_s: float = 10.0

    @property
    def limits_s(self) -> tuple[float, float]:
        """Both, the shorter first."""
        return self.for_price_s, self.for_quality_s
