"""The output of a routed batch: a line per query and target, and a summary."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import WAITS
from eccos_aios.batch.parquet import SUFFIX, output_schema, write_rows
from eccos_aios.batch.planned import PlannedRouting
from eccos_aios.batch.route import Batch


def write_lines(batch: Batch, out: TextIO, *, with_estimates: bool = False) -> None:
    """Write a line per query and target: queries in input order, the targets of each in the order given.

    With plans, ``plan`` holds the stages, ``core`` is the first of them, and the figures are the plan's.
    """
    for line in output_lines(batch, with_estimates=with_estimates):
        out.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_file(batch: Batch, path: Path, *, with_estimates: bool = False) -> None:
    """Write the lines of `write_lines` to a file; as rows of a Parquet file if its name ends in ``.parquet``.

    Raises
    ------
    OSError
        It cannot be written.
    MissingExtraError
        Parquet is wanted, and pyarrow is not installed.
    """
    if path.suffix != SUFFIX:
        with path.open("w", encoding="utf-8") as file:
            write_lines(batch, file, with_estimates=with_estimates)
        return
    goals = [*map(goal_of, batch.routings), *map(goal_of, batch.planned)]
    estimated = [core.name for core in batch.cores] if with_estimates else []
    whole_ids = all(isinstance(each, int) for each in batch.ids)
    schema = output_schema(goals, estimated, whole_ids=whole_ids, planned=bool(batch.planned))
    with path.open("wb") as file:
        write_rows(output_lines(batch, with_estimates=with_estimates), file, schema)


def output_lines(batch: Batch, *, with_estimates: bool = False) -> Iterator[dict[str, Any]]:
    """The lines of `write_lines` as dictionaries."""
    estimates, candidates = batch.estimated.estimates, batch.estimated.candidates
    part = RoutedPart(
        batch.ids,
        [core.name for core in batch.cores],
        candidates.quality,
        candidates.cost,
        estimates.output_tokens if with_estimates else None,
        [(goal_of(routing), routing.assignment.core) for routing in batch.routings],
    )
    for row, (each, lines) in enumerate(zip(batch.ids, part.lines(), strict=True)):
        yield from lines
        for planned in batch.planned:
            line = _planned_line(each, planned, row)
            if with_estimates:
                line["estimates"] = part.estimates_of(row)
            yield line


@dataclass(frozen=True, eq=False)
class RoutedPart:
    """Queries of a batch, each with the core that it goes to at every target or budget.

    Attributes
    ----------
    ids : sequence of str or int
    names : sequence of str
        Of the cores.
    quality, cost : ndarray of shape (queries, cores)
    output_tokens : ndarray of the same shape or None
        None: lines have no estimates.
    routed : sequence
        For each target or budget its key and value in the line, and the cores, shape (queries,).
    """

    ids: Sequence[str | int]
    names: Sequence[str]
    quality: NDArray[Any]
    cost: NDArray[Any]
    output_tokens: NDArray[Any] | None
    routed: Sequence[tuple[dict[str, float], NDArray[Any]]]

    def lines(self) -> Iterator[list[dict[str, Any]]]:
        """The lines of each query in turn."""
        rows = np.arange(len(self.ids))
        chosen = []
        for _, core in self.routed:
            column = np.maximum(core, 0)
            values = [plain_numbers(array[rows, column]) for array in (self.quality, self.cost)]
            chosen.append((core.tolist(), *values))
        for row, query in enumerate(self.ids):
            lines = []
            for (goal, _), (core, quality, cost) in zip(self.routed, chosen, strict=True):
                placed = core[row] != WAITS
                line: dict[str, Any] = {
                    "id": query,
                    **goal,
                    "core": self.names[core[row]] if placed else None,
                    "predicted_quality": quality[row] if placed else None,
                    "predicted_cost": cost[row] if placed else None,
                }
                lines.append(line)
            if self.output_tokens is not None:
                estimates = self.estimates_of(row)
                for line in lines:
                    line["estimates"] = estimates
            yield lines

    def estimates_of(self, row: int) -> dict[str, dict[str, float]]:
        """The estimates of a query by core, as a line holds them; only with `output_tokens`."""
        assert self.output_tokens is not None
        columns = (self.quality[row], self.cost[row], self.output_tokens[row])
        return {
            name: {"quality": quality, "cost": cost, "output_tokens": tokens}
            for name, quality, cost, tokens in zip(self.names, *map(plain_numbers, columns), strict=True)
        }


def plain_numbers(array: NDArray[Any]) -> list[float]:
    """The numbers of an array; those in single precision with no more digits than they need."""
    if array.dtype == np.float32:
        array = array.astype(str).astype(np.float64)
    numbers: list[float] = array.tolist()
    return numbers


class RoutedFigures(Protocol):
    """The figures of a batch at one target or budget, as `Routing` has them."""

    @property
    def quality_target(self) -> float | None: ...
    @property
    def budget(self) -> float | None: ...
    @property
    def met(self) -> bool: ...
    @property
    def predicted_quality(self) -> float: ...
    @property
    def predicted_cost(self) -> float: ...
    @property
    def lower_bound(self) -> float: ...
    @property
    def gap(self) -> float: ...
    @property
    def per_core(self) -> dict[str, int]: ...
    @property
    def slot_prices(self) -> dict[str, float]: ...
    @property
    def quality_price(self) -> float: ...


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
            *(target_summary(routing) for routing in batch.routings),
            *(_planned_summary(planned, batch) for planned in batch.planned),
        ],
        "seconds": batch.seconds,
        "queries": len(batch.ids),
    }


def target_summary(routing: RoutedFigures) -> dict[str, Any]:
    """The part of `summary` for one target or budget."""
    return {
        **goal_of(routing),
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
        **goal_of(planned),
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
        **goal_of(planned),
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


def goal_of(routing: RoutedFigures | PlannedRouting) -> dict[str, float]:
    """The key of a target or a budget in a line, and its value."""
    if routing.budget is not None:
        return {"budget_usd": routing.budget}
    return {} if routing.quality_target is None else {"quality_target": routing.quality_target}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
