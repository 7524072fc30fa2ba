"""Capacity, Target and WaitLimits: what a round may use, has to reach, and may let wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import REACH_SLACK
from eccos_aios.config import default_of
from eccos_aios.schedule.call import Call

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Capacity:
    """Slots and service times of the cores; every array has shape (cores,).

    Attributes
    ----------
    free : ndarray of int
        Slots that are free now.
    soon : ndarray of int
        Calls that may wait for each core because it is cheaper, see `WaitLimits`.
    later : ndarray of int
        Slots that come free within the time that a call may wait to be served well enough.
    service_s : ndarray of float
        Expected seconds of a call.
    turn_s : ndarray of float
        Expected seconds between two slots that come free while all are taken: `service_s` / quota. So
        the n-th call that waits for a core expects to wait n of them. Longer where calls of other kernels
        wait, too. Infinite where the core is down or no core has been measured: no call waits for it to
        save money.
    """

    free: IntArray
    soon: IntArray
    later: IntArray
    service_s: NDArray[np.float64]
    turn_s: NDArray[np.float64]


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
    affordable : mapping of Call to float
        The mean quality that a budget buys, of calls whose target it lowers.
    """

    quality: float
    owed: Callable[[int], float]
    price_per_second: float = 0.0
    reach_slack: float = REACH_SLACK
    affordable: Mapping[Call, float] = field(default_factory=dict)

    def of(self, call: Call) -> float:
        """The target of one call."""
        own = self.quality if call.quality_target is None else call.quality_target
        return min(own, max(0.0, self.affordable[call])) if call in self.affordable else own


@dataclass(frozen=True)
class WaitLimits:
    """How long a call may wait for a busy core while another core is free.

    Attributes
    ----------
    for_price_s : float
        Seconds for a cheaper core, at most.
    for_quality_s : float
        Seconds for a core that is good enough.
    share : float
        For a cheaper core, as a share of the service time at the free core: the expected wait and the
        service there may take (1 + share) times as long.
    """

    for_price_s: float = default_of("max_wait_s")
    for_quality_s: float = default_of("max_quality_wait_s")
    share: float = default_of("max_wait_share")

    def for_price_until_s(self, free_service_s: float | FloatArray, service_s: FloatArray) -> FloatArray:
        """Seconds that a call may wait for a cheaper core; negative: it is too slow even without a wait.

        Parameters
        ----------
        free_service_s, service_s : ndarray of float
            Expected seconds of a call at the free core, and at the busy one; they broadcast.
        """
        allowed: FloatArray = np.minimum(self.for_price_s, (1 + self.share) * free_service_s - service_s)
        return allowed

    @property
    def limits_s(self) -> tuple[float, float]:
        """Both, the shorter first."""
        return self.for_price_s, self.for_quality_s
