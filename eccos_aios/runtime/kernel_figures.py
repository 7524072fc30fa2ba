"""What a kernel tells the others of its calls, and the sum over kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

COUNTS = ("submitted", "completed", "failed")
CORE_COUNTS = ("in_flight", "completed", "failed")


def figures_of(status: Mapping[str, Any], recorded: int) -> dict[str, Any]:
    """The part of `Scheduler.status` that can be summed over kernels, and the outcomes stored, as JSON."""
    totals = status["totals"]
    return {
        "pending": status["pending"],
        "recorded": recorded,
        "cores": {
            name: {count: core[count] for count in CORE_COUNTS} for name, core in status["cores"].items()
        },
        "totals": {name: totals[name] for name in (*COUNTS, "predicted_quality", "cost_usd")},
    }


def summed(figures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of several kernels together, in the form of one.

    `predicted_quality` is the mean, each kernel weighted by its submitted calls.
    """
    pending, recorded, cost_usd, quality = 0, 0, 0.0, 0.0
    counts: Counter[str] = Counter()
    cores: dict[str, Counter[str]] = {}
    for each in figures:
        totals = each["totals"]
        pending += each["pending"]
        recorded += each["recorded"]
        cost_usd += totals["cost_usd"]
        quality += totals["submitted"] * totals["predicted_quality"]
        counts.update({name: totals[name] for name in COUNTS})
        for name, core in each["cores"].items():
            cores.setdefault(name, Counter()).update({count: core[count] for count in CORE_COUNTS})
    return {
        "pending": pending,
        "recorded": recorded,
        "cores": {name: {count: core[count] for count in CORE_COUNTS} for name, core in cores.items()},
        "totals": {
            **{name: counts[name] for name in COUNTS},
            "predicted_quality": round(quality / max(1, counts["submitted"]), 6),
            "cost_usd": round(cost_usd, 9),
        },
    }
