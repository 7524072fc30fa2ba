"""Router: sends a batch of calls to the cores that reach a quality target at least cost, or by a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from eccos_aios.assign import REACH_SLACK, WAITS, Assignment, solve
from eccos_aios.candidates import Candidates, FloatArray, IntArray
from eccos_aios.core import Core, Manifest
from eccos_aios.predict import (
    CallText,
    CoreExperience,
    Estimates,
    Predictor,
    call_text,
    experience_of,
    query_text,
)
from eccos_aios.requirements import Requirements, why_none

if TYPE_CHECKING:
    import pandas

RouterCall = str | CallText | Mapping[str, Any] | tuple[str | CallText, Requirements]

NO_QUOTA_LEFT = "the quota of every core that may take this call is used up"


@dataclass(frozen=True)
class CoreEstimate:
    """The estimates of one call on one core.

    Attributes
    ----------
    quality : float
        0 to 1.
    cost : float
        US dollars.
    input_tokens, output_tokens : float
    support : float
        Effective number of past calls behind the quality.
    allowed : bool
        Whether the core may take the call.
    """

    core: str
    quality: float
    cost: float
    input_tokens: float
    output_tokens: float
    support: float
    allowed: bool


@dataclass(frozen=True)
class RoutedCall:
    """Where one call goes.

    Attributes
    ----------
    core : str or None
        None if no core may take it, or the quotas of those that may are used up.
    reason : str or None
        Why there is no core; None if there is one.
    quality, cost, seconds : float or None
        Estimates of that core: quality, 0 to 1, US dollars, and seconds where the router knows them.
    estimates : dict of str to CoreEstimate
        Of every core.
    """

    core: str | None
    reason: str | None
    quality: float | None
    cost: float | None
    seconds: float | None
    estimates: dict[str, CoreEstimate]


@dataclass(frozen=True, eq=False)
class EstimatedBatch:
    """Calls with their estimates over all cores; `route` assigns them at any target or budget.

    Attributes
    ----------
    cores : tuple of Core
    requirements : tuple of Requirements
        One per call.
    estimates : Estimates
        Arrays of shape (calls, cores).
    candidates : Candidates
        The same with costs and limits.
    seconds : ndarray of shape (cores,) or None
        Expected seconds of an answer.
    experience : CoreExperience or None
        What the predictor knows of the cores; None where it does not say.
    """

    cores: tuple[Core, ...]
    requirements: tuple[Requirements, ...]
    estimates: Estimates
    candidates: Candidates
    seconds: FloatArray | None = None
    experience: CoreExperience | None = None

    def __len__(self) -> int:
        return len(self.requirements)

    @classmethod
    def joined(cls, parts: Sequence[EstimatedBatch]) -> EstimatedBatch:
        """Parts of one batch as a whole, in their order; at least one.

        Tokens and support are then stored in single precision.
        """
        first = parts[0]
        estimates = [part.estimates for part in parts]
        candidates = [part.candidates for part in parts]
        quality = np.concatenate([part.quality for part in candidates])
        return cls(
            first.cores,
            tuple(each for part in parts for each in part.requirements),
            Estimates(
                quality,
                _single([part.input_tokens for part in estimates]),
                _single([part.output_tokens for part in estimates]),
                _single([part.support for part in estimates]),
            ),
            Candidates(
                quality,
                np.concatenate([part.cost for part in candidates]),
                np.concatenate([part.allowed for part in candidates]),
            ),
            first.seconds,
            first.experience,
        )

    def route(
        self,
        *,
        quality_target: float | None = None,
        budget: float | None = None,
        quotas: Mapping[str, int] | None = None,
        reach_slack: float = REACH_SLACK,
    ) -> Routing:
        """Assign the batch; parameters and errors as in `Router.route`."""
        if (quality_target is None) == (budget is None):
            given = "neither is" if budget is None else "both are"
            raise ValueError(f"quality_target, budget: {given} given: give exactly one of them")
        problem = self.candidates.problem(
            0.0 if quality_target is None else quality_target,
            quota=self._quota(quotas or {}),
            budget=budget,
            seconds=self.seconds,
            reach_slack=reach_slack,
        )
        return Routing(self, quality_target, budget, solve(problem))

    def estimates_of(self, row: int) -> dict[str, CoreEstimate]:
        """One call's estimates by core."""
        columns = zip(
            self.candidates.quality[row].tolist(),
            self.candidates.cost[row].tolist(),
            self.estimates.input_tokens[row].tolist(),
            self.estimates.output_tokens[row].tolist(),
            self.estimates.support[row].tolist(),
            self.candidates.allowed[row].tolist(),
            strict=True,
        )
        names = (core.name for core in self.cores)
        return {name: CoreEstimate(name, *column) for name, column in zip(names, columns, strict=True)}

    def _quota(self, quotas: Mapping[str, int]) -> IntArray:
        unknown = sorted(quotas.keys() - {core.name for core in self.cores})
        if unknown:
            known = ", ".join(core.name for core in self.cores)
            raise ValueError(f"quotas: {unknown[0]!r}: must name one of the cores: {known}")
        given = {core.name: core.quota for core in self.cores} | dict(quotas)
        for name, quota in given.items():
            if quota is not None and (isinstance(quota, bool) or not isinstance(quota, int) or quota < 0):
                raise ValueError(f"quotas: {name}: {quota!r}: must be a whole number of at least 0")
        calls = len(self)
        every = [calls if quota is None else min(quota, calls) for quota in given.values()]
        return np.array(every, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Routing(Sequence[RoutedCall]):
    """A routed batch: a sequence of `RoutedCall` in the order of the calls, and figures of the whole.

    Attributes
    ----------
    batch : EstimatedBatch
        The calls and their estimates.
    quality_target, budget : float or None
        The one that was asked for: mean quality, 0 to 1, or US dollars.
    assignment : Assignment
        The solution as arrays.
    """

    batch: EstimatedBatch
    quality_target: float | None
    budget: float | None
    assignment: Assignment

    def __len__(self) -> int:
        return len(self.batch)

    @overload
    def __getitem__(self, index: int) -> RoutedCall: ...
    @overload
    def __getitem__(self, index: slice) -> list[RoutedCall]: ...
    def __getitem__(self, index: int | slice) -> RoutedCall | list[RoutedCall]:
        if isinstance(index, slice):
            return [self._call(row) for row in range(*index.indices(len(self)))]
        return self._call(range(len(self))[index])

    def __iter__(self) -> Iterator[RoutedCall]:
        return map(self._call, range(len(self)))

    @property
    def cores(self) -> list[str | None]:
        """The core of each call; None: no core."""
        names = [core.name for core in self.batch.cores]
        return [None if column == WAITS else names[column] for column in self.assignment.core.tolist()]

    @property
    def per_core(self) -> dict[str, int]:
        """Number of calls that each core gets."""
        counts = self._load().tolist()
        return {core.name: count for core, count in zip(self.batch.cores, counts, strict=True)}

    @property
    def predicted_quality(self) -> float:
        """Mean over the calls that have a core; NaN if none has."""
        return self.assignment.quality

    @property
    def predicted_cost(self) -> float:
        """US dollars, sum over the calls that have a core."""
        return self.assignment.cost

    @property
    def lower_bound(self) -> float:
        """US dollars: proven that no routing of these calls that meets the target costs less.

        Infinite if none meets it; 0 under a budget.
        """
        return self.assignment.lower_bound

    @property
    def gap(self) -> float:
        """(cost - lower_bound) / lower_bound; NaN if no routing meets the target."""
        return self.assignment.gap

    @property
    def met(self) -> bool:
        """Whether the target is reached, or the budget held, and one call at least has a core.

        A target is not reached on the mere belief in cores without records.
        """
        return self.assignment.met and (self.quality_target is None or not self.unrecorded)

    @property
    def unrecorded(self) -> list[str]:
        """The cores that calls are routed to without a single recorded outcome."""
        experience = self.batch.experience
        if experience is None:
            return []
        columns = np.flatnonzero(experience.unrecorded(self._load()))
        return [self.batch.cores[column].name for column in columns.tolist()]

    @property
    def quality_price(self) -> float:
        """US dollars that one more point of quality costs, a point being the whole quality of one call.

        Under a budget, the points of quality that one more dollar buys.
        """
        return self.assignment.dual_prices.quality

    @property
    def slot_prices(self) -> dict[str, float]:
        """By core, the US dollars that one more slot saves; under a budget, the quality that it gains."""
        slots = np.broadcast_to(self.assignment.dual_prices.slot, len(self.batch.cores)).tolist()
        return {core.name: price for core, price in zip(self.batch.cores, slots, strict=True)}

    def to_dicts(self, *, estimates: bool = False) -> list[dict[str, Any]]:
        """One dictionary per call, ready for JSON.

        The keys are ``core``, ``reason``, ``predicted_quality``, ``predicted_cost``; ``predicted_seconds``
        where the router knows seconds; with `estimates`, ``estimates``: by core ``quality``, ``cost``,
        ``input_tokens`` and ``output_tokens``.
        """
        rows = []
        for call in self:
            row: dict[str, Any] = {
                "core": call.core,
                "reason": call.reason,
                "predicted_quality": call.quality,
                "predicted_cost": call.cost,
            }
            if self.batch.seconds is not None:
                row["predicted_seconds"] = call.seconds
            if estimates:
                row["estimates"] = {
                    name: {
                        "quality": each.quality,
                        "cost": each.cost,
                        "input_tokens": each.input_tokens,
                        "output_tokens": each.output_tokens,
                    }
                    for name, each in call.estimates.items()
                }
            rows.append(row)
        return rows

    def to_frame(self) -> pandas.DataFrame:
        """A pandas DataFrame with a row per call and the columns of `to_dicts`.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        from eccos_aios.frames import frame_of

        columns = ["core", "reason", "predicted_quality", "predicted_cost"]
        if self.batch.seconds is not None:
            columns.append("predicted_seconds")
        return frame_of(self.to_dicts(), columns)

    def _load(self) -> IntArray:
        columns = self.assignment.core
        return np.bincount(columns[columns != WAITS], minlength=len(self.batch.cores))

    def _call(self, row: int) -> RoutedCall:
        estimates, column = self.batch.estimates_of(row), int(self.assignment.core[row])
        if column == WAITS:
            return RoutedCall(None, self._why_none(row), None, None, None, estimates)
        core = self.batch.cores[column].name
        seconds = None if self.batch.seconds is None else float(self.batch.seconds[column])
        return RoutedCall(core, None, estimates[core].quality, estimates[core].cost, seconds, estimates)

    def _why_none(self, row: int) -> str:
        if self.batch.candidates.allowed[row].any():
            return NO_QUOTA_LEFT
        return why_none(self.batch.requirements[row], self.batch.cores)


class Router:
    """Routes batches of calls: estimates every call on every core, then solves the assignment.

    Parameters
    ----------
    cores : Manifest or sequence of Core
        A core's quota is the number of calls of a batch that it may take; without one it is unlimited.
    predictor : Predictor
        Fitted.
    seconds : mapping of str to float, optional
        By core, the expected seconds of an answer. Of cores that cost the same the fastest is taken.

    Raises
    ------
    ValueError
        There is no core, two have the same name, or `seconds` lacks one or is negative there.

    Examples
    --------
    >>> from eccos_aios import Core, Price, RetrievalPredictor, Router
    >>> cores = [Core(name="small", price=Price(input=0.1)), Core(name="large", price=Price(input=5))]
    >>> routing = Router(cores, RetrievalPredictor().fit([])).route(["What is 2 + 2?"], quality_target=0.4)
    >>> routing.cores
    ['small']
    """

    def __init__(
        self,
        cores: Manifest | Sequence[Core],
        predictor: Predictor,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        self.cores = tuple(cores.cores if isinstance(cores, Manifest) else cores)
        self.predictor = predictor
        self._names = [core.name for core in self.cores]
        if not self._names:
            raise ValueError("cores: none given: must be one at least")
        if len(set(self._names)) < len(self._names):
            twice = next(name for name in self._names if self._names.count(name) > 1)
            raise ValueError(f"cores: {twice!r}: two cores have this name")
        self._seconds = None if seconds is None else self._checked_seconds(seconds)

    def route(
        self,
        calls: Sequence[RouterCall],
        *,
        quality_target: float | None = None,
        budget: float | None = None,
        quotas: Mapping[str, int] | None = None,
        reach_slack: float = REACH_SLACK,
    ) -> Routing:
        """Route a batch at a quality target at least cost, or for a budget at the best quality.

        Parameters
        ----------
        calls : sequence
            Each a text, a `CallText`, a mapping with ``messages`` (OpenAI's format) or ``query`` and
            optionally ``tools``, or a tuple of a text and its `Requirements`.
        quality_target : float, optional
            Mean quality of the routed calls, 0 to 1.
        budget : float, optional
            US dollars that the batch may cost.
        quotas : mapping of str to int, optional
            By core, the calls that it may take, in place of its own quota.
        reach_slack : float
            Mean quality, 0 to 1. Where the target is out of reach, the cheapest routing that is within this
            of the best one is taken.

        Raises
        ------
        ValueError
            Not exactly one of target and budget is given, a value is out of its range, a quota names no
            core, or an estimate of the predictor is wrong.
        TypeError
            A call is of no known form.
        """
        return self.estimate(calls).route(
            quality_target=quality_target, budget=budget, quotas=quotas, reach_slack=reach_slack
        )

    def estimate(self, calls: Sequence[RouterCall]) -> EstimatedBatch:
        """Stage 1 and the hard limits of a batch, to route it more than once; `calls` as in `route`."""
        if isinstance(calls, str | Mapping):
            raise TypeError("calls: must be a sequence of calls; put a single call into a list")
        read = [_read(position, call) for position, call in enumerate(calls)]
        requirements = tuple(each for _, each in read)
        predicted = self.predictor.predict([text for text, _ in read], self._names)
        estimates, sound, fault = predicted.checked(len(read), self._names)
        if not sound.all():
            raise ValueError(f"estimates of {type(self.predictor).__name__}: {fault}")
        experience = experience_of(self.predictor, self._names)
        candidates = Candidates.of(estimates, requirements, self.cores, experience=experience)
        return EstimatedBatch(self.cores, requirements, estimates, candidates, self._seconds, experience)

    def _checked_seconds(self, seconds: Mapping[str, float]) -> FloatArray:
        for name in self._names:
            value = seconds.get(name, math.nan)
            if not 0 <= value < math.inf:
                given = "absent" if name not in seconds else repr(value)
                raise ValueError(f"seconds: {name}: {given}: must be seconds of at least 0")
        return np.array([seconds[name] for name in self._names], dtype=np.float64)


def _single(arrays: Sequence[FloatArray]) -> Any:
    return np.concatenate(arrays, dtype=np.float32)


def _read(position: int, call: RouterCall) -> tuple[CallText, Requirements]:
    if isinstance(call, tuple):
        if len(call) == 2 and isinstance(call[0], str | CallText) and isinstance(call[1], Requirements):
            return _text(call[0]), call[1]
        raise TypeError(f"calls[{position}]: a tuple must hold a text and its Requirements")
    if isinstance(call, str | CallText):
        text = _text(call)
    elif isinstance(call, Mapping):
        text = _mapping_text(position, call)
    else:
        raise TypeError(
            f"calls[{position}]: {type(call).__name__}: must be a text, a CallText, a mapping with messages "
            "or query, or a tuple of a text and its Requirements"
        )
    return text, Requirements.of(text)


def _text(text: str | CallText) -> CallText:
    return query_text(text) if isinstance(text, str) else text


def _mapping_text(position: int, call: Mapping[str, Any]) -> CallText:
    messages, query = call.get("messages"), call.get("query")
    if (messages is None) == (query is None):
        raise ValueError(f"calls[{position}]: {sorted(call)}: must have either messages or query")
    if query is not None:
        return query_text(query, call.get("tools"))
    return call_text(messages, call.get("tools"))
