"""explain: why a query goes to its core, by the past calls it resembles and the estimates per core."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_aios.assign import REACH_SLACK
from eccos_aios.core import Core
from eccos_aios.history import Record
from eccos_aios.plans import PlanEstimates, PlanPredictor, route_plans
from eccos_aios.plans.answers import STAGES
from eccos_aios.predict import (
    CallText,
    GroundedPredictor,
    HybridPredictor,
    NeighbourSearch,
    Predictor,
    QualityGrounds,
    query_text,
)
from eccos_aios.reasons import NO_HISTORY, ONLY_CORE, Alternatives, choice_reasons
from eccos_aios.router import CoreEstimate, EstimatedBatch, RoutedCall, Router, Routing

if TYPE_CHECKING:
    import pandas

SIMILAR_CALLS = 24  # past calls whose mean is compared with the estimate
PRIOR_CALLS = 4.0  # that what is believed before any past call weighs as much as
LEAST_SIMILARITY = 0.3  # of a call that counts as seen, where the history is too short to say what is usual
MARGIN = 5e-4  # of quality: what three digits show


@dataclass(frozen=True)
class Neighbour:
    """A past call: its query, its cosine similarity, and the quality of each core on it."""

    query: str
    category: str | None
    similarity: float
    quality: dict[str, float]


@dataclass(frozen=True)
class CoreGrounds:
    """Why a core's quality is estimated as it is.

    Attributes
    ----------
    core : str
    error : float
        Standard error of the estimate: of a share q that n answers gave, sqrt(q (1 - q) / n) in its
        Bayesian form, n being the past calls behind it and four more for what is believed before them.
    neighbours : float or None
        Mean quality of the core's answers to the similar past calls, weighted by similarity; None where
        it answered none of them.
    answered : int
        How many of them it answered.
    mean : float or None
        Mean quality of all its past calls; None where the predictor does not say.
    trained : float or None
        What the model that was trained on all past calls expects; None where there is none.
    """

    core: str
    error: float
    neighbours: float | None
    answered: int
    mean: float | None
    trained: float | None


@dataclass(frozen=True)
class Alternative:
    """What another target would choose.

    Attributes
    ----------
    core : str
    quality, cost : float
        0 to 1, and US dollars.
    target : float
        The target from which on, or up to which, it is chosen.
    """

    core: str
    quality: float
    cost: float
    target: float


@dataclass(frozen=True)
class PlanEstimate:
    """What is expected of one query under one plan.

    Attributes
    ----------
    name : str
    plan : dict
        Ready for JSON, as in the lines of ``assign``.
    words : str
    quality, cost : float
        0 to 1, and US dollars.
    calls : float
        Cores that are asked.
    """

    name: str
    plan: dict[str, Any]
    words: str
    quality: float
    cost: float
    calls: float


@dataclass(frozen=True)
class Explanation:
    """The choice for one query on its own, and its grounds.

    Attributes
    ----------
    query : str
    quality_target : float
    core : str or None
        None if none may take it.
    reason : str or None
        One of `eccos_aios.reasons.REASONS`, as in ``/eccos/decisions``; None if there is no core.
    why : str
        The same in figures.
    quality_price : float or None
        US dollars that one more point of quality would cost, by the linear relaxation; None if more
        is out of reach.
    estimates : tuple of CoreEstimate
    neighbours : tuple of Neighbour
    seen : bool
        Whether any past call is as similar as the history's calls usually are to each other.
    grounds : tuple of CoreGrounds
        In the order of `estimates`.
    cheaper, dearer : Alternative or None
        What the next lower target chooses, and the next higher one; None if none chooses otherwise.
    plan : PlanEstimate or None
        The chosen plan, and then `core` is the first that it asks; None without plans.
    plans : tuple of PlanEstimate
        The plans of several cores among which it was chosen.
    """

    query: str
    quality_target: float
    core: str | None
    reason: str | None
    why: str
    quality_price: float | None
    estimates: tuple[CoreEstimate, ...]
    neighbours: tuple[Neighbour, ...]
    seen: bool = True
    grounds: tuple[CoreGrounds, ...] = ()
    cheaper: Alternative | None = None
    dearer: Alternative | None = None
    plan: PlanEstimate | None = None
    plans: tuple[PlanEstimate, ...] = ()

    def to_frame(self) -> pandas.DataFrame:
        """A pandas DataFrame with a row per core: its estimates and their grounds.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        from eccos_aios.frames import frame_of

        grounds = {each.core: asdict(each) for each in self.grounds}
        return frame_of({**asdict(row), **grounds.get(row.core, {})} for row in self.estimates)

    def estimate_of(self, core: str | None) -> CoreEstimate:
        """The estimate on a core of that name."""
        return next(row for row in self.estimates if row.core == core)


def explain(
    history: Sequence[Record],
    cores: Sequence[Core],
    query: str,
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    quality_target: float = 0.8,
    neighbours: int = 5,
    predictor: Predictor | None = None,
    searched: Predictor | None = None,
) -> Explanation:
    """Explain where a query would go if it were the only one.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
    query : str
    tools : sequence of mapping, optional
    quality_target : float
        0 to 1.
    neighbours : int
        How many past calls are shown.
    predictor : Predictor, optional
        Fitted on `history`, in its order; neighbours are shown if it is a `NeighbourSearch`. Default: the
        hybrid predictor, fitted here. With a `PlanPredictor` plans of several cores may answer, too; the
        bound on calls holds for the mean of many and not for this one.
    searched : Predictor, optional
        Fitted on `history`, in its order: names the neighbours. Default: `predictor`.
    """
    predictor = HybridPredictor().fit(history) if predictor is None else predictor
    searched = searched or (predictor.predictor_ if isinstance(predictor, PlanPredictor) else predictor)
    call = query_text(query, tools)
    batch = Router(cores, predictor).estimate([call])
    routing = _routed(batch, quality_target)
    routed, quality_price = routing[0], routing.quality_price
    rows = tuple(routed.estimates.values())
    similar = _similar(history, searched, call, max(neighbours, SIMILAR_CALLS))
    cheaper, dearer = _alternatives(batch, routed)
    found = Explanation(
        query=query,
        quality_target=quality_target,
        core=routed.core,
        reason=_reason(rows, routed.core, quality_target, recorded=routed.core not in routing.unrecorded),
        why=routed.reason or _why(rows, routed.estimates[routed.core or ""], quality_target),
        quality_price=quality_price if math.isfinite(quality_price) and routing.met else None,
        estimates=rows,
        neighbours=tuple(similar[:neighbours]),
        seen=_seen(searched, similar),
        grounds=_grounds(searched, call, rows, similar),
        cheaper=cheaper,
        dearer=dearer,
    )
    if routed.core is None or not isinstance(predictor, PlanPredictor):
        return found
    return _with_plan(found, predictor, call)


def _with_plan(single: Explanation, predictor: PlanPredictor, call: CallText) -> Explanation:
    """The same with the plan that is chosen where plans of several cores may answer."""
    estimates = predictor.estimate_plans([call])
    may = {row.core for row in single.estimates if row.allowed}
    allowed = np.array([[may.issuperset(plan.every_core) for plan in estimates.plans]])
    routing = route_plans(
        estimates, allowed=allowed, quality_target=single.quality_target, max_calls=float(STAGES)
    )
    every = [_plan_estimate(estimates, number) for number in range(len(estimates.plans))]
    number = int(routing.assignment.core[0])
    chosen, plan = every[number], estimates.plans[number]
    several = tuple(
        each for each, known in zip(every, estimates.plans, strict=True) if known.kind != "single"
    )
    if plan.kind == "single" and plan.first == single.core:
        return replace(single, plan=chosen, plans=several)
    price = routing.assignment.dual_prices.quality
    return replace(
        single,
        core=plan.first,
        reason=_compared(single.estimates, chosen.quality, chosen.cost, single.quality_target),
        why=_why_plan(chosen, single),
        quality_price=price if math.isfinite(price) else None,
        plan=chosen,
        plans=several,
    )


def _plan_estimate(estimates: PlanEstimates, number: int) -> PlanEstimate:
    plan = estimates.plans[number]
    return PlanEstimate(
        plan.name,
        plan.to_dict(),
        plan.in_words(float(estimates.reached[0, number]), float(estimates.middle[0, number])),
        float(estimates.quality[0, number]),
        float(estimates.cost[0, number]),
        float(estimates.calls[0, number]),
    )


def _why_plan(plan: PlanEstimate, single: Explanation) -> str:
    why = f"{plan.words}: expected to reach {plan.quality:.3f} for ${plan.cost:.6f}"
    if plan.quality < single.quality_target:
        why += f"; nothing reaches the target {single.quality_target:g}"
    alone = next(row for row in single.estimates if row.core == single.core)
    why += f". Alone, {alone.core} would be asked: {alone.quality:.3f} for ${alone.cost:.6f}"
    return why + ". Among other calls the target holds for the mean, so there another plan may be taken."


def _why(rows: Sequence[CoreEstimate], core: CoreEstimate, target: float) -> str:
    expected = f"{core.core} is expected to reach {core.quality:.3f} for ${core.cost:.6f}"
    if core.quality >= target:
        why = f"{expected}: of the cores that reach the target {target:g}, the cheapest"
    else:
        why = f"{expected}: no core reaches the target {target:g}; of those nearest to it, the cheapest"
    others = [row for row in rows if row.allowed and row.core != core.core]
    if core.quality >= target and any(row.cost < core.cost for row in others):
        cheaper = max((row for row in others if row.cost < core.cost), key=lambda row: row.quality)
        why += f"; {cheaper.core} would cost ${cheaper.cost:.6f}, but reaches only {cheaper.quality:.3f}"
    return why + ". Among other calls the target holds for the mean, so there it may go elsewhere."


def _routed(batch: EstimatedBatch, target: float) -> Routing:
    return batch.route(quality_target=target, quotas={core.name: 1 for core in batch.cores})


def _alternatives(batch: EstimatedBatch, routed: RoutedCall) -> tuple[Alternative | None, Alternative | None]:
    """The cores that the next lower and the next higher target choose."""
    if routed.core is None:
        return None, None
    chosen = routed.estimates[routed.core]
    rows = [row for row in routed.estimates.values() if row.allowed and row.core != routed.core]
    lower = max((row.quality for row in rows if row.cost < chosen.cost), default=None)
    higher = min((row.quality for row in rows if row.quality > chosen.quality + MARGIN), default=None)
    return _alternative(batch, lower, chosen.core), _alternative(batch, higher, chosen.core)


def _alternative(batch: EstimatedBatch, target: float | None, chosen: str) -> Alternative | None:
    if target is None:
        return None
    other = _routed(batch, target)[0]
    if other.core is None or other.core == chosen:
        return None
    row = other.estimates[other.core]
    return Alternative(row.core, row.quality, row.cost, target)


def _similar(history: Sequence[Record], searched: Predictor, call: CallText, count: int) -> list[Neighbour]:
    if not isinstance(searched, NeighbourSearch):
        return []
    return [_neighbour(history[row], alike) for row, alike in searched.nearest(call, count)]


def _seen(searched: Predictor, similar: Sequence[Neighbour]) -> bool:
    if not isinstance(searched, GroundedPredictor):
        return True
    least = searched.usual_similarity() or LEAST_SIMILARITY
    return bool(similar) and similar[0].similarity >= least


def _grounds(
    searched: Predictor, call: CallText, rows: Sequence[CoreEstimate], similar: Sequence[Neighbour]
) -> tuple[CoreGrounds, ...]:
    names = [row.core for row in rows]
    known: Sequence[QualityGrounds | None] = [None] * len(rows)
    if isinstance(searched, GroundedPredictor):
        known = searched.grounds(call, names)
    found = []
    for row, parts in zip(rows, known, strict=True):
        weighted = [
            (max(each.similarity, 0.0), each.quality[row.core])
            for each in similar
            if row.core in each.quality
        ]
        total = sum(weight for weight, _ in weighted)
        mean = sum(weight * quality for weight, quality in weighted) / total if total else None
        found.append(
            CoreGrounds(
                row.core,
                _error(row),
                mean,
                len(weighted),
                None if parts is None else parts.mean,
                None if parts is None else parts.trained,
            )
        )
    return tuple(found)


def _error(row: CoreEstimate) -> float:
    """Standard deviation of the beta distribution that so many answers of that mean quality give."""
    count = row.support + PRIOR_CALLS + 2
    mean = (row.quality * (row.support + PRIOR_CALLS) + 1) / count
    return math.sqrt(mean * (1 - mean) / (count + 1))


def _reason(rows: Sequence[CoreEstimate], name: str | None, target: float, *, recorded: bool) -> str | None:
    if name is None:
        return None
    if sum(row.allowed for row in rows) == 1:
        return ONLY_CORE
    if not recorded:
        return NO_HISTORY
    core = next(row for row in rows if row.core == name)
    return _compared(rows, core.quality, core.cost, target)


def _compared(rows: Sequence[CoreEstimate], quality: float, cost: float, target: float) -> str:
    """The reason for a core or a plan that promises this, by what the cores promise."""
    given = Alternatives(
        np.array([[row.quality for row in rows]]),
        np.array([[row.cost for row in rows]]),
        np.array([[row.allowed for row in rows]]),
        [quality],
        [cost],
        [target],
        full=[False] * len(rows),
        slack=REACH_SLACK,
    )
    return choice_reasons(given, tuple(row.core for row in rows))[0]


def _neighbour(record: Record, alike: float) -> Neighbour:
    quality = {outcome.model_name: outcome.graded_quality for outcome in record.outputs}
    return Neighbour(record.query, record.category, alike, quality)
