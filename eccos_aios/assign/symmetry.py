"""Cores that are the same for every call: one core with all their slots, while the problem is solved."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.instance import Instance
from eccos_aios.assign.problem import IntArray


def twin_groups(instance: Instance) -> IntArray:
    """For each core the number of its group, shape (M,); groups are numbered in order of first core."""
    calls = len(instance.value)
    probe = [0, calls // 2, calls - 1]
    keys = np.concatenate([instance.value[probe], instance.gain[probe]]).T.tolist()
    group = np.arange(len(keys))
    firsts: dict[tuple[float, ...], list[int]] = {}
    for core, key in enumerate(keys):
        alike = firsts.setdefault(tuple(key), [])
        for first in alike:
            if all(
                np.array_equal(array[:, first], array[:, core]) for array in (instance.value, instance.gain)
            ):
                group[core] = first
                break
        else:
            alike.append(core)
    numbers: IntArray = np.unique(group, return_inverse=True)[1].reshape(-1)
    return numbers


def merged(instance: Instance, group: IntArray) -> Instance:
    """The instance with a core per group."""
    first = np.unique(group, return_index=True)[1]
    slots = np.bincount(group, weights=instance.quota).astype(np.int64)
    return Instance(
        np.ascontiguousarray(instance.value[:, first]),
        np.ascontiguousarray(instance.gain[:, first]),
        np.minimum(slots, len(instance.value)),
        instance.required,
    )


def split(core: IntArray, group: IntArray, quota: IntArray) -> IntArray:
    """Cores of the instance for groups: the earlier calls at the earlier twin."""
    cores = np.empty_like(core)
    for each in range(int(group.max()) + 1):
        twins = np.flatnonzero(group == each)
        here = np.flatnonzero(core == each)
        cores[here] = np.repeat(twins, quota[twins])[: len(here)]
    return cores
