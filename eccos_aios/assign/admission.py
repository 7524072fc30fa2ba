"""Admission: which calls are placed where there are more calls than slots."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.problem import BoolArray, FloatArray, IntArray


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
    kinds, kind_of = np.unique(allowed, axis=0, return_inverse=True)
    placing = _PlacementCounts(kinds & (quota > 0), quota)
    kind_list = np.ravel(kind_of)[order].tolist()
    for call, kind in zip(order.tolist(), kind_list, strict=True):
        admitted[call] = placing.fits(kind)
    return admitted


class _PlacementCounts:
    """Calls counted by kind (the cores that they may go to) and core."""

    def __init__(self, kinds: BoolArray, quota: IntArray) -> None:
        self.kinds = kinds
        self.left = quota.copy()
        self.count = np.zeros(kinds.shape, dtype=np.int64)
        self.full = np.zeros(len(kinds), dtype=bool)

    def fits(self, kind: int) -> bool:
        """Place one more call of this kind, moving others where that frees a slot."""
        if self.full[kind]:
            return False
        came_from: dict[int, tuple[int, int]] = {}
        reached = self.kinds[kind].copy()
        frontier = np.flatnonzero(reached).tolist()
        while frontier:
            core = frontier.pop()
            if self.left[core] > 0:
                self._shift(kind, core, came_from)
                return True
            for mover in np.flatnonzero(self.count[:, core]).tolist():
                for other in np.flatnonzero(self.kinds[mover] & ~reached).tolist():
                    reached[other] = True
                    came_from[other] = (core, mover)
                    frontier.append(other)
        # The cores reached are full of calls that may go nowhere else, and stay full.
        self.full |= ~(self.kinds & ~reached).any(axis=1)
        return False

    def _shift(self, kind: int, core: int, came_from: dict[int, tuple[int, int]]) -> None:
        self.left[core] -= 1
        while core in came_from:
            source, mover = came_from[core]
            self.count[mover, core] += 1
            self.count[mover, source] -= 1
            core = source
        self.count[kind, core] += 1
