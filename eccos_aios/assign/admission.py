"""Admission: which calls are placed where there are more calls than slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from eccos_aios.assign.problem import BoolArray, FloatArray, IntArray

RUN = 4096  # calls that are counted by kind at once


def admit(allowed: BoolArray, quota: IntArray, weight: FloatArray | None) -> BoolArray:
    """The largest set of calls that the cores can hold together, the heavier first, then the earlier.

    Sets of calls that the cores can hold together are the independent sets of a transversal matroid, so
    taking calls in order of weight whenever they still fit gives the heaviest set, and a largest one.

    Parameters
    ----------
    allowed : ndarray of bool of shape (N, M)
    quota : ndarray of shape (M,)
    weight : ndarray of shape (N,) or None

    Returns
    -------
    ndarray of bool of shape (N,)
    """
    able = (allowed & (quota > 0)).any(axis=1)
    order = np.arange(len(able)) if weight is None else np.argsort(-weight, kind="stable")
    order = order[able[order]]
    admitted = np.zeros(len(able), dtype=bool)
    if allowed[able].all():
        admitted[order[: int(quota.sum())]] = True
        return admitted
    kinds, kind_of = kinds_of(allowed)
    ordered = kind_of[order]
    runs = [ordered[start : start + RUN] for start in range(0, len(ordered), RUN)]
    counts = [np.bincount(run, minlength=len(kinds)) for run in runs]
    first = admitted_counts(kinds, counts, quota, runs.__getitem__)
    admitted[order] = np.concatenate(
        [first_of_each(run, count) for run, count in zip(runs, first, strict=True)]
    )
    return admitted


def kinds_of(allowed: BoolArray) -> tuple[BoolArray, IntArray]:
    """The kinds of calls (the cores that they may go to), shape (kinds, M), and the kind of each call."""
    if allowed.all():
        return allowed[:1], np.zeros(len(allowed), dtype=np.int64)
    packed, kind = np.unique(np.packbits(allowed, axis=1), axis=0, return_inverse=True)
    kinds = np.unpackbits(packed, axis=1, count=allowed.shape[1]).astype(np.bool_)
    return kinds, np.ravel(kind)


def admitted_counts(
    kinds: BoolArray, counts: Sequence[IntArray], quota: IntArray, run: Callable[[int], IntArray]
) -> list[IntArray]:
    """How many calls of each kind `admit` takes in each of several runs of calls; always the first ones.

    Parameters
    ----------
    kinds : ndarray of bool of shape (kinds, M)
    counts : sequence of ndarray of shape (kinds,)
        For each run in their order, its calls by kind.
    quota : ndarray of shape (M,)
    run : callable
        The kinds of the calls of a run, shape (calls,). Asked for a run where not all fit; for no more runs
        than there are kinds.
    """
    placing = _PlacementCounts(kinds & (quota > 0), quota)
    taken = []
    for number, count in enumerate(counts):
        open_count = np.where(placing.full, 0, count)
        if placing.fit_all(open_count):
            taken.append(open_count)
            continue
        placed = np.zeros_like(count)
        for kind in run(number).tolist():
            placed[kind] += placing.fits(kind)
        taken.append(placed)
    return taken


def first_of_each(kind: IntArray, count: IntArray) -> BoolArray:
    """Which calls are among the first of their kind, as many as `count` says; shape (calls,)."""
    order = np.argsort(kind, kind="stable")
    ordered = kind[order]
    among: BoolArray = np.empty(len(kind), dtype=np.bool_)
    among[order] = np.arange(len(kind)) - np.searchsorted(ordered, ordered) < count[ordered]
    return among


class _PlacementCounts:
    """Calls counted by kind (the cores that they may go to) and core."""

    def __init__(self, kinds: BoolArray, quota: IntArray) -> None:
        self.kinds = kinds
        self.left = quota.copy()
        self.count = np.zeros(kinds.shape, dtype=np.int64)
        self.full = np.zeros(len(kinds), dtype=bool)

    def fit_all(self, counts: IntArray) -> bool:
        """Place so many more calls of each kind; if they do not all fit, none of them."""
        before = self.left.copy(), self.count.copy(), self.full.copy()
        for kind in np.flatnonzero(counts).tolist():
            wanted = int(counts[kind])
            while wanted:
                placed = self._place(kind, wanted)
                if not placed:
                    self.left, self.count, self.full = before
                    return False
                wanted -= placed
        return True

    def fits(self, kind: int) -> bool:
        """Place one more call of this kind, moving others where that frees a slot."""
        return not self.full[kind] and self._place(kind, 1) > 0

    def _place(self, kind: int, most: int) -> int:
        """Place calls of a kind, up to `most`, along one chain of moves; how many."""
        came_from: dict[int, tuple[int, int]] = {}
        reached = self.kinds[kind].copy()
        frontier = np.flatnonzero(reached).tolist()
        while frontier:
            core = frontier.pop()
            if self.left[core] > 0:
                return self._shift(kind, core, came_from, most)
            movers = np.flatnonzero(self.count[:, core])
            movable = self.kinds[movers]
            for other in np.flatnonzero(movable.any(axis=0) & ~reached).tolist():
                reached[other] = True
                came_from[other] = (core, int(movers[movable[:, other].argmax()]))
                frontier.append(other)
        # The cores reached are full of calls that may go nowhere else, and stay full.
        self.full |= ~(self.kinds & ~reached).any(axis=1)
        return 0

    def _shift(self, kind: int, core: int, came_from: dict[int, tuple[int, int]], most: int) -> int:
        chain = [core]
        moved = min(most, int(self.left[core]))
        while chain[-1] in came_from:
            source, mover = came_from[chain[-1]]
            moved = min(moved, int(self.count[mover, source]))
            chain.append(source)
        self.left[core] -= moved
        for each in chain[:-1]:
            source, mover = came_from[each]
            self.count[mover, each] += moved
            self.count[mover, source] -= moved
        self.count[kind, chain[-1]] += moved
        return moved
