"""Plans: which cores answer a call, in which stages, and what that gives. See the README here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_aios.lazy import lazy_names
from eccos_aios.plans.plan import AnswerPlan as AnswerPlan
from eccos_aios.plans.progress import PlanProgress as PlanProgress

# The scheduler runs plans without learning them; NumPy and the solver take long to import.
if TYPE_CHECKING:
    from eccos_aios.plans.answers import PlanOutcomes as PlanOutcomes
    from eccos_aios.plans.answers import RecordedAnswers as RecordedAnswers
    from eccos_aios.plans.answers import recorded_answers as recorded_answers
    from eccos_aios.plans.answers import replay_plans as replay_plans
    from eccos_aios.plans.predictor import PlanEstimates as PlanEstimates
    from eccos_aios.plans.predictor import PlanPredictor as PlanPredictor
    from eccos_aios.plans.routing import MAX_CALLS_PER_QUERY as MAX_CALLS_PER_QUERY
    from eccos_aios.plans.routing import PlanRouting as PlanRouting
    from eccos_aios.plans.routing import best_within as best_within
    from eccos_aios.plans.routing import route_plans as route_plans
    from eccos_aios.plans.selection import Mode as Mode
    from eccos_aios.plans.selection import candidate_plans as candidate_plans
    from eccos_aios.plans.selection import default_plans as default_plans
    from eccos_aios.plans.selection import select_plans as select_plans
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "answers": "PlanOutcomes RecordedAnswers recorded_answers replay_plans",
            "predictor": "PlanEstimates PlanPredictor",
            "routing": "MAX_CALLS_PER_QUERY PlanRouting best_within route_plans",
            "selection": "Mode candidate_plans default_plans select_plans",
        },
    )
    __all__ += ["AnswerPlan", "PlanProgress"]
