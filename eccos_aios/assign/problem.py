"""AssignmentProblem and Assignment: arrays and their checks, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

WAITS = -1  # in `Assignment.core`: no core has room for the call in this round, or none may take it


@dataclass(frozen=True)
class AssignmentProblem:
    """N calls, M cores: minimise cost such that mean quality reaches the target and no quota is broken.

    Parameters
    ----------
    cost : ndarray of shape (N, M)
        Estimated US dollars, at least 0.
    quality : ndarray of shape (N, M)
        Estimated quality, 0 to 1.
    quota : ndarray of shape (M,)
        Calls that each core may take, at least 0.
    target : float
        Mean quality over the assigned calls, 0 to 1.
    allowed : ndarray of bool of shape (N, M), optional
        Where a call may go at all. Default: everywhere.
    weight : ndarray of shape (N,), optional
        Which calls go first where there are more calls than room: the heavier. Default: all the same,
        then the earlier position.

    Raises
    ------
    ValueError
        Names the field and shows the value.
    """

    cost: FloatArray
    quality: FloatArray
    quota: IntArray
    target: float
    allowed: BoolArray | None = None
    weight: FloatArray | None = None


@dataclass(frozen=True)
class Assignment:
    """Where each call goes.

    Attributes
    ----------
    core : ndarray of int of shape (N,)
        Index of the core, or `WAITS`.
    cost : float
        Sum over the assigned calls, US dollars.
    quality : float
        Mean over the assigned calls; NaN where none is.
    lower_bound : float
        Proven: no assignment of as many calls that meets the target costs less.
    met : bool
        Whether `quality` reaches the target. Where it cannot be reached, the assignment is the one of
        the best quality that can.
    """

    core: IntArray
    cost: float
    quality: float
    lower_bound: float
    met: bool
