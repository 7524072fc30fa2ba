"""The output of a routed batch: a line per query and target, and a summary."""

from __future__ import annotations

import json
import math
from typing import Any, TextIO

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.batch.planned import PlannedRouting
from eccos_aios.batch.route import Batch
from eccos_aios.router import Routing


def write_lines(batch: Batch, out: TextIO, *, with_estimates: bool = False) -> None:
    """Write a line per query and target: queries in input order, the targets of each in the order given.

    With plans, ``plan`` holds the stages, ``core`` is the first of them, and the figures are the plan's.
    """
    names = [core.name for core in batch.cores]
    estimates, candidates = batch.estimated.estimates, batch.estimated.candidates
    for row, query in enumerate(batch.ids):
        quality, cost = candidates.quality[row].tolist(), candidates.cost[row].tolist()
        tokens = estimates.output_tokens[row].tolist()
        every = {
            name: {"quality": quality[column], "cost": cost[column], "output_tokens": tokens[column]}
            for column, name in enumerate(names)
        }
        for routing in batch.routings:
            column = int(routing.assignment.core[row])
            placed = column != WAITS
            line: dict[str, Any] = {
                "id": query,
                **_goal(routing),
                "core": names[column] if placed else None,
                "predicted_quality": quality[column] if placed else None,
                "predicted_cost": cost[column] if placed else None,
            }
            if with_estimates:
                line["estimates"] = every
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
        for planned in batch.planned:
            line = _planned_line(query, planned, row)
            if with_estimates:
                line["estimates"] = every
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def summary(batch: Batch) -> dict[str, Any]:
    """The object that ``eccos-aios assign --json`` prints.

    A figure that does not exist is null: `lower_bound` and `gap` where no assignment reaches the target,
    `predicted_quality` where no query is placed. `dual_prices` are the US dollars that one more slot of each
    core would save and that one more point of quality (the whole quality of one query) costs; under a
    budget, the points of quality that one more slot, and one more dollar, would give.

    With plans, `per_core` counts the queries that ask a core first, `per_plan` those of each plan, and
    `calls_per_query` is the mean number of cores that are expected to be asked.
    """
    return {
        "targets": [
            *(_routing_summary(routing) for routing in batch.routings),
            *(_planned_summary(planned, batch) for planned in batch.planned),
        ],
        "seconds": batch.seconds,
        "queries": len(batch.ids),
    }


def _routing_summary(routing: Routing) -> dict[str, Any]:
    return {
        **_goal(routing),
        "met": routing.met,
        "predicted_quality": _finite(routing.predicted_quality),
        "predicted_cost": _finite(routing.predicted_cost),
        "lower_bound": _finite(routing.lower_bound),
        "gap": _finite(routing.gap),
        "per_core": routing.per_core,
        "dual_prices": {
            "slot": {name: _finite(price) for name, price in routing.slot_prices.items()},
            "quality": _finite(routing.quality_price),
        },
    }


def _planned_line(query: str | int, planned: PlannedRouting, row: int) -> dict[str, Any]:
    plan, predicted = planned.plan(row), planned.predicted(row)
    return {
        "id": query,
        **_goal(planned),
        "core": None if plan is None else plan.first,
        "plan": None if plan is None else plan.to_dict(),
        "predicted_quality": None if predicted is None else predicted[0],
        "predicted_cost": None if predicted is None else predicted[1],
    }


def _planned_summary(planned: PlannedRouting, batch: Batch) -> dict[str, Any]:
    assignment = planned.routing.assignment
    per_core = {core.name: 0 for core in batch.cores}
    for row in range(len(batch.ids)):
        plan = planned.plan(row)
        if plan is not None:
            per_core[plan.first] += 1
    slots = np.broadcast_to(assignment.dual_prices.slot, len(planned.estimates.plans)).tolist()
    return {
        **_goal(planned),
        "met": assignment.met,
        "predicted_quality": _finite(assignment.quality),
        "predicted_cost": _finite(assignment.cost),
        "lower_bound": _finite(assignment.lower_bound),
        "gap": _finite(assignment.gap),
        "per_core": per_core,
        "per_plan": planned.per_plan,
        "calls_per_query": _finite(planned.routing.calls),
        "dual_prices": {
            "slot": {core.name: _finite(price) for core, price in zip(batch.cores, slots, strict=False)},
            "quality": _finite(assignment.dual_prices.quality),
        },
    }


def _goal(routing: Routing | PlannedRouting) -> dict[str, float]:
    if routing.budget is not None:
        return {"budget_usd": routing.budget}
    return {} if routing.quality_target is None else {"quality_target": routing.quality_target}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
