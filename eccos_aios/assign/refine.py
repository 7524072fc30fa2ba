"""Refinement towards the optimum: dual prices, exact solution of contested calls, exchanges, a bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eccos_aios.assign.decomposition import CONTESTED, bracket_large, most_gain
from eccos_aios.assign.exchange import dual_bound, settle
from eccos_aios.assign.instance import Instance, Point, merged, most_gain_bound, point, split, twin_groups
from eccos_aios.assign.local_search import improve
from eccos_aios.assign.problem import FloatArray, IntArray
from eccos_aios.assign.relaxation import SlotExpansion, bracket

SMALL = 16_384  # calls × slots up to which all calls are solved exactly at once
CLOSE = 1e-5  # relative gap at which improving ends


@dataclass(frozen=True, eq=False)
class Refinement:
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


def refine(instance: Instance, close: float = CLOSE) -> Refinement:
    """Refine an assignment to near the optimum; local search ends at the relative gap `close`.

    The relaxation of a small instance is solved exactly at once. Of a large one only the contested calls
    are, those for which two cores are nearly equal at approximate prices; exchanges over all calls then make
    the prices exact.
    """
    group = twin_groups(instance)
    if len(group) == group.max() + 1:
        return _refine(instance, close)
    refined = _refine(merged(instance, group), close)
    core = split(refined.core, group, instance.quota)
    return Refinement(core, refined.bound, refined.price, refined.slot_price[group])


def _refine(instance: Instance, close: float) -> Refinement:
    calls = len(instance.value)
    bound = -np.inf
    small = calls <= CONTESTED or calls * int(instance.quota.sum()) <= SMALL
    if most_gain_bound(instance) < instance.required:
        most = SlotExpansion(instance).most_gain() if small else most_gain(instance)
        return Refinement(most.core, np.inf, np.inf, np.zeros(len(instance.quota)))
    if small:
        found = bracket(SlotExpansion(instance))
        if found.meets is not None:
            _, slot_price, _ = settle(instance, found.meets.core, found.price)
    else:
        found, slot_price, bound = bracket_large(instance)
    if found.meets is None:
        assert found.short is not None
        return Refinement(found.short.core, np.inf, np.inf, np.zeros(len(instance.quota)))
    bound = max(bound, dual_bound(instance, found.price, slot_price))
    best = found.meets if found.short is None else relink(instance, found.short, found.meets)
    for start in (best, found.short):
        gap = best.value - bound
        if start is None or gap <= close * abs(bound):
            break
        improved = point(instance, improve(instance, start.core, found.price, slot_price, gap))
        if improved.gain >= instance.required and improved.value < best.value:
            best = improved
    return Refinement(best.core, bound, found.price, slot_price)


def relink(instance: Instance, short: Point, meets: Point) -> Point:
    """The assignment between two optimal corners that just meets the requirement.

    Where both are best at the same price of gain, their difference falls into cycles of calls that change
    cores, each worth exactly its gain times the price; any of them may be taken alone. The longest that
    still fit are taken first, so that little gain is left over.
    """
    core = meets.core.copy()
    spare = meets.gain - instance.required
    cycles = _cycles(meets.core, short.core, len(instance.quota))
    gains = np.array([instance.gain[rows, short.core[rows]].sum() for rows in cycles])
    gains -= [instance.gain[rows, meets.core[rows]].sum() for rows in cycles]
    for index in np.argsort(gains, kind="stable").tolist():
        if spare + gains[index] >= 0:
            spare += float(gains[index])
            core[cycles[index]] = short.core[cycles[index]]
    found = point(instance, core)
    return found if found.gain >= instance.required and found.value <= meets.value else meets


def _cycles(start: IntArray, end: IntArray, cores: int) -> list[list[int]]:
    """The calls that differ, in closed walks over cores, and in chains where the loads of cores differ."""
    leaving: list[list[tuple[int, int]]] = [[] for _ in range(cores)]
    for call in np.flatnonzero(start != end).tolist():
        leaving[start[call]].append((call, int(end[call])))
    fewer = np.bincount(start, minlength=cores) - np.bincount(end, minlength=cores)
    found: list[list[int]] = []
    for first in [*np.repeat(np.arange(cores), np.maximum(fewer, 0)).tolist(), *range(cores)]:
        visited, calls = [first], list[int]()
        while leaving[visited[-1]]:
            call, core = leaving[visited[-1]].pop()
            calls.append(call)
            if core in visited:
                at = visited.index(core)
                found.append(calls[at:])
                del calls[at:], visited[at + 1 :]
            else:
                visited.append(core)
        if calls:
            found.append(calls)
    return found
