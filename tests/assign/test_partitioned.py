"""A batch in parts is assigned as the same batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eccos_aios.assign import WAITS, AssignmentProblem, solve
from eccos_aios.assign.partitioned import PartedAssignment, PartedProblem
from eccos_aios.assign.parts import Part

Array = NDArray[Any]
CALLS, CORES, PARTS = 3_000, 5, 4
MOST_OPEN = 300  # so few that prices place nearly all


class LocalParts:
    """Parts in memory."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def each(
        self, work: Callable[..., Any], *several: Sequence[Any], common: Sequence[Any] = ()
    ) -> list[Any]:
        own = zip(*several, strict=True) if several else [()] * len(self.parts)
        return [work(part, *items, *common) for part, items in zip(self.parts, own, strict=True)]

    def keep(
        self, work: Callable[..., Any], *several: Sequence[Any], common: Sequence[Any] = ()
    ) -> tuple[list[Any], list[Any]]:
        pairs = self.each(work, *several, common=common)
        return [kept for kept, _ in pairs], [small for _, small in pairs]


class Made:
    """A made-up batch; cores get better and dearer from one to the next."""

    def __init__(self, kind: str) -> None:
        random = np.random.default_rng(1)
        skill, price = np.linspace(0.2, 0.9, CORES), 10 ** np.linspace(-5, -3, CORES)
        ease = random.random((CALLS, 1))
        noise = 0.1 * random.standard_normal((CALLS, CORES))
        quality = np.clip(0.5 * skill + 0.5 * ease + noise, 0, 1)
        cost = price * random.uniform(0.5, 2, (CALLS, 1))
        self.allowed = np.ones((CALLS, CORES), dtype=bool)
        self.quota = np.full(CORES, CALLS)
        if kind == "quotas":
            self.quota = np.full(CORES, int(1.3 * CALLS / CORES))
        elif kind == "short quotas, some cores refuse":
            self.allowed = random.random((CALLS, CORES)) < 0.7
            self.quota = np.full(CORES, int(0.9 * CALLS / CORES))
        elif kind == "all the same":
            quality[:], cost[:] = skill, price
        elif kind == "ten queries, repeated, and quotas":
            again = random.integers(0, 10, CALLS)
            quality, cost = quality[again], cost[again]
            self.quota = np.full(CORES, int(1.3 * CALLS / CORES))
        elif kind == "twin cores":
            quality[:, 1], cost[:, 1] = quality[:, 0], cost[:, 0]
            self.quota = np.full(CORES, int(1.3 * CALLS / CORES))
        self.quality, self.cost = quality.astype(np.float32), cost.astype(np.float32)

    def problem(self, target: float, budget: float | None) -> AssignmentProblem:
        quality, cost = self.quality.astype(np.float64), self.cost.astype(np.float64)
        return AssignmentProblem(cost, quality, self.quota, target, self.allowed, budget=budget)

    def parts(self) -> LocalParts:
        ends = np.linspace(0, CALLS, PARTS + 1).astype(int)
        slices = [slice(*pair) for pair in pairwise(ends)]
        return LocalParts([Part(self.cost[each], self.quality[each], self.allowed[each]) for each in slices])

    def check(self, found: PartedAssignment) -> Array:
        """The cores of all calls: those that are allowed, within their quotas, and as told."""
        core = np.concatenate(found.cores)
        placed = np.flatnonzero(core != WAITS)
        assert self.allowed[placed, core[placed]].all()
        assert (found.load <= self.quota).all()
        assert (np.bincount(core[placed], minlength=CORES) == found.load).all()
        chosen = placed, core[placed]
        assert found.assignment.cost == pytest.approx(self.cost[chosen].sum(dtype=np.float64))
        assert found.assignment.quality == pytest.approx(self.quality[chosen].mean(dtype=np.float64))
        return core


KINDS = (
    "no limits",
    "quotas",
    "short quotas, some cores refuse",
    "all the same",
    "ten queries, repeated, and quotas",
    "twin cores",
)
GOALS = [(0.5, None), (0.7, None), (0.99, None), (0.0, CALLS * 1e-4), (0.0, 1e-9)]


@pytest.mark.parametrize("kind", KINDS)
def test_as_good_as_at_once(kind: str) -> None:
    made = Made(kind)
    parted = PartedProblem(made.parts(), made.quota, MOST_OPEN)
    for target, budget in GOALS:
        once, found = solve(made.problem(target, budget)), parted.solve(target=target, budget=budget)
        made.check(found)
        assert found.load.sum() == (once.core != WAITS).sum()
        told = found.assignment
        assert told.met == once.met
        if budget is None:
            assert told.cost <= once.cost * 1.001
            assert told.quality >= once.quality - (0 if once.met else 1e-3) - 1e-2 * (told.cost < once.cost)
            assert np.isfinite(told.lower_bound) == np.isfinite(once.lower_bound)
        else:
            assert told.quality >= once.quality - 5e-4
        if once.met and budget is None:
            assert told.quality >= target - 1e-9
            assert told.gap <= 1e-3
            assert told.lower_bound <= once.cost * (1 + 1e-9)


def test_the_same_calls_wait_where_quotas_are_short() -> None:
    made = Made("short quotas, some cores refuse")
    found = PartedProblem(made.parts(), made.quota, MOST_OPEN).solve(target=0.3)
    waits = made.check(found) == WAITS
    assert (waits == (solve(made.problem(0.3, None)).core == WAITS)).all()
    assert waits.sum() > CALLS // 20


def test_few_calls_are_solved_at_once() -> None:
    made = Made("quotas")
    found = PartedProblem(made.parts(), made.quota, CALLS).solve(target=0.5)
    assert (made.check(found) == solve(made.problem(0.5, None)).core).all()


def test_a_batch_without_calls() -> None:
    part = Part(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2), dtype=bool))
    found = PartedProblem(LocalParts([part]), np.array([3, 3])).solve(target=0.5)
    assert found.load.tolist() == [0, 0]
    assert not found.assignment.met
