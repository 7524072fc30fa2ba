"""PlanPredictor: a predictor whose columns are plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.core import Core
from eccos_aios.history import Outcome, Record
from eccos_aios.plans.answers import FloatArray, PlanOutcomes, recorded_answers, replay_plans
from eccos_aios.plans.plan import FIRST_STAGE, AnswerPlan
from eccos_aios.plans.selection import PLANS, Mode, select_plans, selection_optimism
from eccos_aios.predict import (
    CallText,
    CoreExperience,
    Estimates,
    HybridPredictor,
    Predictor,
    TrainedPredictor,
    experience_of,
    prices_of,
    prior_shift,
)
from eccos_aios.verify import CallHistory, Check, call_history

REACHED = "reached:"  # before a plan's name: the column of the probability that its last stage is reached


@dataclass(frozen=True)
class PlanEstimates:
    """Estimates of N calls under P plans over M cores.

    Attributes
    ----------
    plans : tuple of AnswerPlan
        The single cores first, in the order of the manifest.
    quality, cost : ndarray of shape (N, P)
        0 to 1, and US dollars of all stages that are expected to be reached.
    calls : ndarray of shape (N, P)
        Expected cores that are asked, 1 to 3.
    reached : ndarray of shape (N, P)
        Probability that the last stage is reached; 0 for single cores.
    use : ndarray of shape (N, P, M)
        Expected calls at each core.
    cores : Estimates
        Of every single core, shape (N, M).
    """

    plans: tuple[AnswerPlan, ...]
    quality: FloatArray
    cost: FloatArray
    calls: FloatArray
    reached: FloatArray
    cores: Estimates

    @property
    def use(self) -> FloatArray:
        position = {core: column for column, core in enumerate(self.core_names)}
        use = np.zeros((*self.reached.shape, len(position)))
        for number, plan in enumerate(self.plans):
            use[:, number, [position[core] for core in plan.cores]] = 1.0
            if plan.otherwise is not None:
                use[:, number, position[plan.otherwise]] = self.reached[:, number]
        return use

    @property
    def core_names(self) -> list[str]:
        """The cores, in the order of the manifest."""
        return [plan.first for plan in self.plans if plan.kind == "single"]


class PlanPredictor(Predictor):
    """Wraps a predictor: fits it on a history extended by what plans would have given there.

    The outcome of every selected plan is replayed exactly on the records that know the cores' answers, and
    enters the history under the plan's name; the wrapped predictor estimates it as it does a core. The
    probability that a plan's last stage is reached is estimated likewise, by a predictor of its own. Both
    need nothing but the call's text.

    Parameters
    ----------
    cores : sequence of Core
    mode : str
        ``off``, ``check`` or ``agree``.
    predictor : Predictor, optional
        The wrapped predictor, not fitted. Default: the hybrid.
    allowed : sequence of str, optional
        Cores that a plan of several may ask. Default: all.
    count : int
        Plans of several cores at most.
    checks : sequence of Check, optional
        Default: the installed ones.
    """

    def __init__(
        self,
        cores: Sequence[Core],
        mode: Mode,
        predictor: Predictor | None = None,
        *,
        allowed: Sequence[str] | None = None,
        count: int = PLANS,
        checks: Sequence[Check] | None = None,
    ) -> None:
        self.cores = tuple(cores)
        self.mode = mode
        self.predictor = HybridPredictor() if predictor is None else predictor
        self.allowed = None if allowed is None else tuple(allowed)
        self.count = count
        self.checks = checks

    def fit(self, history: Sequence[Record]) -> PlanPredictor:
        """Select plans, replay them, and fit the wrapped predictor on cores and plans."""
        self.calls_: CallHistory = call_history(history)
        answers = recorded_answers(history, self.cores, calls=self.calls_, checks=self.checks)
        categories = [record.category for record in history]
        self.plans_ = tuple(
            select_plans(answers, categories, self.mode, allowed=self.allowed, count=self.count)
        )
        self.optimism_ = selection_optimism(
            answers, categories, self.mode, allowed=self.allowed, count=self.count
        )
        staged = [plan for plan in self.plans_ if plan.kind != "single"]
        outcomes = replay_plans(answers, staged)
        self.predictor_ = self.predictor.fit(_extended(history, staged, outcomes.quality))
        self.reached_prior_ = _reached_prior(outcomes)
        self.reached_: Predictor | None = None
        if staged and not np.isnan(outcomes.last).all():
            # its estimates are calibrated; the hybrid's are corrected for a choice that none makes here
            self.reached_ = TrainedPredictor().fit(_replaced(history, staged, outcomes.last))
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        """Estimates of cores and of plans by name; plans less what selection makes them look better."""
        found = self.predictor_.predict(calls, cores)
        own = {core.name for core in self.cores}
        lucky = np.array([0.0 if name in own else self.optimism_ for name in cores])
        if not lucky.any():
            return found
        return replace(found, quality=np.maximum(found.quality - lucky, 0.0))

    def experience(self, cores: Sequence[str]) -> CoreExperience | None:
        return experience_of(self.predictor_, cores)

    def estimate_plans(self, calls: Sequence[CallText], prices: FloatArray | None = None) -> PlanEstimates:
        """Estimate every call under every plan.

        Parameters
        ----------
        calls : sequence of CallText
        prices : ndarray of shape (2, M), optional
            As `prices_of` returns them. Default: those of the cores.

        Raises
        ------
        ValueError, TypeError
            The wrapped predictor returns estimates of another shape or out of range.
        """
        names = [plan.name for plan in self.plans_]
        found, sound, fault = self.predict(calls, names).checked(len(calls), names)
        if not sound.all():
            raise ValueError(f"estimates of {type(self.predictor).__name__}: {fault}")
        own = len(self.cores)
        cores = Estimates(
            found.quality[:, :own],
            found.input_tokens[:, :own],
            found.output_tokens[:, :own],
            found.support[:, :own],
        )
        quality = found.quality
        experience = self.experience([core.name for core in self.cores])
        shift = None if experience is None else prior_shift(self.cores, experience)
        if shift is not None:
            quality = quality.copy()
            quality[:, :own] = np.clip(quality[:, :own] + shift, 0.0, 1.0)
        core_cost = cores.cost_at(prices_of(self.cores) if prices is None else prices)
        reached = self._reached(calls)
        cost, asked = self._stage_sums(core_cost, reached)
        return PlanEstimates(self.plans_, quality, cost, asked, reached, cores)

    def _reached(self, calls: Sequence[CallText]) -> FloatArray:
        """Probability that the last stage is reached, shape (calls, plans); 0 for single cores."""
        reached = np.zeros((len(calls), len(self.plans_)))
        staged = [number for number, plan in enumerate(self.plans_) if plan.kind != "single"]
        if not staged:
            return reached
        if self.reached_ is None:
            reached[:, staged] = self.reached_prior_
            return reached
        names = [REACHED + self.plans_[number].name for number in staged]
        reached[:, staged] = np.clip(self.reached_.predict(calls, names).quality, 0.0, 1.0)
        return reached

    def _stage_sums(self, core_cost: FloatArray, reached: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected US dollars and expected number of cores asked, both of shape (calls, plans)."""
        position = {core.name: column for column, core in enumerate(self.cores)}
        cost, asked = np.empty(reached.shape), np.empty(reached.shape)
        for number, plan in enumerate(self.plans_):
            first = core_cost[:, [position[core] for core in plan.cores]].sum(axis=1)
            last = 0.0 if plan.otherwise is None else core_cost[:, position[plan.otherwise]]
            cost[:, number] = first + reached[:, number] * last
            asked[:, number] = FIRST_STAGE[plan.kind] + reached[:, number]
        return cost, asked


def _reached_prior(outcomes: PlanOutcomes) -> float:
    """The share of the records in which the plans' last stage was reached; one half where none is known."""
    known = ~np.isnan(outcomes.last)
    return float(outcomes.last[known].mean()) if known.any() else 0.5


def _extended(history: Sequence[Record], plans: Sequence[AnswerPlan], quality: FloatArray) -> list[Record]:
    """The records with an outcome under each plan's name, where it is known."""
    if not plans:
        return list(history)
    return [
        record.model_copy(update={"outputs": (*record.outputs, *_outcomes(plans, values, ""))})
        for record, values in zip(history, quality, strict=True)
    ]


def _replaced(history: Sequence[Record], plans: Sequence[AnswerPlan], last: FloatArray) -> list[Record]:
    """The records with nothing but whether each plan's last stage was reached."""
    return [
        record.model_copy(update={"outputs": _outcomes(plans, values, REACHED)})
        for record, values in zip(history, last, strict=True)
    ]


def _outcomes(plans: Sequence[AnswerPlan], values: FloatArray, prefix: str) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(model_name=prefix + plan.name, quality=min(max(value, 0.0), 1.0))
        for plan, value in zip(plans, values.tolist(), strict=True)
        if value == value  # not NaN
    )
