"""EccosPlans: the policy whose calls are answered by plans, replayed on the recorded answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.bench.fold import BoolArray, IntArray
from eccos_aios.bench.fold_estimates import FoldEstimates
from eccos_aios.bench.policy import Choice, Delivered, TargetPolicy
from eccos_aios.plans import (
    MAX_CALLS_PER_QUERY,
    Mode,
    PlanEstimates,
    PlanOutcomes,
    PlanPredictor,
    best_within,
    recorded_answers,
    replay_plans,
    route_plans,
)
from eccos_aios.plans.answers import STAGES

PLAN_POLICY = "eccos-plans"
UNBOUNDED_PLAN_POLICY = "eccos-plans-unbounded"  # what the bound on calls costs
UNBOUNDED = float(STAGES)


@dataclass(frozen=True)
class LearnedPlans:
    """Plans learned on a fold's history: estimates and recorded outcomes of its calls."""

    estimates: PlanEstimates
    outcomes: PlanOutcomes
    first: IntArray

    @property
    def allowed(self) -> BoolArray:
        """Where the record determines the plan's outcome."""
        return ~np.isnan(self.outcomes.quality)


class EccosPlans(TargetPolicy):
    """Plans selected and learned on the fold's history, then the constrained assignment; without quotas.

    A call may be answered only by plans whose outcome the record determines.

    Parameters
    ----------
    mode : str
        ``check`` or ``agree``.
    targets : sequence of float, optional
        As in `TargetPolicy`.
    max_calls : float
        Mean expected cores asked per call, at most.
    """

    def __init__(
        self, mode: Mode, targets: Sequence[float] | None = None, max_calls: float = MAX_CALLS_PER_QUERY
    ) -> None:
        super().__init__(targets)
        self.mode = mode
        self.max_calls = max_calls

    def promise_range(self, learned: FoldEstimates, quota: IntArray) -> tuple[float, float]:
        plans = self._plans(learned, quota)
        cheapest = route_plans(plans.estimates, allowed=plans.allowed, max_calls=self.max_calls)
        best = best_within(plans.estimates, allowed=plans.allowed, max_calls=self.max_calls)
        return cheapest.assignment.quality, best.assignment.quality

    def at(self, learned: FoldEstimates, quota: IntArray, targets: Sequence[float]) -> Iterator[Choice]:
        """As in `TargetPolicy`; `quota` must not limit anything, as a plan may use any of its cores.

        Raises
        ------
        ValueError
            A quota is less than the number of calls.
        """
        plans = self._plans(learned, quota)
        estimates, outcomes = plans.estimates, plans.outcomes
        rows = np.arange(len(estimates.quality))
        for target in targets:
            routing = route_plans(
                estimates, allowed=plans.allowed, quality_target=target, max_calls=self.max_calls
            )
            plan = routing.assignment.core
            placed = plan != WAITS
            delivered = (outcomes.quality, outcomes.cost, outcomes.calls, outcomes.seconds)
            yield Choice(
                target,
                np.where(placed, plans.first[plan], WAITS),
                estimates.quality[rows, plan],
                estimates.cost[rows, plan],
                Delivered(*(np.where(placed, array[rows, plan], np.nan) for array in delivered)),
            )

    def _plans(self, learned: FoldEstimates, quota: IntArray) -> LearnedPlans:
        fold = learned.fold
        if (quota < len(fold.calls)).any():
            raise ValueError(f"{PLAN_POLICY}: cannot be replayed with quotas")
        return _learned_plans(learned, self.mode)


_LEARNED: WeakKeyDictionary[FoldEstimates, dict[Mode, LearnedPlans]] = WeakKeyDictionary()


def _learned_plans(learned: FoldEstimates, mode: Mode) -> LearnedPlans:
    """Plans of a fold, learned once for all policies."""
    known = _LEARNED.setdefault(learned, {})
    if mode not in known:
        fold = learned.fold
        predictor = PlanPredictor(fold.cores, mode, learned.spec.make()).fit(fold.history)
        answers = recorded_answers(fold.records, fold.cores, calls=predictor.calls_)
        known[mode] = LearnedPlans(
            predictor.estimate_plans(fold.calls),
            replay_plans(answers, predictor.plans_),
            np.array([fold.names.index(plan.first) for plan in predictor.plans_]),
        )
    return known[mode]
