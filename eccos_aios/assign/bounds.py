"""How much gain is in reach at most, without solving anything."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.instance import Instance


def most_gain_bound(instance: Instance) -> float:
    """No assignment that holds the quotas gains more.

    Every call at its best core, less what cannot be avoided: of the calls whose best core is too small for
    all of them, the surplus has to go elsewhere, and loses at least the difference to the second best.
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
