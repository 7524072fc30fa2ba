"""Exhaustive search for one call or a few: every possible assignment is compared."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eccos_aios.assign.instance import seconds_weight
from eccos_aios.assign.problem import REACH_SLACK, TOLERANCE, BoolArray, FloatArray, IntArray

MOST_ASSIGNMENTS = 4096  # three calls over 16 cores; more of them take longer than the solver
MOST_CALLS = 12  # one core has one assignment, of however many calls


def choose_cores(
    cost: FloatArray,
    quality: FloatArray,
    allowed: BoolArray,
    quota: IntArray,
    required: float,
    seconds: FloatArray,
    price_per_second: float = 0.0,
    reach_slack: float = REACH_SLACK,
) -> tuple[list[int], bool] | None:
    """The cheapest assignment that is good enough; where none is, the cheapest that is nearly the best.

    The same as `solve`, exactly, without its checks and bounds: most rounds hold one call or two, and a
    tenth of a millisecond counts there.

    Parameters
    ----------
    cost, quality : ndarray of shape (n, M)
    allowed : ndarray of bool of shape (n, M)
    quota : ndarray of shape (M,)
    required : float
        Quality, the sum over the calls.
    seconds : ndarray of shape (M,)
    price_per_second : float
        US dollars; at 0, seconds decide between cores that cost the same.
    reach_slack : float
        Mean quality that nearly the best may lack of the best.

    Returns
    -------
    tuple of list of int and bool, or None
        The core of each call, and whether they are good enough. None: there are too many assignments, or
        too few slots for all the calls.
    """
    calls, cores = cost.shape
    if not calls or calls > MOST_CALLS or cores**calls > MOST_ASSIGNMENTS:
        return None
    price = price_per_second or seconds_weight(cost, seconds)
    value = cost + price * seconds
    possible = allowed & (quota > 0)
    if calls == 1:
        return _choose_core(
            value[0].tolist(),
            quality[0].tolist(),
            possible[0].nonzero()[0].tolist(),
            required,
            max(reach_slack, TOLERANCE),
        )
    each = _assignments(calls, cores)
    rows = np.arange(calls)[:, None]
    value = np.where(possible, value, np.inf)
    total, gained = value[rows, each].sum(axis=0), quality[rows, each].sum(axis=0)
    load = (each[:, None] == each).sum(axis=0)
    total[(load > quota[each]).any(axis=0)] = np.inf
    possible = total < np.inf
    enough = possible & (gained >= required - calls * TOLERANCE)
    met = bool(enough.any())
    if not met:
        if not possible.any():
            return None
        enough = possible & (gained >= gained[possible].max() - max(calls * reach_slack, TOLERANCE))
    chosen = int(np.where(enough, total, np.inf).argmin())
    return each[:, chosen].tolist(), met


def _choose_core(
    value: list[float], quality: list[float], possible: list[int], required: float, slack: float
) -> tuple[list[int], bool] | None:
    """For one call, where lists are faster than arrays."""
    if not possible:
        return None
    enough = [core for core in possible if quality[core] >= required - TOLERANCE]
    met = bool(enough)
    if not met:
        most = max(quality[core] for core in possible)
        enough = [core for core in possible if quality[core] >= most - slack]
    return [min(enough, key=value.__getitem__)], met


@lru_cache(maxsize=64)
def _assignments(calls: int, cores: int) -> IntArray:
    """All assignments, one per column, shape (calls, cores ** calls)."""
    return np.indices((cores,) * calls).reshape(calls, -1)
