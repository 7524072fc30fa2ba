"""PlanPredictor: a predictor whose columns are plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eccos_aios.core import Core
from eccos_aios.history import Outcome, Record
from eccos_aios.plans.answers import FloatArray, IntArray, PlanOutcomes, recorded_answers, replay_plans
from eccos_aios.plans.plan import AnswerPlan, stages_of
from eccos_aios.plans.selection import LEAST_RECORDS, PLANS, Mode, select_plans, selection_optimism
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
COMPARED = 5_000  # records whose answers are checked and replayed
MIDDLE = "middle:"  # likewise, the stage between the first and the last


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
        Expected cores that are asked, 1 to 4.
    reached, middle : ndarray of shape (N, P)
        Probability that the last stage is reached, and the one between the first and the last; 0 where there
        is none.
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
    middle: FloatArray
    cores: Estimates

    @property
    def use(self) -> FloatArray:
        position = {core: column for column, core in enumerate(self.core_names)}
        use = np.zeros((*self.reached.shape, len(position)))
        for number, plan in enumerate(self.plans):
            for core, stage in zip(plan.every_core, stages_of(plan), strict=True):
                share = _shares(self.middle[:, number], self.reached[:, number])
                use[:, number, position[core]] = share[stage]
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
        rows = _compared(history)
        wanted = set(rows.tolist())
        sample = [record for row, record in enumerate(history) if row in wanted]
        answers = recorded_answers(sample, self.cores, calls=self.calls_, checks=self.checks)
        categories = [record.category for record in sample]
        self.plans_ = tuple(
            select_plans(answers, categories, self.mode, allowed=self.allowed, count=self.count)
        )
        self.optimism_ = selection_optimism(
            answers, categories, self.mode, allowed=self.allowed, count=self.count
        )
        staged = [plan for plan in self.plans_ if plan.kind != "single"]
        outcomes = replay_plans(answers, staged)
        self.predictor_ = self.predictor.fit(_extended(history, rows, staged, outcomes.quality))
        self.reached_prior_ = _reached_prior(outcomes)
        self.reached_: Predictor | None = None
        if staged and not np.isnan(outcomes.last).all():
            # its estimates are calibrated; the hybrid's are corrected for a choice that none makes here
            columns = _stage_columns(staged, outcomes)
            self.reached_ = TrainedPredictor().fit(
                _replaced(sample, list(columns), np.stack([*columns.values()], axis=1))
            )
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
        reached, middle = self._reached(calls)
        cost, asked = self._stage_sums(core_cost, reached, middle)
        return PlanEstimates(self.plans_, quality, cost, asked, reached, middle, cores)

    def _reached(self, calls: Sequence[CallText]) -> tuple[FloatArray, FloatArray]:
        """Probability that the last and the middle stage is reached, each of shape (calls, plans)."""
        reached, middle = (np.zeros((len(calls), len(self.plans_))) for _ in range(2))
        columns = {
            name: (array, number)
            for number, plan in enumerate(self.plans_)
            for name, array in _stage_names(plan, reached, middle)
        }
        if not columns:
            return reached, middle
        names = list(columns)
        if self.reached_ is None:
            found = np.full((len(calls), len(names)), self.reached_prior_)
        else:
            found = np.clip(self.reached_.predict(calls, names).quality, 0.0, 1.0)
        for place, (array, number) in enumerate(columns.values()):
            array[:, number] = found[:, place]
        return np.minimum(reached, np.where(middle > 0, middle, 1.0)), middle

    def _stage_sums(
        self, core_cost: FloatArray, reached: FloatArray, middle: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Expected US dollars and expected number of cores asked, both of shape (calls, plans)."""
        position = {core.name: column for column, core in enumerate(self.cores)}
        cost, asked = np.zeros(reached.shape), np.zeros(reached.shape)
        for number, plan in enumerate(self.plans_):
            share = _shares(middle[:, number], reached[:, number])
            for core, stage in zip(plan.every_core, stages_of(plan), strict=True):
                cost[:, number] += share[stage] * core_cost[:, position[core]]
                asked[:, number] += share[stage]
        return cost, asked


def _shares(middle: FloatArray, reached: FloatArray) -> dict[str, FloatArray]:
    """By stage, how often it is reached, shape (calls,)."""
    return {"first": np.ones(len(middle)), "middle": middle, "last": reached}


def _stage_names(plan: AnswerPlan, reached: FloatArray, middle: FloatArray) -> list[tuple[str, FloatArray]]:
    """The columns of a plan's later stages, each with the one of two arrays that it belongs to."""
    columns = {"middle": (MIDDLE + plan.name, middle), "last": (REACHED + plan.name, reached)}
    return [columns[stage] for stage in stages_of(plan) if stage != "first"]


def _stage_columns(plans: Sequence[AnswerPlan], outcomes: PlanOutcomes) -> dict[str, FloatArray]:
    """Whether each later stage of each plan was reached, shape (records,)."""
    return {
        name: array[:, number]
        for number, plan in enumerate(plans)
        for name, array in _stage_names(plan, outcomes.last, outcomes.middle)
    }


def _reached_prior(outcomes: PlanOutcomes) -> float:
    """The share of the records in which the plans' last stage was reached; one half where none is known."""
    known = ~np.isnan(outcomes.last)
    return float(outcomes.last[known].mean()) if known.any() else 0.5


def _compared(history: Sequence[Record]) -> IntArray:
    """Rows whose answers are checked and replayed: all, or of a long history some, drawn with a fixed seed.

    Records of several cores come first: the others tell nothing of plans.
    """
    if len(history) <= COMPARED:
        return np.arange(len(history))
    several = np.flatnonzero([len(record.outputs) >= 2 for record in history])
    pool = several if len(several) >= LEAST_RECORDS else np.arange(len(history))
    return np.sort(np.random.default_rng(0).choice(pool, min(COMPARED, len(pool)), replace=False))


def _extended(
    history: Sequence[Record], rows: IntArray, plans: Sequence[AnswerPlan], quality: FloatArray
) -> Sequence[Record]:
    """The records, those of `rows` with an outcome under each plan's name where it is known."""
    if not plans:
        return history
    names = [plan.name for plan in plans]
    extended = list(history)
    for row, values in zip(rows.tolist(), quality, strict=True):
        outputs = (*extended[row].outputs, *_outcomes(names, values))
        extended[row] = extended[row].model_copy(update={"outputs": outputs})
    return extended


def _replaced(history: Sequence[Record], names: Sequence[str], values: FloatArray) -> list[Record]:
    """The records with nothing but outcomes of the names, where they are known."""
    return [
        record.model_copy(update={"outputs": _outcomes(names, row)})
        for record, row in zip(history, values, strict=True)
    ]


def _outcomes(names: Sequence[str], values: FloatArray) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(model_name=name, quality=min(max(value, 0.0), 1.0))
        for name, value in zip(names, values.tolist(), strict=True)
        if value == value  # not NaN
    )
