"""The two stages of a round, and what stands in for each when it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from eccos_aios.predict import Estimates
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.capacity import Target
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.explore import Exploration
from eccos_aios.schedule.plan import Plan, first_free, plan_round
from eccos_aios.schedule.settings import SchedulerSettings

logger = logging.getLogger(__name__)


class RoundPipeline:
    """Estimates and plans; calls go on whatever a predictor or the optimiser raises.

    Not thread-safe: the rounds' thread alone uses it.

    Parameters
    ----------
    on_degraded : callable
        Called for each failure that something stood in for, with the number of calls whose estimates it
        cost.
    """

    def __init__(self, on_degraded: Callable[[int], None]) -> None:
        self._on_degraded = on_degraded
        self._reported: set[str] = set()
        self._exploration = Exploration(0.0)

    def estimate(self, table: CorePool, calls: Sequence[Call]) -> Estimates:
        """Stage 1, checked; what is wrong is replaced by the prior."""
        try:
            estimates = table.predict(calls)
            if not isinstance(estimates, Estimates):
                raise TypeError(f"the predictor returned {type(estimates).__name__}, not Estimates")
            estimates, sound, fault = estimates.checked(len(calls), table.names)
        except BaseException as error:  # noqa: BLE001 - an embedder or a model may raise anything, SystemExit too
            self._degrade("stage 1 failed, every core counts as equally good", error, len(calls))
            return table.prior(calls)
        if sound.all():
            return estimates
        self._degrade("stage 1 is wrong, those calls get the prior", ValueError(fault), int((~sound).sum()))
        return estimates.with_rows_of(table.prior(calls), ~sound)

    def plan(
        self,
        table: CorePool,
        settings: SchedulerSettings,
        pending: Sequence[Call],
        owed: Callable[[int], float],
        now_s: float,
    ) -> Plan:
        """Stage 2, and the exploring of what it decided."""
        capacity = table.capacity(settings.waiting)
        target = Target(settings.quality_target, owed, settings.price_per_second)
        if self._exploration.share != settings.exploration:
            self._exploration = Exploration(settings.exploration)
        try:
            plan = plan_round(pending, capacity, target, now_s, settings.waiting)
            if not settings.exploration:
                return plan
            placements = self._exploration.redirected(plan.placements, capacity.free, target.of)
            return replace(plan, placements=placements)
        except BaseException as error:  # noqa: BLE001 - whatever the optimiser raises
            self._degrade("stage 2 failed, calls go to their first free core", error)
            return first_free(pending, capacity.free)

    def _degrade(self, what: str, error: BaseException, calls: int = 0) -> None:
        self._on_degraded(calls)
        cause = f"{what}: {type(error).__name__}"
        if cause not in self._reported:
            self._reported.add(cause)
            logger.warning("%s: %s (logged once)", cause, error, exc_info=error)
