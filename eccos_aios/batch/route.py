"""Routing a batch of files: read them, fit the predictor, then one routing per quality target or budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eccos_aios.batch.planned import OnStep, PlannedRouting, planned_routings, timed
from eccos_aios.batch.queries import Query, read_queries
from eccos_aios.core import Core, read_manifest
from eccos_aios.errors import QueryError
from eccos_aios.history import ReadReport, Record, read_history
from eccos_aios.plans import MAX_CALLS_PER_QUERY, Mode, PlanPredictor
from eccos_aios.predict import HybridPredictor, Predictor
from eccos_aios.requirements import why_none
from eccos_aios.router import EstimatedBatch, Router, Routing


@dataclass(frozen=True)
class Batch:
    """A routed batch of queries.

    Attributes
    ----------
    queries : tuple of Query
    estimated : EstimatedBatch
        Their estimates over all cores.
    routings : tuple of Routing
        One per target, then one per budget; empty with plans.
    planned : tuple of PlannedRouting
        The same with plans.
    seconds : dict of str to float
        ``load``, ``fit``, ``predict`` and ``solve``, the last summed over the targets.
    """

    queries: tuple[Query, ...]
    estimated: EstimatedBatch
    routings: tuple[Routing, ...]
    planned: tuple[PlannedRouting, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def cores(self) -> tuple[Core, ...]:
        """In the order of the columns."""
        return self.estimated.cores

    def refusals(self) -> list[str]:
        """One line for each query that no core may take, and why."""
        nowhere = np.flatnonzero(~self.estimated.candidates.allowed.any(axis=1))
        return [
            f"{self.queries[row].source}: {why_none(self.queries[row].requirements, self.cores)}"
            for row in nowhere
        ]


def assign_files(
    history: Path,
    manifest: Path,
    queries: Path,
    targets: Sequence[float],
    *,
    budgets: Sequence[float] = (),
    predictor: Predictor | None = None,
    plans: Mode = "off",
    max_calls: float = MAX_CALLS_PER_QUERY,
    skip_bad_records: bool = False,
    report: ReadReport | None = None,
    on_step: OnStep = lambda step: None,
) -> Batch:
    """Read the files and route the batch; `predictor`, `plans` and `max_calls` as in `assign_batch`.

    Raises
    ------
    HistoryError, ConfigError, QueryError
        A file is wrong; names file, line, key and value.
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        on_step("reading the manifest and the queries")
        cores = read_manifest(manifest).cores
        batch = read_queries(queries)
        on_step("reading the history")
        records = read_history(history, skip_bad_records=skip_bad_records, report=report)
    return assign_batch(
        records,
        cores,
        batch,
        targets,
        budgets=budgets,
        predictor=predictor,
        plans=plans,
        max_calls=max_calls,
        seconds=seconds,
        on_step=on_step,
    )


def assign_batch(
    history: Sequence[Record],
    cores: Sequence[Core],
    queries: Sequence[Query],
    targets: Sequence[float],
    *,
    budgets: Sequence[float] = (),
    predictor: Predictor | None = None,
    plans: Mode = "off",
    max_calls: float = MAX_CALLS_PER_QUERY,
    seconds: dict[str, float] | None = None,
    on_step: OnStep = lambda step: None,
) -> Batch:
    """Route a batch once per quality target and once per budget, each time with whole quotas.

    Parameters
    ----------
    cores : sequence of Core
        As in `Router`.
    targets : sequence of float
        Mean quality to reach, 0 to 1, at least cost.
    budgets : sequence of float
        US dollars that the batch may cost, at best quality.
    predictor : Predictor, optional
        Unfitted. Default: `HybridPredictor`.
    plans : str
        ``check`` or ``agree``: a query may be answered by a plan of several cores. Only of cores without a
        quota; the others take queries alone.
    max_calls : float
        With plans: mean expected cores asked per query, at most.
    seconds : dict, optional
        The time of each step is added here.
    on_step : callable
        Called with a description of each step before it begins.

    Raises
    ------
    QueryError
        A query names cores, and none of them is in the manifest.
    """
    seconds = {} if seconds is None else seconds
    _require_known_cores(queries, cores)
    predictor = HybridPredictor() if predictor is None else predictor
    planner = None
    if plans != "off":
        planner = predictor = PlanPredictor(cores, plans, predictor)
    with timed(seconds, "fit"):
        on_step(f"learning from {len(history)} records")
        predictor.fit(history)
    with timed(seconds, "predict"):
        on_step(f"estimating {len(queries)} queries")
        estimated = Router(cores, predictor).estimate([(query.text, query.requirements) for query in queries])
    if planner is not None:
        planned = planned_routings(planner, estimated, queries, targets, budgets, max_calls, seconds, on_step)
        return Batch(tuple(queries), estimated, (), planned, seconds)
    routings = []
    for target in targets:
        on_step(f"assigning at quality target {target:g}")
        with timed(seconds, "solve"):
            routings.append(estimated.route(quality_target=target))
    for budget in budgets:
        on_step(f"assigning for ${budget:g}")
        with timed(seconds, "solve"):
            routings.append(estimated.route(budget=budget))
    return Batch(tuple(queries), estimated, tuple(routings), seconds=seconds)


def _require_known_cores(queries: Sequence[Query], cores: Sequence[Core]) -> None:
    known = {core.name for core in cores}
    for query in queries:
        named = query.requirements.cores
        if named is not None and known.isdisjoint(named):
            allowed = f"names no core of the manifest; they are {', '.join(core.name for core in cores)}"
            raise QueryError(query.source, "llms", sorted(named), allowed)
