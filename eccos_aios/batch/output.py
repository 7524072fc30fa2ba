"""What a routed batch is written as: a line per query and target, and a summary."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.batch.route import Batch, Route
from eccos_aios.core import Core


def write_lines(batch: Batch, out: TextIO, *, with_estimates: bool = False) -> None:
    """Write a line per query and target: queries in input order, the targets of each in the order given."""
    names = [core.name for core in batch.cores]
    for row, query in enumerate(batch.queries):
        quality, cost = batch.estimates.quality[row].tolist(), batch.cost[row].tolist()
        tokens = batch.estimates.output_tokens[row].tolist()
        every = {
            name: {"quality": quality[column], "cost": cost[column], "output_tokens": tokens[column]}
            for column, name in enumerate(names)
        }
        for route in batch.routes:
            column = int(route.assignment.core[row])
            placed = column != WAITS
            line: dict[str, Any] = {
                "id": query.id,
                **_asked(route),
                "core": names[column] if placed else None,
                "predicted_quality": quality[column] if placed else None,
                "predicted_cost": cost[column] if placed else None,
            }
            if with_estimates:
                line["estimates"] = every
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def summary(batch: Batch) -> dict[str, Any]:
    """What ``eccos-aios assign --json`` prints.

    A figure that does not exist is null: `lower_bound` and `gap` where no assignment reaches the target,
    `predicted_quality` where no query is placed. `dual_prices` are what one more slot of each core would
    save and what one more point of quality (the whole quality of one query) costs, in US dollars; under a
    budget, the points of quality that one more slot, and one more dollar, would give.
    """
    return {
        "targets": [_route_summary(route, batch.cores) for route in batch.routes],
        "seconds": batch.seconds,
        "queries": len(batch.queries),
    }


def _route_summary(route: Route, cores: Sequence[Core]) -> dict[str, Any]:
    assignment = route.assignment
    taken = np.bincount(assignment.core[assignment.core != WAITS], minlength=len(cores)).tolist()
    slot = np.broadcast_to(assignment.dual_prices.slot, len(cores)).tolist()
    return {
        **_asked(route),
        "met": bool(assignment.met),
        "predicted_quality": _finite(assignment.quality),
        "predicted_cost": _finite(assignment.cost),
        "lower_bound": _finite(assignment.lower_bound),
        "gap": _finite(assignment.gap),
        "per_core": {core.name: count for core, count in zip(cores, taken, strict=True)},
        "dual_prices": {
            "slot": {core.name: _finite(price) for core, price in zip(cores, slot, strict=True)},
            "quality": _finite(assignment.dual_prices.quality),
        },
    }


def _asked(route: Route) -> dict[str, float]:
    """What the route was to reach."""
    if route.budget is not None:
        return {"budget_usd": route.budget}
    return {} if route.quality_target is None else {"quality_target": route.quality_target}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
