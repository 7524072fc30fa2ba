"""The experiment: recorded outcomes replayed under every policy, by folds or on other records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.bench.fold import FloatArray, Fold, IntArray, Truth, folds, held_out, recorded_truth
from eccos_aios.bench.fold_estimates import FoldEstimates
from eccos_aios.bench.mix import Mix
from eccos_aios.bench.plan_policy import PLAN_POLICY, UNBOUNDED, UNBOUNDED_PLAN_POLICY, EccosPlans
from eccos_aios.bench.policy import (
    NEAR_BEST,
    SMART_THRESHOLD,
    UNREACHABLE,
    Choice,
    Delivered,
    Oracle,
    Policy,
    Purpose,
    Smart,
    TargetPolicy,
    policies,
)
from eccos_aios.core import Core
from eccos_aios.history import Record
from eccos_aios.plans import MAX_CALLS_PER_QUERY, Mode
from eccos_aios.predict import PredictorSpec

if TYPE_CHECKING:
    import pandas

OnStep = Callable[[str, int, int], None]

MIX_POLICY = "mix"
WITHOUT_QUOTAS = (
    PLAN_POLICY,
    UNBOUNDED_PLAN_POLICY,
    MIX_POLICY,
)  # policies that are not replayed with quotas
MORE_THAN_BASELINE = 0.01  # of quality, that the reference asks for beyond SmartRouting's


@dataclass(frozen=True)
class Options:
    """What is replayed.

    Parameters
    ----------
    names : sequence of str, optional
        Policies. Default: all.
    targets : sequence of float, optional
        Quality targets of the policies that have any. Default: 61 over each one's promises.
    quotas : sequence of bool
        False: every core may take all calls. True: quotas in proportion to the cores' slots; not for plans
        and the mix.
    predictor : PredictorSpec, optional
        The predictor of policy ``eccos``; ``eccos-r`` and ``eccos-t`` use its embedder. Default: the hybrid.
    plans : str
        ``check`` or ``agree`` adds policy ``eccos-plans``, which replays the recorded answers; ``agree``
        also ``eccos-plans-unbounded``.
    max_calls : float
        Mean expected cores asked per call under plans, at most.
    """

    names: Sequence[str] | None = None
    targets: Sequence[float] | None = None
    quotas: Sequence[bool] = (False, True)
    predictor: PredictorSpec | None = None
    plans: Mode = "off"
    max_calls: float = MAX_CALLS_PER_QUERY

    def policies(self) -> dict[str, Policy]:
        """The chosen policies by name.

        Raises
        ------
        ValueError
            There is no such policy.
        """
        known = policies(self.targets)
        known[MIX_POLICY] = Mix(self.targets)
        if self.plans != "off":
            known[PLAN_POLICY] = EccosPlans(self.plans, self.targets, self.max_calls)
        if self.plans == "agree" and self.max_calls < UNBOUNDED:
            known[UNBOUNDED_PLAN_POLICY] = EccosPlans(self.plans, self.targets, UNBOUNDED)
        chosen = list(known) if self.names is None else list(self.names)
        chosen += [
            name for name in (PLAN_POLICY, UNBOUNDED_PLAN_POLICY) if name in known and name not in chosen
        ]
        for name in chosen:
            if name not in known:
                raise ValueError(f"policies: {name!r}: must be among {', '.join(known)}")
        return {name: known[name] for name in chosen}


@dataclass(frozen=True)
class PolicyOutcome:
    """One policy at one level over all records; arrays have shape (records,).

    Attributes
    ----------
    policy : str
    quotas : bool
        Whether the cores had quotas.
    purpose : str
        ``curve``; ``reference``: the target is SmartRouting's quality and one point; ``unreachable``: the
        target is 1; ``near-best``: the best promise less one point.
    step : int
        Position on the curve.
    level : float
        Quality target or threshold, the mean over the folds; NaN where the policy has none.
    core : ndarray of int
        Column in the manifest; -1 where no quota was left for the call or it cannot be replayed.
    quality, cost : ndarray
        Recorded quality, and US dollars; NaN where the call was not placed.
    promised_quality, promised_cost : ndarray
        The policy's estimates; NaN where it makes none.
    asked : ndarray
        Cores that were asked, 1 for a policy without plans; NaN where the call was not placed.
    seconds : ndarray
        Recorded seconds until the answer; NaN where unknown.
    """

    policy: str
    quotas: bool
    purpose: Purpose
    step: int
    level: float
    core: IntArray
    quality: FloatArray
    cost: FloatArray
    promised_quality: FloatArray
    promised_cost: FloatArray
    asked: FloatArray
    seconds: FloatArray


@dataclass(frozen=True)
class Replay:
    """The results of a replay, and its data.

    Attributes
    ----------
    records, learned : int
        Records that were measured, and records that each fold learned from.
    folds : int
        1 for a replay of other records than the history's.
    best_single, oracle : float
        Mean quality of the best core for all calls, and of the best core for each.
    least_cost : ndarray of shape (records,)
        US dollars of the cheapest core for each call.
    """

    cores: tuple[Core, ...]
    records: int
    learned: int
    folds: int
    seed: int
    best_single: float
    oracle: float
    least_cost: FloatArray
    outcomes: tuple[PolicyOutcome, ...]

    def to_frame(self) -> pandas.DataFrame:
        """A pandas DataFrame with a row per policy and level, with standard errors and 95 % intervals.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        from eccos_aios.bench.report import points_frame

        return points_frame(self)


def replay_history(
    history: Sequence[Record],
    cores: Sequence[Core],
    fold_count: int = 5,
    names: Sequence[str] | None = None,
    *,
    targets: Sequence[float] | None = None,
    quotas: Sequence[bool] = (False, True),
    seed: int = 0,
    predictor: PredictorSpec | None = None,
    plans: Mode = "off",
    max_calls: float = MAX_CALLS_PER_QUERY,
    on_step: OnStep = lambda step, done, total: None,
) -> Replay:
    """Replay a history under policies by grouped k-fold cross-validation; parameters also as in `Options`.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
        Only outcomes recorded for these can be replayed.
    fold_count : int
        Folds; records of one query are never in two.
    seed : int
        Of the folds and of the random policy.
    on_step : callable
        Called with the next step, the number of steps done, and their total.

    Raises
    ------
    ValueError
        A policy is unknown, the history has no outcome of the cores, or there are too few queries.
    """
    options = Options(names, targets, quotas, predictor, plans, max_calls)
    chosen = options.policies()
    truth = recorded_truth(history, cores)
    _require_outcomes(truth, "history")
    made = list(folds(history, cores, fold_count, seed))
    return _replay(made, cores, truth, chosen, options, seed, on_step)


def replay_test(
    history: Sequence[Record],
    test: Sequence[Record],
    cores: Sequence[Core],
    options: Options | None = None,
    *,
    seed: int = 0,
    on_step: OnStep = lambda step, done, total: None,
) -> Replay:
    """Learn from a history and replay other records; otherwise as `replay_history`."""
    options = options or Options()
    chosen = options.policies()
    truth = recorded_truth(test, cores)
    _require_outcomes(recorded_truth(history, cores), "history")
    _require_outcomes(truth, "test")
    fold = held_out(history, test, cores, seed)
    return replay_fold(replace(fold, rows=fold.rows - len(history)), truth, chosen, options, seed, on_step)


def replay_fold(
    fold: Fold,
    truth: Truth,
    chosen: dict[str, Policy],
    options: Options,
    seed: int,
    on_step: OnStep = lambda step, done, total: None,
) -> Replay:
    """Replay one fold; `truth` holds all records that `fold.rows` counts."""
    return _replay([fold], fold.cores, truth, chosen, options, seed, on_step)


def _replay(
    made: Sequence[Fold],
    cores: Sequence[Core],
    truth: Truth,
    chosen: dict[str, Policy],
    options: Options,
    seed: int,
    on_step: OnStep,
) -> Replay:
    known = ~np.isnan(truth.quality)
    replayable = known.any(axis=1)
    tables: dict[tuple[str, bool, Purpose, int], _OutcomeTable] = {}
    replayed = [
        (limited, name)
        for limited in options.quotas
        for name in chosen
        if not (limited and name in WITHOUT_QUOTAS)
    ]
    done, steps = 0, len(made) * len(replayed)
    for number, fold in enumerate(made):
        estimates = FoldEstimates(fold, options.predictor)
        for limited, name in replayed:
            on_step(f"fold {number + 1} of {len(made)}, {name}" if len(made) > 1 else name, done, steps)
            quota = fold.share if limited else np.full(len(cores), len(fold.calls), dtype=np.int64)
            for purpose, step, choice in _choices(chosen[name], estimates, quota, limited, "smart" in chosen):
                key = (name, limited, purpose, step)
                tables.setdefault(key, _OutcomeTable(len(known))).enter(fold.rows, choice)
            done += 1
    on_step("", done, steps)
    means = np.where(known, truth.quality, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return Replay(
        cores=tuple(cores),
        records=int(replayable.sum()),
        learned=round(float(np.mean([len(fold.history) for fold in made]))),
        folds=len(made),
        seed=seed,
        best_single=float(means.max()),
        oracle=float(np.nanmax(truth.quality[replayable], axis=1).mean()),
        least_cost=np.nanmin(np.where(known | ~replayable[:, None], truth.cost, np.nan), axis=1),
        outcomes=tuple(table.outcome(*key, truth) for key, table in tables.items()),
    )


def _choices(
    policy: Policy, estimates: FoldEstimates, quota: IntArray, limited: bool, with_reference: bool
) -> Iterator[tuple[Purpose, int, Choice]]:
    """A policy's curve and, of one that promises by estimates, the single targets that need no hindsight."""
    for step, choice in enumerate(policy.choices(estimates, quota)):
        yield "curve", step, choice
    if limited or not isinstance(policy, TargetPolicy) or isinstance(policy, Mix | Oracle):
        return
    asked: dict[Purpose, float] = {
        "unreachable": UNREACHABLE,
        "near-best": max(policy.promise_range(estimates, quota)[1] - NEAR_BEST, 0.0),
    }
    if with_reference:
        asked["reference"] = min(_baseline_quality(estimates, quota) + MORE_THAN_BASELINE, 1.0)
    for purpose, target in asked.items():
        for choice in policy.at(estimates, quota, [target]):
            yield purpose, 0, choice


def _baseline_quality(estimates: FoldEstimates, quota: IntArray) -> float:
    """What SmartRouting delivers at AIOS's threshold."""
    fold = estimates.fold
    choice = next(choice for choice in Smart().choices(estimates, quota) if choice.level == SMART_THRESHOLD)
    placed = np.flatnonzero(choice.core != WAITS)
    return float(fold.truth.quality[placed, choice.core[placed]].mean())


def _require_outcomes(truth: Truth, name: str) -> None:
    if np.isnan(truth.quality).all():
        raise ValueError(f"{name}: no outcome of any core of the manifest")


class _OutcomeTable:
    """The outcomes of one policy at one level, collected over the folds."""

    def __init__(self, records: int) -> None:
        self.levels: list[float] = []
        self.core = np.full(records, WAITS, dtype=np.int64)
        self.promised_quality = np.full(records, np.nan)
        self.promised_cost = np.full(records, np.nan)
        self.delivered: Delivered | None = None

    def enter(self, rows: IntArray, choice: Choice) -> None:
        self.levels.append(choice.level)
        self.core[rows] = choice.core
        for array, part in ((self.promised_quality, choice.quality), (self.promised_cost, choice.cost)):
            if part is not None:
                array[rows] = np.where(choice.core == WAITS, np.nan, part)
        if choice.delivered is not None:
            if self.delivered is None:
                self.delivered = Delivered(*(np.full(len(self.core), np.nan) for _ in range(4)))
            for name in ("quality", "cost", "asked", "seconds"):
                getattr(self.delivered, name)[rows] = getattr(choice.delivered, name)

    def outcome(self, name: str, quotas: bool, purpose: Purpose, step: int, truth: Truth) -> PolicyOutcome:
        """The same with the recorded qualities, costs and seconds."""
        rows = np.arange(len(self.core))
        placed = self.core != WAITS
        delivered = self.delivered or Delivered(
            quality=np.where(placed, truth.quality[rows, self.core], np.nan),
            cost=np.where(placed, truth.cost[rows, self.core], np.nan),
            asked=np.where(placed, 1.0, np.nan),
            seconds=np.where(placed, truth.seconds[rows, self.core], np.nan),
        )
        return PolicyOutcome(
            policy=name,
            quotas=quotas,
            purpose=purpose,
            step=step,
            # the mean of equal floats may differ from them
            level=self.levels[0] if len(set(self.levels)) == 1 else float(np.mean(self.levels)),
            core=self.core,
            quality=delivered.quality,
            cost=delivered.cost,
            promised_quality=self.promised_quality,
            promised_cost=self.promised_cost,
            asked=delivered.asked,
            seconds=delivered.seconds,
        )
