"""A batch routed to plans: which cores they may ask, and one routing per target or budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.plans import AnswerPlan, PlanEstimates, PlanRouting, route_plans
from eccos_aios.router import EstimatedBatch

OnStep = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class PlannedRouting:
    """A batch routed to plans at one target or budget.

    Attributes
    ----------
    quality_target, budget : float or None
        The one that was asked for: mean quality, 0 to 1, or US dollars.
    estimates : PlanEstimates
    routing : PlanRouting
    """

    quality_target: float | None
    budget: float | None
    estimates: PlanEstimates
    routing: PlanRouting

    def plan(self, row: int) -> AnswerPlan | None:
        """The plan of a query; None where no core may take it or every quota is taken."""
        column = int(self.routing.assignment.core[row])
        return None if column == WAITS else self.estimates.plans[column]

    def predicted(self, row: int) -> tuple[float, float] | None:
        """Expected quality and US dollars of a query; None where it has no plan."""
        column = int(self.routing.assignment.core[row])
        if column == WAITS:
            return None
        return float(self.estimates.quality[row, column]), float(self.estimates.cost[row, column])

    @property
    def per_plan(self) -> dict[str, int]:
        """Queries by the name of their plan; plans without any are left out."""
        columns = self.routing.assignment.core
        count = np.bincount(columns[columns != WAITS], minlength=len(self.estimates.plans)).tolist()
        return {plan.name: n for plan, n in zip(self.estimates.plans, count, strict=True) if n}


def planned_routings(
    parts: Sequence[PlanEstimates],
    estimated: EstimatedBatch,
    targets: Sequence[float],
    budgets: Sequence[float],
    max_calls: float,
    seconds: dict[str, float],
    on_step: OnStep,
) -> tuple[PlannedRouting, ...]:
    """Route a batch to plans, once per target, then once per budget; parameters as in `assign_batch`.

    `parts` are the estimates of its chunks, at least one.
    """
    estimates = PlanEstimates.joined(parts)
    position = {core.name: column for column, core in enumerate(estimated.cores)}
    columns = [[position[core] for core in plan.every_core] for plan in estimates.plans]
    may = estimated.candidates.allowed
    allowed = np.stack([may[:, each].all(axis=1) for each in columns], axis=1)
    limited = any(core.quota is not None for core in estimated.cores)
    most = len(estimated)  # no core is asked more often by a plan
    quotas = [most if core.quota is None else min(core.quota, most) for core in estimated.cores]
    quota = np.array(quotas, dtype=np.int64) if limited else None
    asked: list[tuple[float | None, float | None]] = [
        *((target, None) for target in targets),
        *((None, budget) for budget in budgets),
    ]
    found = []
    for target, budget in asked:
        on_step(
            f"assigning at quality target {target:g}" if target is not None else f"assigning for ${budget:g}"
        )
        with timed(seconds, "solve"):
            routing = route_plans(
                estimates,
                allowed=allowed,
                quota=quota,
                quality_target=target or 0.0,
                budget=budget,
                max_calls=max_calls,
            )
        found.append(PlannedRouting(target, budget, estimates, routing))
    return tuple(found)


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the time of a block to a step."""
    begin = time.perf_counter()
    yield
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - begin
