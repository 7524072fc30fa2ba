"""Refinement towards the optimum: dual prices, the contested calls exactly, exchanges, a proven bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eccos_aios.assign.bounds import most_gain_bound
from eccos_aios.assign.decomposition import CONTESTED, bracket_large, most_gain
from eccos_aios.assign.exchange import dual_bound, settle
from eccos_aios.assign.instance import Instance, point
from eccos_aios.assign.local_search import improve
from eccos_aios.assign.problem import FloatArray, IntArray
from eccos_aios.assign.relaxation import Expanded, bracket
from eccos_aios.assign.relink import relink
from eccos_aios.assign.symmetry import merged, split, twin_groups

SMALL = 16_384  # calls × slots up to which all calls are solved exactly at once
CLOSE = 1e-5  # relative gap at which improving ends


@dataclass(frozen=True, eq=False)
class Refined:
    """A good assignment, the proven bound on the value, and the multipliers behind it.

    Attributes
    ----------
    core : ndarray of int of shape (n,)
    bound : float
        No assignment that meets the requirement has less value; infinite where none meets it.
    price : float
        Of a point of gain.
    slot_price : ndarray of shape (M,)
    """

    core: IntArray
    bound: float
    price: float
    slot_price: FloatArray


def refine(instance: Instance, close: float = CLOSE) -> Refined:
    """Refine to within a hair of the optimum; improving ends at the relative gap `close`.

    A small instance is solved exactly at once, as its relaxation. Of a large one only the contested calls
    are, those for which two cores are nearly as good at approximate prices; exchanges over all calls then
    make the prices exact.
    """
    group = twin_groups(instance)
    if len(group) == group.max() + 1:
        return _refine(instance, close)
    refined = _refine(merged(instance, group), close)
    core = split(refined.core, group, instance.quota)
    return Refined(core, refined.bound, refined.price, refined.slot_price[group])


def _refine(instance: Instance, close: float) -> Refined:
    calls = len(instance.value)
    bound = -np.inf
    small = calls <= CONTESTED or calls * int(instance.quota.sum()) <= SMALL
    if most_gain_bound(instance) < instance.required:
        most = Expanded(instance).most_gain() if small else most_gain(instance)
        return Refined(most.core, np.inf, np.inf, np.zeros(len(instance.quota)))
    if small:
        found = bracket(Expanded(instance))
        if found.meets is not None:
            _, slot_price, _ = settle(instance, found.meets.core, found.price)
    else:
        found, slot_price, bound = bracket_large(instance)
    if found.meets is None:
        assert found.short is not None
        return Refined(found.short.core, np.inf, np.inf, np.zeros(len(instance.quota)))
    bound = max(bound, dual_bound(instance, found.price, slot_price))
    best = found.meets if found.short is None else relink(instance, found.short, found.meets)
    for start in (best, found.short):
        gap = best.value - bound
        if start is None or gap <= close * abs(bound):
            break
        improved = point(instance, improve(instance, start.core, found.price, slot_price, gap))
        if improved.gain >= instance.required and improved.value < best.value:
            best = improved
    return Refined(best.core, bound, found.price, slot_price)
