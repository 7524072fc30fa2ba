"""The experiment: grouped k-fold replay of recorded outcomes under every policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.bench.fold import FloatArray, IntArray, Truth, folds, recorded_truth
from eccos_aios.bench.fold_estimates import FoldEstimates
from eccos_aios.bench.policy import DEFAULT_TARGETS, Choice, policies
from eccos_aios.core import Core
from eccos_aios.history import Record
from eccos_aios.predict import PredictorSpec

OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PolicyOutcome:
    """One policy at one level over the whole history; arrays have shape (records,).

    Attributes
    ----------
    policy : str
    quotas : bool
        Whether the cores had quotas.
    level : float
        Quality target or threshold; NaN where the policy has none.
    core : ndarray of int
        Column in the manifest; -1 where no quota was left for the call or it cannot be replayed.
    quality, cost : ndarray
        Recorded quality, and US dollars; NaN where the call was not placed.
    promised_quality, promised_cost : ndarray
        The policy's estimates; NaN where it makes none.
    """

    policy: str
    quotas: bool
    level: float
    core: IntArray
    quality: FloatArray
    cost: FloatArray
    promised_quality: FloatArray
    promised_cost: FloatArray


@dataclass(frozen=True)
class Replay:
    """The results of a replay, and its data.

    Attributes
    ----------
    outcomes : tuple of PolicyOutcome
    best_single, oracle : float
        Mean quality of the best core for all calls, and of the best core for each.
    """

    cores: tuple[Core, ...]
    records: int
    folds: int
    seed: int
    best_single: float
    oracle: float
    outcomes: tuple[PolicyOutcome, ...]


def replay_history(
    history: Sequence[Record],
    cores: Sequence[Core],
    fold_count: int = 5,
    names: Sequence[str] | None = None,
    *,
    targets: Sequence[float] = DEFAULT_TARGETS,
    quotas: Sequence[bool] = (False, True),
    seed: int = 0,
    predictor: PredictorSpec | None = None,
    on_step: OnStep = lambda step, done, total: None,
) -> Replay:
    """Replay a history under policies, without and with quotas.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
        Only outcomes recorded for these can be replayed.
    fold_count : int
        Folds; records of one query are never in two.
    names : sequence of str, optional
        Policies. Default: all.
    targets : sequence of float
        Quality targets of the policies that have any.
    quotas : sequence of bool
        False: every core may take all calls. True: quotas in proportion to the cores' slots.
    seed : int
        Of the folds and of the random policy.
    predictor : PredictorSpec, optional
        The predictor of policy ``eccos``; ``eccos-r`` and ``eccos-t`` use its embedder. Default: the hybrid.
    on_step : callable
        Called with the next step, the number of steps done, and their total.

    Raises
    ------
    ValueError
        A policy is unknown, the history has no outcome of the cores, or there are too few queries.
    """
    known = policies(targets)
    chosen = list(known) if names is None else list(names)
    for name in chosen:
        if name not in known:
            raise ValueError(f"policies: {name!r}: must be among {', '.join(known)}")
    truth = recorded_truth(history, cores)
    known_cells = ~np.isnan(truth.quality)
    replayable = known_cells.any(axis=1)
    if not replayable.any():
        raise ValueError("history: no outcome of any core of the manifest")
    tables: dict[tuple[str, bool, str], _OutcomeTable] = {}
    steps, done = fold_count * len(quotas) * len(chosen), 0
    for number, fold in enumerate(folds(history, cores, fold_count, seed)):
        estimates = FoldEstimates(fold, predictor)
        for limited in quotas:
            quota = fold.share if limited else np.full(len(cores), len(fold.calls), dtype=np.int64)
            for name in chosen:
                on_step(f"fold {number + 1} of {fold_count}, {name}", done, steps)
                for choice in known[name].choices(estimates, quota):
                    key = (name, limited, repr(choice.level))
                    tables.setdefault(key, _OutcomeTable(len(history), choice.level)).enter(fold.rows, choice)
                done += 1
    on_step("", done, steps)
    means = np.where(known_cells, truth.quality, 0.0).sum(axis=0) / np.maximum(known_cells.sum(axis=0), 1)
    return Replay(
        cores=tuple(cores),
        records=int(replayable.sum()),
        folds=fold_count,
        seed=seed,
        best_single=float(means.max()),
        oracle=float(np.nanmax(truth.quality[replayable], axis=1).mean()),
        outcomes=tuple(sheet.outcome(name, limited, truth) for (name, limited, _), sheet in tables.items()),
    )


class _OutcomeTable:
    """The outcomes of one policy at one level, collected over the folds."""

    def __init__(self, records: int, level: float) -> None:
        self.level = level
        self.core = np.full(records, WAITS, dtype=np.int64)
        self.promised_quality = np.full(records, np.nan)
        self.promised_cost = np.full(records, np.nan)

    def enter(self, rows: IntArray, choice: Choice) -> None:
        self.core[rows] = choice.core
        for array, part in ((self.promised_quality, choice.quality), (self.promised_cost, choice.cost)):
            if part is not None:
                array[rows] = np.where(choice.core == WAITS, np.nan, part)

    def outcome(self, name: str, quotas: bool, truth: Truth) -> PolicyOutcome:
        """The same with the recorded qualities and costs."""
        rows = np.arange(len(self.core))
        placed = self.core != WAITS
        return PolicyOutcome(
            policy=name,
            quotas=quotas,
            level=self.level,
            core=self.core,
            quality=np.where(placed, truth.quality[rows, self.core], np.nan),
            cost=np.where(placed, truth.cost[rows, self.core], np.nan),
            promised_quality=self.promised_quality,
            promised_cost=self.promised_cost,
        )
