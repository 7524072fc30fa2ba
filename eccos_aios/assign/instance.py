"""Instance: the calls that are placed, as a plain minimisation with one sum to reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eccos_aios.assign.problem import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Instance:
    """Minimise the sum of `value` such that the sum of `gain` reaches `required`; every call is placed.

    Value is cost and gain is quality, or, under a budget, value is what lacks in quality and gain is
    money not spent.

    Attributes
    ----------
    value : ndarray of shape (n, M)
        Infinite where the call may not go.
    gain : ndarray of shape (n, M)
        0 where the call may not go.
    quota : ndarray of shape (M,)
        At most n each; all calls fit.
    required : float
    """

    value: FloatArray
    gain: FloatArray
    quota: IntArray
    required: float

    def value_of(self, core: IntArray) -> float:
        return float(self.value[np.arange(len(core)), core].sum())

    def gain_of(self, core: IntArray) -> float:
        return float(self.gain[np.arange(len(core)), core].sum())


@dataclass(frozen=True, eq=False)
class Point:
    """An assignment of an instance with its two sums."""

    core: IntArray
    value: float
    gain: float


def point(instance: Instance, core: IntArray) -> Point:
    """The sums of an assignment."""
    return Point(core, instance.value_of(core), instance.gain_of(core))
