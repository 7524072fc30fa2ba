"""Does the quality target hold over time with a biased predictor, and what do small rounds cost?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import Frontier
from eccos_aios.candidates import Candidates
from eccos_aios.core import Core
from eccos_aios.history import Record
from eccos_aios.predict import CallText, HybridPredictor, Predictor, record_text
from eccos_aios.requirements import Requirements
from eccos_aios.runtime.configuration import past_records
from eccos_aios.schedule import Call
from eccos_aios.schedule.capacity import Capacity, Target
from eccos_aios.schedule.passes import optimise
from eccos_aios.schedule.plan import undecided
from eccos_aios.schedule.quality_debt import QualityDebt
from eccos_aios.schedule.quality_price import QualityPrice
from eccos_aios.schedule.round_batch import RoundBatch

FloatArray = NDArray[np.float64]

LEARNED_SHARE = 0.6  # of the queries; the rest is replayed
TARGET_STEPS = (
    0.1,
    0.3,
    0.5,
    0.7,
    0.9,
)  # between the quality of the cheapest core and the best that can be reached


@dataclass(frozen=True)
class OnlineRow:
    """The result of one replay.

    Attributes
    ----------
    target : float
        Mean quality to hold, 0 to 1.
    lasting_price : bool
        Whether quality has a price that outlives rounds; else each round reaches the target alone.
    primed : bool
        Whether calls that were learned from set the price before the first call, as in a kernel.
    bias : float
        Added to every predicted quality.
    delivered, promised : float
        Means over the calls; `promised` includes the bias.
    cost_usd : float
        Of all calls, as estimated.
    least_usd : float
        What the promised quality costs at least, if all the calls were assigned at once.
    calls : int
    """

    target: float
    lasting_price: bool
    primed: bool
    bias: float
    delivered: float
    promised: float
    cost_usd: float
    least_usd: float
    calls: int


@dataclass(frozen=True)
class Calls:
    """Calls, to replay or past; arrays of shape (calls, cores), unknown quality is NaN."""

    predicted: FloatArray
    cost: FloatArray
    outcome: FloatArray


def online_bench(
    history: Sequence[Record],
    cores: Sequence[Core],
    calls: int = 2000,
    round_size: int = 4,
    feedback_share: float = 1.0,
    biases: Sequence[float] = (-0.05, 0.0, 0.05),
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[OnlineRow]:
    """Replay calls in rounds with the scheduler's own optimiser pass, with and without a price that lasts.

    Parameters
    ----------
    history : sequence of Record
        Split by query: one part is fitted on, the other is replayed, repeatedly where it is too short.
    cores : sequence of Core
    calls : int
    round_size : int
        Calls per round.
    feedback_share : float
        Share of the calls whose real quality is reported, 0 to 1.
    biases : sequence of float
        Added to every predicted quality.
    seed : int
    on_step : callable, optional
        Called with a description of each step.

    Raises
    ------
    ValueError
        There are fewer than two different queries.
    """
    on_step(f"learning from {len(history)} records")
    replayed, past = _calls(history, cores, calls, seed)
    rows = []
    for target in _targets(replayed):
        for bias in biases:
            on_step(f"target {target:.3f}, bias {bias:+.2f}")
            rows += [
                _replay(replayed, before, target, lasting, bias, round_size, feedback_share, seed)
                for lasting, before in ((False, None), (True, None), (True, past))
            ]
    return rows


def rows_as_json(rows: Sequence[OnlineRow]) -> str:
    """The rows as one JSON object."""
    return json.dumps({"rows": [asdict(row) for row in rows]})


def _calls(history: Sequence[Record], cores: Sequence[Core], calls: int, seed: int) -> tuple[Calls, Calls]:
    """Those to replay, and some of those that the predictor has learned from."""
    draw = np.random.default_rng(seed)
    queries = sorted({record.query for record in history})
    if len(queries) < 2:
        raise ValueError(f"history: {len(queries)} different queries: must be two at least")
    learned = set(draw.permutation(queries)[: max(1, int(LEARNED_SHARE * len(queries)))].tolist())
    rest = [record for record in history if record.query not in learned]
    order = np.concatenate([draw.permutation(len(rest)) for _ in range(-(-calls // len(rest)))])[:calls]
    chosen = [rest[position] for position in order]
    taught = [record for record in history if record.query in learned]
    predictor = HybridPredictor().fit(taught)
    return _estimated(predictor, chosen, cores), _estimated(predictor, past_records(taught), cores)


def _estimated(predictor: Predictor, chosen: Sequence[Record], cores: Sequence[Core]) -> Calls:
    names = [core.name for core in cores]
    estimates = predictor.predict([record_text(record) for record in chosen], names)
    outcome = np.full((len(chosen), len(names)), np.nan)
    for row, record in enumerate(chosen):
        for given in record.outputs:
            if given.model_name in names:
                outcome[row, names.index(given.model_name)] = given.graded_quality
    return Calls(estimates.quality, estimates.cost(cores), outcome)


def _targets(calls: Calls) -> list[float]:
    """Targets from the quality of the cheapest core to the best that the predictor can reach."""
    cheapest = float(np.nanmean(calls.outcome[:, calls.cost.sum(axis=0).argmin()]))
    rows = np.arange(len(calls.cost))
    best = float(np.nanmean(calls.outcome[rows, calls.predicted.argmax(axis=1)]))
    return [cheapest + step * (best - cheapest) for step in TARGET_STEPS]


def _replay(
    calls: Calls,
    past: Calls | None,
    target: float,
    lasting: bool,
    bias: float,
    round_size: int,
    feedback_share: float,
    seed: int,
) -> OnlineRow:
    draw = np.random.default_rng(seed)
    debt, price = QualityDebt(), QualityPrice()
    predicted = np.clip(calls.predicted + bias, 0.0, 1.0)
    known = np.isfinite(calls.outcome)
    chosen = []
    if past is not None:
        biased = np.clip(past.predicted + bias, 0.0, 1.0)
        every = np.ones(past.cost.shape, dtype=np.bool_)
        before = _batch(Candidates(biased, past.cost, every), Target(target, debt.owed))
        price.count(before, None)
        price.renew(before.target, max_calls=1.0)
    for first in range(0, len(predicted), round_size):
        rows = np.arange(first, min(first + round_size, len(predicted)))
        batch = _batch(Candidates(predicted[rows], calls.cost[rows], known[rows]), Target(target, debt.owed))
        if lasting:
            price.count(batch, None)
            price.renew(batch.target, max_calls=1.0)
            batch = replace(batch, wanted=price.wanted(batch, max_calls=1.0))
        for row, column in zip(
            rows.tolist(), optimise(batch, undecided(len(batch))).columns.tolist(), strict=True
        ):
            debt.sent(target, predicted[row, column])
            if draw.random() < feedback_share:
                debt.delivered(predicted[row, column], calls.outcome[row, column])
            chosen.append(column)
    each = np.arange(len(chosen)), np.array(chosen)
    promised = float(predicted[each].mean())
    frontier = Frontier.of(predicted, np.where(known, calls.cost, np.inf))
    least = len(chosen) * float(np.interp(promised, frontier.quality, frontier.cost))
    delivered, cost = float(calls.outcome[each].mean()), float(calls.cost[each].sum())
    return OnlineRow(target, lasting, past is not None, bias, delivered, promised, cost, least, len(chosen))


def _batch(candidates: Candidates, target: Target) -> RoundBatch:
    """A round of these calls where every core may take all of them."""
    size, cores = candidates.cost.shape
    none = np.zeros(cores, dtype=np.int64)
    capacity = Capacity(np.full(cores, size), none, none, np.ones(cores), np.ones(cores))
    calls = [Call(CallText("?", 1), Requirements(1), None, lambda *_: None) for _ in range(size)]
    return RoundBatch(tuple(calls), candidates, capacity, target)
