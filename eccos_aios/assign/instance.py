"""Instance: the placed calls as a plain minimisation with one sum to reach; its bound, its symmetry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eccos_aios.assign.problem import FloatArray, IntArray

TIE_SECONDS = 1e-6  # share of the mean cost that the longest seconds weigh where they have no price
TIE_VALUE = 1e-9  # weight of value beside gain, each relative to its range, where only gain is sought


@dataclass(frozen=True, eq=False)
class Instance:
    """Minimise the sum of `value` such that the sum of `gain` reaches `required`; every call is placed.

    Value is cost and gain is quality, or, under a budget, value is the quality that lacks to 1 and gain is
    the money not spent.

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

    def tie_weight(self) -> float:
        """Weight of value that only decides between assignments of the same gain."""
        finite = np.isfinite(self.value)
        reach = float(np.ptp(self.value[finite])) or 1.0
        return TIE_VALUE * (float(np.ptp(self.gain[finite])) or 1.0) / reach


@dataclass(frozen=True, eq=False)
class Point:
    """An assignment of an instance with its two sums."""

    core: IntArray
    value: float
    gain: float


def point(instance: Instance, core: IntArray) -> Point:
    """The sums of an assignment."""
    return Point(core, instance.value_of(core), instance.gain_of(core))


def seconds_weight(cost: FloatArray, seconds: FloatArray) -> float:
    """US dollars per second, just enough to decide between cores that cost the same; 0 if no time passes."""
    if not seconds.size:
        return 0.0
    # `mean` and `max` do the same, more slowly
    longest = float(np.maximum.reduce(seconds, axis=None))
    mean = float(np.add.reduce(cost, axis=None)) / cost.size
    return TIE_SECONDS * (mean or 1.0) / longest if longest else 0.0


def most_gain_bound(instance: Instance) -> float:
    """An upper bound on the gain of any assignment that holds the quotas, without solving anything.

    Every call at its best core, less the unavoidable: of the calls whose best core is too small for all of
    them, the surplus has to go elsewhere, and loses at least the difference to the second best.
    """
    calls, cores = instance.gain.shape
    rows = np.arange(calls)
    gain = np.where(np.isfinite(instance.value), instance.gain, -np.inf)
    best = gain.argmax(axis=1)
    most = gain[rows, best].copy()
    gain[rows, best] = -np.inf
    lost = most - gain.max(axis=1)
    surplus = np.bincount(best, minlength=cores) - instance.quota
    total = float(most.sum())
    for core in np.flatnonzero(surplus > 0).tolist():
        total -= float(np.sort(lost[best == core])[: surplus[core]].sum())
    return total


def twin_groups(instance: Instance) -> IntArray:
    """For each core the number of its group of identical cores, shape (M,), numbered by first core.

    Cores that are the same for every call are solved as one core with all their slots.
    """
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
    """Cores of the instance from groups: the earlier calls at the earlier twin."""
    cores = np.empty_like(core)
    for each in range(int(group.max()) + 1):
        twins = np.flatnonzero(group == each)
        here = np.flatnonzero(core == each)
        cores[here] = np.repeat(twins, quota[twins])[: len(here)]
    return cores
