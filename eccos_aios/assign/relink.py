"""Between two optimal corners: the whole assignment on the way that just meets the requirement."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.instance import Instance, Point, point
from eccos_aios.assign.problem import IntArray


def relink(instance: Instance, short: Point, meets: Point) -> Point:
    """Take over from `short` as much as keeps the requirement met.

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
