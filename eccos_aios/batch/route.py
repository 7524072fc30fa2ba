"""Routing a batch of files: read them, fit the predictor, then one routing per quality target or budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from eccos_aios.batch.planned import OnStep, PlannedRouting, planned_routings, timed
from eccos_aios.batch.queries import Query, iterate_queries
from eccos_aios.core import Core, read_manifest
from eccos_aios.errors import QueryError
from eccos_aios.history import ReadReport, Record, read_history
from eccos_aios.plans import MAX_CALLS_PER_QUERY, Mode, PlanEstimates, PlanPredictor
from eccos_aios.predict import HybridPredictor, Predictor
from eccos_aios.predict.blas import one_blas_thread
from eccos_aios.requirements import Requirements, why_none
from eccos_aios.router import EstimatedBatch, Router, Routing

CHUNK = 4096  # queries that are estimated at once


@dataclass(frozen=True)
class Batch:
    """A routed batch of queries.

    Attributes
    ----------
    ids : tuple of str or int
        Of the queries, in their order.
    estimated : EstimatedBatch
        Their estimates over all cores.
    routings : tuple of Routing
        One per target, then one per budget; empty with plans.
    planned : tuple of PlannedRouting
        The same with plans.
    seconds : dict of str to float
        ``load``, ``fit``, ``predict`` and ``solve``, the last summed over the targets.
    refused : tuple of str
        One line for each query that no core may take: its place, and why.
    """

    ids: tuple[str | int, ...]
    estimated: EstimatedBatch
    routings: tuple[Routing, ...]
    planned: tuple[PlannedRouting, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    @property
    def cores(self) -> tuple[Core, ...]:
        """In the order of the columns."""
        return self.estimated.cores


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
        on_step("reading the manifest")
        cores = read_manifest(manifest).cores
        batch = iterate_queries(queries)
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
    queries: Iterable[Query],
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

    Queries are estimated in chunks, and their texts dropped: of a million, estimates and ids are in memory.

    Parameters
    ----------
    cores : sequence of Core
        As in `Router`.
    queries : iterable of Query
        Read once.
    targets : sequence of float
        Mean quality to reach, 0 to 1, at least cost.
    budgets : sequence of float
        US dollars that the batch may cost, at best quality.
    predictor : Predictor, optional
        Unfitted. Default: `HybridPredictor`.
    plans : str
        ``check`` or ``agree``: a query may be answered by a plan of several cores; a quota then limits how
        often a core is expected to be asked.
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
    predictor = HybridPredictor() if predictor is None else predictor
    planner = None
    if plans != "off":
        planner = predictor = PlanPredictor(cores, plans, predictor)
    with timed(seconds, "fit"):
        on_step(f"learning from {len(history)} records")
        predictor.fit(history)
    # in a batch BLAS threads would wait for each other, which takes as much CPU as the rest together
    with timed(seconds, "predict"), one_blas_thread():
        read = _estimated(Router(cores, predictor), queries, planner, on_step)
    if planner is not None:
        planned = planned_routings(read.plans, read.batch, targets, budgets, max_calls, seconds, on_step)
        return Batch(read.ids, read.batch, (), planned, seconds, read.refused)
    estimated = read.batch
    routings = []
    for target in targets:
        on_step(f"assigning at quality target {target:g}")
        with timed(seconds, "solve"):
            routings.append(estimated.route(quality_target=target))
    for budget in budgets:
        on_step(f"assigning for ${budget:g}")
        with timed(seconds, "solve"):
            routings.append(estimated.route(budget=budget))
    return Batch(read.ids, estimated, tuple(routings), (), seconds, read.refused)


@dataclass(frozen=True, eq=False)
class _Read:
    """The queries of a batch, estimated; their texts are gone."""

    ids: tuple[str | int, ...]
    batch: EstimatedBatch
    plans: tuple[PlanEstimates, ...]
    refused: tuple[str, ...]


def _estimated(
    router: Router, queries: Iterable[Query], planner: PlanPredictor | None, on_step: OnStep
) -> _Read:
    ids: list[str | int] = []
    refused: list[str] = []
    parts: list[EstimatedBatch] = []
    plans: list[PlanEstimates] = []
    source = iter(queries)
    while chunk := list(islice(source, CHUNK)):
        require_known_cores(chunk, router.cores)
        part = router.estimate([(query.text, query.requirements) for query in chunk])
        parts.append(_compact(part))
        if planner is not None:
            plans.append(planner.estimate_plans([query.text for query in chunk]))
        ids += [query.id for query in chunk]
        refused += refusals(chunk, part).values()
        on_step(f"estimated {len(ids)} queries")
    whole = EstimatedBatch.joined(parts) if parts else router.estimate([])
    if planner is not None and not plans:
        plans.append(planner.estimate_plans([]))
    return _Read(tuple(ids), whole, tuple(plans), tuple(refused))


def refusals(queries: Sequence[Query], estimated: EstimatedBatch) -> dict[int, str]:
    """By row, the place of each query that no core may take, and why."""
    return {
        row: f"{queries[row].source}: {why_none(queries[row].requirements, estimated.cores)}"
        for row in np.flatnonzero(~estimated.candidates.allowed.any(axis=1)).tolist()
    }


def _compact(part: EstimatedBatch) -> EstimatedBatch:
    """The part in single precision, without requirements that nothing asks for any more.

    They only tell why a query has no core, which `refused` has noted.
    """
    none_needed = (Requirements(0.0),) * len(part)
    return replace(EstimatedBatch.joined([part]), requirements=none_needed)


def require_known_cores(queries: Sequence[Query], cores: Sequence[Core]) -> None:
    """Refuse a query that names cores, none of which is there.

    Raises
    ------
    QueryError
        Names its place.
    """
    known = {core.name for core in cores}
    for query in queries:
        named = query.requirements.cores
        if named is not None and known.isdisjoint(named):
            allowed = f"names no core of the manifest; they are {', '.join(core.name for core in cores)}"
            raise QueryError(query.source, "llms", sorted(named), allowed)
