"""A closed loop of callers over cores, simulated event by event: what a round's rules do to a kernel under load.

Each caller waits for its answer before it asks again. The rules, the quality debt and the cores' slots are the
scheduler's own; threads, AIOS and real time are left out, so that a minute of load takes about a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fake_clock import FakeClock
from numpy.typing import NDArray

from eccos_aios.config import BudgetConfig
from eccos_aios.core import Core, Price
from eccos_aios.predict import CallText, Estimates, Predictor
from eccos_aios.requirements import Requirements
from eccos_aios.schedule.budgets import Budgets
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.core_pool import CorePool
from eccos_aios.schedule.outcome_kinds import ANSWERED
from eccos_aios.schedule.pipeline import RoundPipeline
from eccos_aios.schedule.plan import CALLS_PER_SLOT, SPARE_CALLS
from eccos_aios.schedule.quality_debt import QualityDebt
from eccos_aios.schedule.settings import SchedulerSettings


@dataclass(frozen=True)
class LoopCore:
    """A simulated core; `service_s` draws the seconds of one call."""

    name: str
    quota: int
    usd: float
    service_s: Callable[[np.random.Generator], float]


@dataclass
class LoopResult:
    """The figures of one run, after its warm-up."""

    seconds: float
    slots: int
    latencies_s: list[float] = field(default_factory=list)
    busy_s: float = 0.0
    cost_usd: float = 0.0
    quality: float = 0.0
    finished: list[tuple[float, float, float]] = field(default_factory=list)  # moment, US dollars, quality
    served: dict[str, int] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return len(self.latencies_s)

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.seconds

    @property
    def busy_share(self) -> float:
        """Service seconds over the slots' seconds."""
        return self.busy_s / (self.seconds * self.slots)

    @property
    def mean_cost(self) -> float:
        return self.cost_usd / self.calls

    @property
    def mean_quality(self) -> float:
        return self.quality / self.calls

    def percentile_s(self, percent: float) -> float:
        return float(np.percentile(self.latencies_s, percent))


class ExactQuality(Predictor):
    """Knows each question's quality at each core: the text is its number."""

    def __init__(self, quality: NDArray[np.float64]) -> None:
        self._quality = quality

    def fit(self, history: Sequence[Any]) -> ExactQuality:
        return self

    def predict(self, texts: Sequence[CallText], names: Sequence[str]) -> Estimates:
        quality = self._quality[[int(text.text) % len(self._quality) for text in texts]]
        tokens = np.full(quality.shape, 1_000_000.0)
        return Estimates(quality, tokens, np.zeros(quality.shape), np.ones(quality.shape))


def run_loop(
    cores: Sequence[LoopCore],
    callers: int,
    quality: NDArray[np.float64],
    settings: SchedulerSettings,
    seconds: float = 20.0,
    warm_up_s: float = 5.0,
    think_s: float = 0.0,
    seed: int = 0,
    budget: BudgetConfig | None = None,
) -> LoopResult:
    """Run the loop.

    Parameters
    ----------
    quality : ndarray of shape (questions, cores)
        Asked in random order.
    think_s : float
        Mean seconds, exponentially distributed, from a caller's answer to its next call.
    budget : BudgetConfig, optional
        Its first period begins with the run, warm-up included.
    """
    rng, clock = np.random.default_rng(seed), FakeClock(0.0)
    known = [
        Core(name=core.name, quota=core.quota, price=Price(input=core.usd, output=0.0)) for core in cores
    ]
    pool = CorePool((), ExactQuality(quality), clock=clock).successor(known, ExactQuality(quality))
    failures: list[int] = []
    pipeline, debt = RoundPipeline(failures.append), QualityDebt()
    queue: list[Call] = []
    budgets = Budgets(budget, wall_s=clock.now_s)
    result = LoopResult(seconds, sum(core.quota for core in cores), served={core.name: 0 for core in cores})
    in_flight = {core.name: 0 for core in cores}
    ends_s = warm_up_s + seconds
    # (moment, order, core column or -1 for an arrival, call or None, started)
    events: list[tuple[float, int, int, Call | None, float]] = []
    order = iter(range(1 << 60))
    for _ in range(callers):
        heapq.heappush(events, (think_s * float(rng.exponential()), next(order), -1, None, 0.0))
    while events and events[0][0] < ends_s:
        now_s = events[0][0]
        clock.advance(now_s - clock.now_s())
        while events and events[0][0] <= now_s:
            _, _, column, call, started_s = heapq.heappop(events)
            if call is not None:
                slots = pool.slots[column]
                slots.note(call.number, ANSWERED, service_s=now_s - started_s, started_s=started_s)
                slots.release()
                in_flight[slots.core.name] -= 1
                if now_s >= warm_up_s:
                    _count(result, call, column, slots.core.name, now_s)
                pause_s = think_s * float(rng.exponential())
                if pause_s:
                    heapq.heappush(events, (now_s + pause_s, next(order), -1, None, 0.0))
                    continue
            queue.append(_ask(rng, len(quality), now_s))
        for call in _round(pool, pipeline, debt, budgets, settings, queue, now_s):
            column = pool.columns[call.core or ""]
            name, service_s = cores[column].name, cores[column].service_s(rng)
            in_flight[name] += 1
            result.most_at_once[name] = max(result.most_at_once.get(name, 0), in_flight[name])
            heapq.heappush(events, (now_s + service_s, next(order), column, call, now_s))
            result.busy_s += max(0.0, min(now_s + service_s, ends_s) - max(now_s, warm_up_s))
    assert not failures
    return result


def _ask(rng: np.random.Generator, questions: int, now_s: float) -> Call:
    call = Call(CallText(str(rng.integers(questions)), 10), Requirements(10), None, lambda *_: None)
    call.arrived_s = now_s
    return call


def _round(
    pool: CorePool,
    pipeline: RoundPipeline,
    debt: QualityDebt,
    budgets: Budgets,
    settings: SchedulerSettings,
    queue: list[Call],
    now_s: float,
) -> list[Call]:
    """The calls that a round sends; they have left the queue and hold their slots."""
    free = sum(core.free for core in pool.availability())
    front = queue[: CALLS_PER_SLOT * free + SPARE_CALLS]
    new = [call for call in front if call.row is None]
    if new:
        pool.attach_estimates(new, pipeline.estimate(pool, [call.text for call in new]))
    sent = []
    limits = budgets.limits if budgets else None
    for placement in pipeline.plan(pool, settings, front, debt.owed, now_s, limits).placements:
        call, slots = placement.call, pool.slots[placement.column]
        assert slots.acquire() is not None
        assert call.row is not None
        assert placement.target is not None
        debt.sent(placement.target, float(call.row.quality[placement.column]))
        budgets.sent(call, slots.core.name, placement.column, settings.quality_target)
        call.core = slots.core.name
        sent.append(call)
    gone = set(sent)
    queue[:] = [call for call in queue if call not in gone]
    return sent


def _count(result: LoopResult, call: Call, column: int, name: str, now_s: float) -> None:
    assert call.row is not None
    result.latencies_s.append(now_s - call.arrived_s)
    result.cost_usd += float(call.row.cost[column])
    result.quality += float(call.row.quality[column])
    result.finished.append((now_s, float(call.row.cost[column]), float(call.row.quality[column])))
    result.served[name] += 1
