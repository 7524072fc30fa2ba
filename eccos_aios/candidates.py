"""Candidates: estimates, costs and limits of a batch as the input of stage 2, made in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import REACH_SLACK, AssignmentProblem
from eccos_aios.core import Core
from eccos_aios.predict import CoreExperience, Estimates, prices_of, prior_shift
from eccos_aios.requirements import Requirements, allowed_cores

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The cores that N calls may go to, with the expected quality and cost there.

    Attributes
    ----------
    quality, cost : ndarray of shape (N, M)
        Expected quality, 0 to 1, and US dollars.
    allowed : ndarray of bool of shape (N, M)
        Which cores may take a call.
    """

    quality: FloatArray
    cost: FloatArray
    allowed: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        estimates: Estimates,
        requirements: Sequence[Requirements],
        cores: Sequence[Core],
        prices: FloatArray | None = None,
        experience: CoreExperience | None = None,
    ) -> Candidates:
        """Candidates by the estimates of stage 1.

        Parameters
        ----------
        estimates : Estimates
            Arrays of shape (N, M).
        requirements : sequence of Requirements
            One per call.
        cores : sequence of Core
            In the order of the columns.
        prices : ndarray of shape (2, M), optional
            Default: `prices_of` the cores.
        experience : CoreExperience, optional
            Of the predictor with the cores, whose quality `prior_shift` then corrects where it is little.
        """
        cost = estimates.cost_at(prices_of(cores) if prices is None else prices)
        shift = None if experience is None else prior_shift(cores, experience)
        quality = estimates.quality if shift is None else np.clip(estimates.quality + shift, 0.0, 1.0)
        return cls(quality, cost, allowed_cores(requirements, cores))

    def take(self, rows: IntArray) -> Candidates:
        """The candidates of some of the calls."""
        # `take` takes a third of the time of an index where few are taken after a pause
        return Candidates(
            self.quality.take(rows, axis=0), self.cost.take(rows, axis=0), self.allowed.take(rows, axis=0)
        )

    def problem(
        self,
        quality_target: float = 0.0,
        *,
        quota: IntArray | None = None,
        budget: float | None = None,
        target_deficit: float = 0.0,
        weight: FloatArray | None = None,
        seconds: FloatArray | None = None,
        price_per_second: float = 0.0,
        reach_slack: float = REACH_SLACK,
    ) -> AssignmentProblem:
        """The problem that stage 2 solves; parameters as in `AssignmentProblem`.

        Parameters
        ----------
        quota : ndarray of shape (M,), optional
            Default: every core may take all the calls.
        """
        calls, cores = self.cost.shape
        return AssignmentProblem(
            cost=self.cost,
            quality=self.quality,
            quota=np.full(cores, calls, dtype=np.int64) if quota is None else quota,
            target=quality_target,
            allowed=self.allowed,
            weight=weight,
            target_deficit=target_deficit,
            budget=budget,
            seconds=seconds,
            price_per_second=price_per_second,
            reach_slack=reach_slack,
        )
