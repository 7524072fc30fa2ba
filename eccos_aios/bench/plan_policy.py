"""EccosPlans: the policy whose calls are answered by plans, replayed on the recorded answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.bench.fold import IntArray
from eccos_aios.bench.fold_estimates import FoldEstimates
from eccos_aios.bench.policy import Choice, Delivered, Policy
from eccos_aios.plans import (
    MAX_CALLS_PER_QUERY,
    Mode,
    PlanPredictor,
    recorded_answers,
    replay_plans,
    route_plans,
)

PLAN_POLICY = "eccos-plans"


class EccosPlans(Policy):
    """Plans selected and learned on the fold's history, then the constrained assignment; without quotas.

    A call may be answered only by plans whose outcome the record determines.

    Parameters
    ----------
    mode : str
        ``check`` or ``agree``.
    targets : sequence of float
    max_calls : float
        Mean expected cores asked per call, at most.
    """

    def __init__(self, mode: Mode, targets: Sequence[float], max_calls: float = MAX_CALLS_PER_QUERY) -> None:
        self.mode = mode
        self.targets = targets
        self.max_calls = max_calls

    def choices(self, learned: FoldEstimates, quota: IntArray) -> Iterator[Choice]:
        """As in `Policy`; `quota` must not limit anything, as a plan may use any of its cores.

        Raises
        ------
        ValueError
            A quota is less than the number of calls.
        """
        fold = learned.fold
        if (quota < len(fold.calls)).any():
            raise ValueError(f"{PLAN_POLICY}: cannot be replayed with quotas")
        predictor = PlanPredictor(fold.cores, self.mode, learned.spec.make()).fit(fold.history)
        estimates = predictor.estimate_plans(fold.calls)
        answers = recorded_answers(fold.records, fold.cores, calls=predictor.calls_)
        outcomes = replay_plans(answers, predictor.plans_)
        first = np.array([fold.names.index(plan.first) for plan in predictor.plans_])
        rows = np.arange(len(fold.calls))
        for target in self.targets:
            routing = route_plans(
                estimates,
                allowed=~np.isnan(outcomes.quality),
                quality_target=target,
                max_calls=self.max_calls,
            )
            plan = routing.assignment.core
            placed = plan != WAITS
            yield Choice(
                target,
                np.where(placed, first[plan], WAITS),
                estimates.quality[rows, plan],
                estimates.cost[rows, plan],
                Delivered(
                    *(
                        np.where(placed, array[rows, plan], np.nan)
                        for array in (outcomes.quality, outcomes.cost, outcomes.calls)
                    )
                ),
            )
