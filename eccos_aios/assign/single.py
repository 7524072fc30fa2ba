"""One call alone: where it goes can be read off its row."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.problem import TOLERANCE, WAITS, BoolArray, FloatArray
from eccos_aios.assign.ties import tie_break


def choose_core(
    cost: FloatArray,
    quality: FloatArray,
    open_: BoolArray,
    required: float,
    seconds: FloatArray,
    price_per_second: float = 0.0,
) -> tuple[int, bool]:
    """The cheapest core that is good enough; where none is, the best.

    The same as `solve` on the one call, without its checks and bounds: most rounds hold one call, and a
    tenth of a millisecond counts there.

    Parameters
    ----------
    cost, quality, seconds : ndarray of shape (M,)
        As in `AssignmentProblem`.
    open_ : ndarray of bool of shape (M,)
        Where the call may go and finds room.
    required : float
        Quality.
    price_per_second : float
        US dollars; at 0, seconds decide between cores that cost the same.

    Returns
    -------
    tuple of int and bool
        The core, or `WAITS` where none is open, and whether it is good enough.
    """
    price = price_per_second or tie_break(cost, seconds)
    value = cost + price * seconds if price else cost
    enough = open_ & (quality >= required - TOLERANCE)
    if enough.any():
        return int(np.where(enough, value, np.inf).argmin()), True
    if not open_.any():
        return WAITS, False
    best = np.where(open_, quality, -np.inf)
    return int(np.where(best >= best.max() - TOLERANCE, value, np.inf).argmin()), False
