"""PlanPredictor: a predictor whose columns are plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from eccos_aios.core import Core
from eccos_aios.history import Outcome, Record
from eccos_aios.plans.answers import FloatArray, IntArray, PlanOutcomes, recorded_answers, replay_plans
from eccos_aios.plans.plan import AnswerPlan, StageMatrices, stage_matrices
from eccos_aios.plans.selection import (
    LEAST_RECORDS,
    PLANS,
    Mode,
    plans_to_explore,
    select_plans,
    selection_optimism,
)
from eccos_aios.predict import (
    CallText,
    CoreExperience,
    EmbeddingPredictor,
    Estimates,
    HybridPredictor,
    Predictor,
    TrainedPredictor,
    experience_of,
    prices_of,
    prior_shift,
)
from eccos_aios.predict.dataset import core_positions
from eccos_aios.predict.encoded import EncodedCalls
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

    @classmethod
    def joined(cls, parts: Sequence[PlanEstimates]) -> PlanEstimates:
        """Estimates of parts of one batch by one predictor as a whole; at least one part."""
        first = parts[0]
        if len(parts) == 1:
            return first

        def rows(name: str, of: Sequence[Any] = parts) -> FloatArray:
            return np.concatenate([getattr(part, name) for part in of])

        cores = [part.cores for part in parts]
        return cls(
            first.plans,
            quality=rows("quality"),
            cost=rows("cost"),
            calls=rows("calls"),
            reached=rows("reached"),
            middle=rows("middle"),
            cores=Estimates(
                rows("quality", cores),
                rows("input_tokens", cores),
                rows("output_tokens", cores),
                rows("support", cores),
            ),
        )

    @property
    def use(self) -> FloatArray:
        stages = stage_matrices(self.plans, tuple(self.core_names))
        later = self.middle[:, :, None] * stages.middle + self.reached[:, :, None] * stages.last
        return np.asarray(stages.first + later, dtype=np.float64)

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
        self.explored_ = plans_to_explore(answers, self.mode, allowed=self.allowed)
        staged = [plan for plan in self.plans_ if plan.kind != "single"]
        outcomes = replay_plans(answers, staged)
        extended = _extended(history, rows, staged, outcomes.quality)
        if isinstance(self.predictor, HybridPredictor):
            self.predictor_: Predictor = self.predictor.fit(extended, [plan.name for plan in staged])
        else:
            self.predictor_ = self.predictor.fit(extended)
        self.reached_prior_ = _reached_prior(outcomes)
        self.reached_: TrainedPredictor | None = None
        if staged and not np.isnan(outcomes.last).all():
            reached = {"middle": outcomes.middle, "last": outcomes.last}
            stages = stage_matrices(self.plans_, tuple(core.name for core in self.cores))
            columns = [reached[stage][:, number - len(self.cores)] for number, stage in stages.later]
            records = _replaced(sample, _later_names(self.plans_, stages), np.stack(columns, axis=1))
            # its estimates are calibrated; the hybrid's are corrected for a choice that none makes here
            embedder = getattr(self.predictor_, "embedder_", None)  # so that a call is embedded once
            self.reached_ = TrainedPredictor().fit(records, embedder)
        self.restore()
        return self

    def restore(self) -> None:
        """Lay out the columns of the fitted predictors, which may have been loaded apart."""
        if isinstance(self.predictor_, EmbeddingPredictor) and self.reached_ is not None:
            self.reached_.embedder_ = self.predictor_.embedder_
            self.reached_.restore()
        names = tuple(core.name for core in self.cores)
        reached = () if self.reached_ is None else self.reached_.cores_
        self._columns = _Columns.of(self.plans_, names, self.optimism_, reached)
        experience = self.experience(names)
        self._shift = None if experience is None else prior_shift(self.cores, experience)

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        """Estimates of cores and of plans by name; plans less what selection makes them look better."""
        own = {core.name for core in self.cores}
        optimism = np.array([0.0 if name in own else self.optimism_ for name in cores])
        found = self.predictor_.predict(calls, cores)
        return replace(found, quality=np.maximum(found.quality - optimism, 0.0))

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
        calls = calls if isinstance(calls, EncodedCalls) else EncodedCalls(calls)
        columns, own = self._columns, len(self.cores)
        predicted = self.predictor_.predict(calls, columns.names)
        found, sound, fault = predicted.checked(len(calls), columns.names)
        if not sound.all():
            raise ValueError(f"estimates of {type(self.predictor).__name__}: {fault}")
        cores = Estimates(
            found.quality[:, :own],
            found.input_tokens[:, :own],
            found.output_tokens[:, :own],
            found.support[:, :own],
        )
        quality = np.maximum(found.quality - columns.optimism, 0.0)
        if self._shift is not None:
            quality[:, :own] = np.clip(quality[:, :own] + self._shift, 0.0, 1.0)
        core_cost = cores.cost_at(self._prices if prices is None else prices)
        reached, middle = self._reached(calls)
        cost = columns.stages.sums(core_cost, middle, reached)
        asked = columns.stages.asked_first + middle + reached
        return PlanEstimates(self.plans_, quality, cost, asked, reached, middle, cores)

    @cached_property
    def _prices(self) -> FloatArray:
        """Of the cores; litellm's price map is read once."""
        return prices_of(self.cores)

    def _reached(self, calls: EncodedCalls) -> tuple[FloatArray, FloatArray]:
        """Probability that the last and the middle stage is reached, each of shape (calls, plans)."""
        columns = self._columns
        if self.reached_ is None:
            found = np.full((len(calls), len(columns.reached)), self.reached_prior_)
        else:
            found = self.reached_.estimate_quality(calls).take(columns.reached, axis=1)
        never = np.zeros((len(calls), 1))
        found = np.concatenate([np.minimum(np.maximum(found, 0.0), 1.0), never], axis=1)
        last, middle = found.take(columns.last, axis=1), found.take(columns.middle, axis=1)
        return np.minimum(last, np.where(middle > 0, middle, 1.0)), middle


@dataclass(frozen=True, eq=False)
class _Columns:
    """Where the fitted predictors hold what of the plans.

    Attributes
    ----------
    names : tuple of str
        Cores and plans, as columns of `PlanPredictor.predictor_`.
    optimism : ndarray of shape (plans,)
        What selection makes each look better.
    stages : StageMatrices
    reached : ndarray of int of shape (later stages,)
        Of every stage after a first one, its column in the estimates of `PlanPredictor.reached_`.
    last, middle : ndarray of int of shape (plans,)
        Place of each plan's stage among those; the number of them where it has no such stage.
    """

    names: tuple[str, ...]
    optimism: FloatArray
    stages: StageMatrices
    reached: IntArray
    last: IntArray
    middle: IntArray

    @classmethod
    def of(
        cls, plans: tuple[AnswerPlan, ...], cores: tuple[str, ...], optimism: float, reached: Sequence[str]
    ) -> _Columns:
        """The columns of these plans; `reached` names those of `PlanPredictor.reached_`."""
        stages = stage_matrices(plans, cores)
        places = {
            "last": np.full(len(plans), len(stages.later)),
            "middle": np.full(len(plans), len(stages.later)),
        }
        for place, (number, stage) in enumerate(stages.later):
            places[stage][number] = place
        return cls(
            tuple(plan.name for plan in plans),
            np.array([0.0 if plan.kind == "single" else optimism for plan in plans]),
            stages,
            core_positions(tuple(reached), _later_names(plans, stages)),
            **places,
        )


def _later_names(plans: Sequence[AnswerPlan], stages: StageMatrices) -> tuple[str, ...]:
    """Columns of `reached_`: one for every stage after a first one."""
    prefix = {"middle": MIDDLE, "last": REACHED}
    return tuple(prefix[stage] + plans[number].name for number, stage in stages.later)


def _reached_prior(outcomes: PlanOutcomes) -> float:
    """The share of the records in which the plans' last stage was reached; one half where none is known."""
    known = ~np.isnan(outcomes.last)
    return float(outcomes.last[known].mean()) if known.any() else 0.5


def _compared(history: Sequence[Record]) -> IntArray:
    """Rows whose answers are checked and replayed: all, or of a long history some, drawn with a fixed seed.

    Records of several cores, or of a plan, come first: the others tell nothing of plans.
    """
    if len(history) <= COMPARED:
        return np.arange(len(history))
    several = np.flatnonzero(
        [len(record.outputs) >= 2 or any(each.plan for each in record.outputs) for record in history]
    )
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
