"""A feasible start: every call at its best core, those with most to lose first where a core is full."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.problem import FloatArray, IntArray


def greedy(score: FloatArray, quota: IntArray) -> IntArray:
    """Place every call at the core of least score that has a slot left.

    Where a core is wanted by more calls than it may take, those with the greatest regret (score of the
    next best core less that of this one) keep it, and it is closed to the others; each pass closes at
    least one core. Calls that find all their cores closed get a slot through moves of others.

    Parameters
    ----------
    score : ndarray of shape (n, M)
        Infinite where the call may not go.
    quota : ndarray of shape (M,)

    Returns
    -------
    ndarray of int of shape (n,)
        The core; -1 for a call that cannot be placed beside the others.
    """
    calls, cores = score.shape
    core = np.full(calls, -1, dtype=np.int64)
    left = quota.copy()
    open_score = np.where(quota > 0, score, np.inf)
    rest = np.flatnonzero(np.isfinite(open_score).any(axis=1))
    while rest.size:
        wanted = open_score[rest]
        best = wanted.argmin(axis=1)
        crowded = np.flatnonzero(np.bincount(best, minlength=cores) > left)
        if not crowded.size:
            core[rest] = best
            left -= np.bincount(best, minlength=cores)
            break
        rows = np.arange(len(rest))
        least = wanted[rows, best].copy()
        wanted[rows, best] = np.inf
        regret = wanted.min(axis=1) - least
        for full in crowded.tolist():
            mine = np.flatnonzero(best == full)
            staying = mine[np.argsort(-regret[mine], kind="stable")[: left[full]]]
            core[rest[staying]] = full
            left[full] = 0
        open_score[:, crowded] = np.inf
        rest = rest[core[rest] < 0]
        rest = rest[np.isfinite(open_score[rest]).any(axis=1)]
    return _make_room(core, score, left)


def _make_room(core: IntArray, score: FloatArray, left: IntArray) -> IntArray:
    """Place the remaining calls by moving others along a shortest chain of cores."""
    for call in np.flatnonzero((core < 0) & np.isfinite(score).any(axis=1)).tolist():
        firsts = [j for j in np.argsort(score[call], kind="stable").tolist() if np.isfinite(score[call, j])]
        mover_to = dict.fromkeys(firsts, call)
        frontier = list(firsts)
        for reached in frontier:
            if left[reached] > 0:
                left[reached] -= 1
                _move_along(core, mover_to, reached)
                break
            here = np.flatnonzero(core == reached)
            if not here.size:
                continue
            extra = score[here] - score[here, reached][:, None]
            cheapest = extra.argmin(axis=0)
            for other in np.flatnonzero(np.isfinite(extra[cheapest, np.arange(len(left))])).tolist():
                if other not in mover_to:
                    mover_to[other] = int(here[cheapest[other]])
                    frontier.append(other)
    return core


def _move_along(core: IntArray, mover_to: dict[int, int], last: int) -> None:
    """Each mover takes the place of the next, back to the call that had none."""
    while last >= 0:
        mover = mover_to[last]
        core[mover], last = last, int(core[mover])
