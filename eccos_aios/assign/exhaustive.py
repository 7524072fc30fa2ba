"""Exhaustive search for one call or a few: every possible assignment is compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from eccos_aios.assign.instance import TIE_SECONDS, seconds_weight
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
    possible = allowed & (quota > 0)
    if calls == 1:
        one = choose_core(
            cost[0].tolist(),
            quality[0].tolist(),
            possible[0].tolist(),
            required,
            seconds.tolist(),
            price_per_second,
            reach_slack,
        )
        return None if one is None else ([one[0]], one[1])
    price = price_per_second or seconds_weight(cost, seconds)
    value = cost + price * seconds
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


def choose_core(
    cost: Sequence[float],
    quality: Sequence[float],
    possible: Sequence[bool],
    required: float,
    seconds: Sequence[float],
    price_per_second: float = 0.0,
    reach_slack: float = REACH_SLACK,
) -> tuple[int, bool] | None:
    """The same for one call, where lists are faster than arrays.

    Parameters
    ----------
    cost, quality, seconds : sequence of float
        By core.
    possible : sequence of bool
        By core, whether it may take the call and has a slot.
    required, price_per_second, reach_slack : float
        As in `choose_cores`.

    Returns
    -------
    tuple of int and bool, or None
        The core, and whether it is good enough. None: no core is possible.
    """
    open_to = [core for core, may in enumerate(possible) if may]
    if not open_to:
        return None
    enough = [core for core in open_to if quality[core] >= required - TOLERANCE]
    met = bool(enough)
    if not met:
        most = max(quality[core] for core in open_to) - max(reach_slack, TOLERANCE)
        enough = [core for core in open_to if quality[core] >= most]
    longest = max(seconds, default=0.0)
    # see `seconds_weight`
    tie = TIE_SECONDS * (sum(cost) / len(cost) or 1.0) / longest if longest else 0.0
    price = price_per_second or tie
    return min(enough, key=lambda core: cost[core] + price * seconds[core]), met


@lru_cache(maxsize=64)
def _assignments(calls: int, cores: int) -> IntArray:
    """All assignments, one per column, shape (calls, cores ** calls)."""
    return np.indices((cores,) * calls).reshape(calls, -1)
