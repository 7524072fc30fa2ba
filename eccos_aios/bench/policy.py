"""Policies: who places the calls of a fold. One class with one method; the replay knows no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eccos_aios.assign import WAITS, solve
from eccos_aios.bench.fold import BoolArray, FloatArray, IntArray
from eccos_aios.bench.lesson import Kind, Lesson
from eccos_aios.candidates import Candidates

DEFAULT_TARGETS = (0.3, 0.4, *(round(0.5 + 0.01 * step, 2) for step in range(51)))


@dataclass(frozen=True)
class Choice:
    """Where a policy sends the calls of a fold, and what it promised.

    Attributes
    ----------
    level : float
        The quality target or threshold; NaN for a policy that has none.
    core : ndarray of int of shape (calls,)
        `eccos_aios.assign.WAITS` where every core is full.
    quality, cost : ndarray of shape (calls,) or None
        As the policy estimated them for the chosen cells.
    """

    level: float
    core: IntArray
    quality: FloatArray | None = None
    cost: FloatArray | None = None


class Policy(ABC):
    """Places the calls of a fold, once for each of its levels."""

    @abstractmethod
    def choices(self, lesson: Lesson, quota: IntArray) -> Iterator[Choice]:
        """Place the calls by what was learned; the fold's truth is for the oracle alone.

        Parameters
        ----------
        lesson : Lesson
        quota : ndarray of int of shape (cores,)
            Calls that each core may take.
        """


class Eccos(Policy):
    """A predictor, then the constrained assignment; one choice a quality target."""

    def __init__(self, kind: Kind, targets: Sequence[float]) -> None:
        self.kind = kind
        self.targets = targets

    def choices(self, lesson: Lesson, quota: IntArray) -> Iterator[Choice]:
        fold, estimates = lesson.fold, lesson.estimates(self.kind)
        candidates = Candidates(estimates.quality, estimates.cost(fold.cores), fold.allowed)
        yield from _assigned(candidates, quota, self.targets)


class Oracle(Policy):
    """The constrained assignment on what really came out: no policy can do better."""

    def __init__(self, targets: Sequence[float]) -> None:
        self.targets = targets

    def choices(self, lesson: Lesson, quota: IntArray) -> Iterator[Choice]:
        fold = lesson.fold
        quality = np.where(fold.allowed, fold.truth.quality, 0.0)
        candidates = Candidates(quality, fold.truth.cost, fold.allowed)
        yield from _assigned(candidates, quota, self.targets)


class Fixed(Policy):
    """A policy of one level that ranks the cores of each call, and takes them as they are free."""

    @abstractmethod
    def scores(self, lesson: Lesson) -> FloatArray:
        """The higher, the sooner; shape (calls, cores)."""

    def choices(self, lesson: Lesson, quota: IntArray) -> Iterator[Choice]:
        yield Choice(float("nan"), in_turn(self.scores(lesson), quota, lesson.fold.allowed))


class First(Fixed):
    """The first core of the manifest: what AIOS's sequential strategy does with one call at a time."""

    def scores(self, lesson: Lesson) -> FloatArray:
        return np.tile(-np.arange(len(lesson.fold.cores), dtype=np.float64), (len(lesson.fold.calls), 1))


class Random(Fixed):
    """Any core."""

    def scores(self, lesson: Lesson) -> FloatArray:
        shape = len(lesson.fold.calls), len(lesson.fold.cores)
        return np.random.default_rng(lesson.fold.random).random(shape)


class Balance(Fixed):
    """The least loaded core (the paper's BA): calls go round."""

    def scores(self, lesson: Lesson) -> FloatArray:
        calls, cores = len(lesson.fold.calls), len(lesson.fold.cores)
        return -((np.arange(cores) - np.arange(calls)[:, None]) % cores).astype(np.float64)


class Length(Fixed):
    """The core of the shortest predicted answer (S3), whatever its quality."""

    def scores(self, lesson: Lesson) -> FloatArray:
        return -lesson.estimates("trained").output_tokens


class Cheapest(Fixed):
    """The core of the least predicted cost, whatever its quality."""

    def scores(self, lesson: Lesson) -> FloatArray:
        return -lesson.estimates("trained").cost(lesson.fold.cores)


class BestSingle(Fixed):
    """The core of the best mean in the history, for all calls."""

    def scores(self, lesson: Lesson) -> FloatArray:
        quality = lesson.past.quality
        known = ~np.isnan(quality)
        means = np.where(known, quality, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.tile(means, (len(lesson.fold.calls), 1))


def in_turn(scores: FloatArray, quota: IntArray, allowed: BoolArray) -> IntArray:
    """Each call in order of arrival to its best core that still has room; `WAITS` where none has."""
    ranked = np.where(allowed, scores, -np.inf)
    best = ranked.argmax(axis=1)
    if (np.bincount(best, minlength=len(quota)) <= quota).all():
        return np.where(allowed.any(axis=1), best, WAITS)
    room = quota.copy()
    core = np.full(len(scores), WAITS, dtype=np.int64)
    for call, order in enumerate(np.argsort(-ranked, axis=1, kind="stable")):
        free = order[(room[order] > 0) & allowed[call, order]]
        if len(free):
            core[call] = free[0]
            room[free[0]] -= 1
    return core


def _assigned(candidates: Candidates, quota: IntArray, targets: Sequence[float]) -> Iterator[Choice]:
    rows = np.arange(len(candidates.cost))
    for target in targets:
        core = solve(candidates.problem(target, quota=quota)).core
        yield Choice(target, core, candidates.quality[rows, core], candidates.cost[rows, core])


def policies(targets: Sequence[float] = DEFAULT_TARGETS) -> dict[str, Policy]:
    """All policies by name."""
    from eccos_aios.bench.smart import KnnArgmax, Smart

    return {
        "eccos": Eccos("hybrid", targets),
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
