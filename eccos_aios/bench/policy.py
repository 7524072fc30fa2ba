"""Policies: each assigns the calls of a fold to cores, once for each of its levels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eccos_aios.assign import WAITS, solve
from eccos_aios.bench.fold import BoolArray, FloatArray, IntArray
from eccos_aios.bench.fold_estimates import FoldEstimates, Kind
from eccos_aios.candidates import Candidates

SMART_THRESHOLD = 0.7  # AIOS's performance_requirement
SMART_THRESHOLDS = (0.5, 0.6, SMART_THRESHOLD, 0.8, 0.9)
STEPS = 61  # quality targets of a curve, evenly between the least and the best promise
NEAR_BEST = 0.01  # below the best promise: what the cheapest plan of the corner figure reaches
UNREACHABLE = 1.0

Purpose = Literal["curve", "reference", "unreachable", "near-best"]


@dataclass(frozen=True)
class Choice:
    """Where a policy sends the calls of a fold, and the estimates by which it chose.

    Attributes
    ----------
    level : float
        The quality target or threshold; NaN for a policy that has none.
    core : ndarray of int of shape (calls,)
        `eccos_aios.assign.WAITS` where every core is full.
    quality, cost : ndarray of shape (calls,) or None
        The policy's own estimates of the chosen cores.
    delivered : Delivered or None
        What the calls got, where it is not the recorded outcome of `core`.
    """

    level: float
    core: IntArray
    quality: FloatArray | None = None
    cost: FloatArray | None = None
    delivered: Delivered | None = None


@dataclass(frozen=True)
class Delivered:
    """Recorded outcomes of the calls of a fold under plans; arrays of shape (calls,), NaN where not placed.

    Attributes
    ----------
    quality, cost : ndarray
        0 to 1, and US dollars.
    asked : ndarray
        Cores that were asked.
    seconds : ndarray
        Until the answer; NaN where a latency was not recorded, too.
    """

    quality: FloatArray
    cost: FloatArray
    asked: FloatArray
    seconds: FloatArray


class Policy(ABC):
    """Places the calls of a fold, once for each of its levels."""

    @abstractmethod
    def choices(self, learned: FoldEstimates, quota: IntArray) -> Iterator[Choice]:
        """Assign the calls by the estimates; the fold's truth is for the oracle alone.

        Parameters
        ----------
        learned : FoldEstimates
        quota : ndarray of int of shape (cores,)
            Calls that each core may take.
        """


class TargetPolicy(Policy):
    """A policy that is asked for a mean quality, and has one level per quality target.

    Parameters
    ----------
    targets : sequence of float, optional
        Default: `STEPS` targets, evenly from the least promise to the best one of the calls at hand.
    """

    def __init__(self, targets: Sequence[float] | None = None) -> None:
        self.targets = targets

    @abstractmethod
    def promise_range(self, learned: FoldEstimates, quota: IntArray) -> tuple[float, float]:
        """Promised quality at least cost, and the best that is promised at any cost."""

    @abstractmethod
    def at(self, learned: FoldEstimates, quota: IntArray, targets: Sequence[float]) -> Iterator[Choice]:
        """Assign the calls once for each target; parameters as in `choices`."""

    def choices(self, learned: FoldEstimates, quota: IntArray) -> Iterator[Choice]:
        targets = self.targets
        if targets is None:
            least, best = self.promise_range(learned, quota)
            targets = np.linspace(least, max(least, best), STEPS).tolist()
        yield from self.at(learned, quota, targets)


class CandidatePolicy(TargetPolicy):
    """The constrained assignment on some estimates."""

    @abstractmethod
    def candidates(self, learned: FoldEstimates) -> Candidates:
        """Estimates and costs of the fold's calls."""

    def promise_range(self, learned: FoldEstimates, quota: IntArray) -> tuple[float, float]:
        candidates = self.candidates(learned)
        cheapest = solve(candidates.problem(0.0, quota=quota))
        limitless = float(candidates.cost.sum()) + 1.0
        best = solve(candidates.problem(0.0, quota=quota, budget=limitless))
        return cheapest.quality, best.quality

    def at(self, learned: FoldEstimates, quota: IntArray, targets: Sequence[float]) -> Iterator[Choice]:
        candidates = self.candidates(learned)
        rows = np.arange(len(candidates.cost))
        for target in targets:
            core = solve(candidates.problem(target, quota=quota)).core
            yield Choice(target, core, candidates.quality[rows, core], candidates.cost[rows, core])


class Eccos(CandidatePolicy):
    """A predictor, then the constrained assignment; one choice a quality target."""

    def __init__(self, kind: Kind, targets: Sequence[float] | None = None) -> None:
        super().__init__(targets)
        self.kind = kind

    def candidates(self, learned: FoldEstimates) -> Candidates:
        fold, estimates = learned.fold, learned.estimates(self.kind)
        return Candidates(estimates.quality, estimates.cost(fold.cores), fold.allowed)


class Oracle(CandidatePolicy):
    """The constrained assignment on the recorded outcomes: no policy can do better."""

    def candidates(self, learned: FoldEstimates) -> Candidates:
        fold = learned.fold
        return Candidates(np.where(fold.allowed, fold.truth.quality, 0.0), fold.truth.cost, fold.allowed)


class RankingPolicy(Policy):
    """A policy of one level that ranks the cores for each call and takes the first that has quota left."""

    @abstractmethod
    def scores(self, learned: FoldEstimates) -> FloatArray:
        """Preference for each core, higher is better; shape (calls, cores)."""

    def choices(self, learned: FoldEstimates, quota: IntArray) -> Iterator[Choice]:
        yield Choice(float("nan"), in_turn(self.scores(learned), quota, learned.fold.allowed))


class First(RankingPolicy):
    """The first core of the manifest, as AIOS's sequential strategy chooses for one call at a time."""

    def scores(self, learned: FoldEstimates) -> FloatArray:
        return np.tile(-np.arange(len(learned.fold.cores), dtype=np.float64), (len(learned.fold.calls), 1))


class Random(RankingPolicy):
    """A core at random."""

    def scores(self, learned: FoldEstimates) -> FloatArray:
        shape = len(learned.fold.calls), len(learned.fold.cores)
        return np.random.default_rng(learned.fold.random).random(shape)


class Balance(RankingPolicy):
    """The cores in turn (the paper's BA)."""

    def scores(self, learned: FoldEstimates) -> FloatArray:
        calls, cores = len(learned.fold.calls), len(learned.fold.cores)
        return -((np.arange(cores) - np.arange(calls)[:, None]) % cores).astype(np.float64)


class Length(RankingPolicy):
    """The core with the shortest predicted answer (S3), regardless of quality."""

    def scores(self, learned: FoldEstimates) -> FloatArray:
        return -learned.estimates("trained").output_tokens


class Cheapest(RankingPolicy):
    """The core with the least predicted cost, regardless of quality."""

    def scores(self, learned: FoldEstimates) -> FloatArray:
        return -learned.estimates("trained").cost(learned.fold.cores)


class BestSingle(RankingPolicy):
    """The core with the best mean quality in the history, for all calls."""

    def scores(self, learned: FoldEstimates) -> FloatArray:
        quality = learned.past.quality
        known = ~np.isnan(quality)
        means = np.where(known, quality, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.tile(means, (len(learned.fold.calls), 1))


class Smart(Policy):
    """AIOS's SmartRouting by its own rule, see `FoldEstimates.neighbour_means`.

    The cheapest core whose neighbours' mean reaches the threshold, else the one of the best mean.
    """

    def choices(self, learned: FoldEstimates, quota: IntArray) -> Iterator[Choice]:
        quality, cost = learned.neighbour_means
        cheapness = 2.0 - cost / max(float(cost.max(initial=0.0)), 1e-30)
        rows = np.arange(len(quality))
        for threshold in SMART_THRESHOLDS:
            scores = np.where(quality >= threshold, cheapness, quality - 1.0)
            core = in_turn(scores, quota, learned.fold.allowed)
            yield Choice(threshold, core, quality[rows, core], cost[rows, core])


class KnnArgmax(Policy):
    """The core with the best mean among the neighbours, regardless of cost."""

    def choices(self, learned: FoldEstimates, quota: IntArray) -> Iterator[Choice]:
        quality, cost = learned.neighbour_means
        core = in_turn(quality, quota, learned.fold.allowed)
        rows = np.arange(len(quality))
        yield Choice(float("nan"), core, quality[rows, core], cost[rows, core])


def in_turn(scores: FloatArray, quota: IntArray, allowed: BoolArray) -> IntArray:
    """Each call in order of arrival to its best core with quota left; `WAITS` where none has any."""
    ranked = np.where(allowed, scores, -np.inf)
    best = ranked.argmax(axis=1)
    if (np.bincount(best, minlength=len(quota)) <= quota).all():
        return np.where(allowed.any(axis=1), best, WAITS)
    left = quota.copy()
    core = np.full(len(scores), WAITS, dtype=np.int64)
    for call, order in enumerate(np.argsort(-ranked, axis=1, kind="stable")):
        free = order[(left[order] > 0) & allowed[call, order]]
        if len(free):
            core[call] = free[0]
            left[free[0]] -= 1
    return core


def policies(targets: Sequence[float] | None = None) -> dict[str, Policy]:
    """The policies of one core a call, by name; `targets` as in `TargetPolicy`."""
    return {
        "eccos": Eccos("chosen", targets),
        "eccos-r": Eccos("retrieval", targets),
        "eccos-t": Eccos("trained", targets),
        "smart": Smart(),
        "first": First(),
        "random": Random(),
        "balance": Balance(),
        "length": Length(),
        "cheapest": Cheapest(),
        "best-single": BestSingle(),
        "knn-argmax": KnnArgmax(),
        "oracle": Oracle(targets),
    }
