"""How long the scheduler takes to decide, beside how long the calls take."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice

import numpy as np

from eccos_aios.core import Core, Price
from eccos_aios.history import Record
from eccos_aios.predict import CallText, Estimates, HybridPredictor, Predictor, record_text
from eccos_aios.schedule import Call, CallResult, ExecutionResult, Requirements, Scheduler, SchedulerSettings
from eccos_aios.schedule.decision_log import REMEMBERED_DECISIONS, Decision

MAX_CALLS = REMEMBERED_DECISIONS  # of a load; the scheduler remembers no more decisions
LEARNED_SHARE = 0.6  # of the queries; the rest is replayed
CROWD = 1000  # calls that stay pending
CROWD_CORES = 16
CROWD_QUOTA = 4
CROWD_CALLS = 400  # calls decided meanwhile
COPY_PENALTY = 0.02  # reduction of quality and relative price with each further copy of a core
ENOUGH_S = 600.0  # seconds that a load may take


@dataclass(frozen=True)
class DecisionRow:
    """The measurements of one load.

    Attributes
    ----------
    load : {"replay", "crowd"}
        ``crowd``: so many calls are pending all the time.
    callers : int
        Concurrent agents, each waiting for its answer; in a crowd, the pending calls.
    cores, calls : int
    decision_ms_mean, decision_ms_p50, decision_ms_p99 : float
        Milliseconds from the start of the round that sent a call to the end of its plan.
    decision_s, response_s : float
        Sums over the calls: of that, and of the recorded seconds to the answer.
    share : float
        `decision_s` over `response_s`.
    """

    load: str
    callers: int
    cores: int
    calls: int
    decision_ms_mean: float
    decision_ms_p50: float
    decision_ms_p99: float
    decision_s: float
    response_s: float
    share: float


def decisions_bench(
    history: Sequence[Record],
    cores: Sequence[Core],
    calls: int = 300,
    callers: Sequence[int] = (1, 16),
    time_scale: float = 0.02,
    quality_target: float = 0.8,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[DecisionRow]:
    """Drive the scheduler with recorded calls that take their recorded time; nothing is sent.

    Parameters
    ----------
    history : sequence of Record
        Split by query: one part is fitted on, the other is replayed, repeatedly where it is too short.
    cores : sequence of Core
    calls : int
        Of each load, at most `MAX_CALLS`.
    callers : sequence of int
        A load each; the last row is a crowd of 1,000 pending calls before 16 cores.
    time_scale : float
        Factor on the recorded seconds during the replay.
    quality_target : float
    seed : int
        Of the split.
    on_step : callable, optional
        Called with a description of each step.

    Raises
    ------
    ValueError
        There are fewer than two different queries, or no latency of these cores is recorded.
    """
    on_step(f"learning from {len(history)} records")
    learned, rest = _split(history, seed)
    latencies = _Latencies(rest, cores)
    predictor = HybridPredictor().fit(learned)
    settings = SchedulerSettings(quality_target=quality_target)
    rows = []
    for count in callers:
        on_step(f"{calls} calls of {count} callers")
        run = _Run(cores, predictor, settings, latencies, time_scale, list(islice(cycle(rest), calls)))
        rows.append(_row("replay", count, len(cores), run.decided(count), run.response_s))
    on_step(f"{CROWD} pending calls before {CROWD_CORES} cores")
    copies = _copies(cores)
    slots = CROWD_CORES * CROWD_QUOTA
    many = list(islice(cycle(rest), slots + CROWD + CROWD_CALLS))
    run = _Run(list(copies), _Copied(predictor, copies), settings, latencies, time_scale, many)
    # The first round estimates all of them, which else happens as they come; it fills the slots.
    decided = run.decided(slots + CROWD, slots + CROWD_CALLS)[slots : slots + CROWD_CALLS]
    rows.append(_row("crowd", CROWD, len(copies), decided, run.response_s))
    return rows


def rows_as_json(rows: Sequence[DecisionRow], time_scale: float) -> str:
    """The rows as one JSON object."""
    return json.dumps({"time_scale": time_scale, "rows": [asdict(row) for row in rows]})


class _Latencies:
    """Recorded seconds of a query on a core; the core's mean where none are recorded."""

    def __init__(self, records: Sequence[Record], cores: Sequence[Core]) -> None:
        self._seconds = {
            (record.query, outcome.model_name): outcome.latency_s
            for record in records
            for outcome in record.outputs
            if outcome.latency_s is not None
        }
        self._means: dict[str, float] = {}
        for core in cores:
            taken = [seconds for (_, name), seconds in self._seconds.items() if name == core.name]
            if not taken:
                raise ValueError(f"latency_s: no outcome of core {core.name!r} has one")
            self._means[core.name] = float(np.mean(taken))

    def of(self, query: str, core: str) -> float:
        name = _original(core)
        return self._seconds.get((query, name), self._means[name])


class _Run:
    """One scheduler and its calls, each new one submitted as another is answered."""

    def __init__(
        self,
        cores: Sequence[Core],
        predictor: Predictor,
        settings: SchedulerSettings,
        latencies: _Latencies,
        time_scale: float,
        records: Sequence[Record],
    ) -> None:
        self.response_s: dict[int, float] = {}
        self._latencies = latencies
        self._time_scale = time_scale
        self._left: Iterator[Record] = iter(records)
        self._asked = len(records)
        self._answered = threading.Semaphore(0)
        self._lock = threading.Lock()  # guards the records that are left
        self._scheduler = Scheduler(cores, predictor, self._execute, settings)

    def decided(self, at_once: int, answers: int | None = None) -> list[Decision]:
        """The decisions in order, once a number of calls is answered; default: all."""
        for _ in range(at_once):
            self._submit_next()
        self._scheduler.start()
        for _ in range(answers or self._asked):
            if not self._answered.acquire(timeout=ENOUGH_S):
                raise TimeoutError(f"no call was answered within {ENOUGH_S:g} seconds")
        decisions = self._scheduler.decisions()
        self._scheduler.stop(grace_s=0.0)
        return decisions[::-1]

    def _submit_next(self) -> None:
        with self._lock:
            record = next(self._left, None)
        if record is not None:
            text = record_text(record)
            self._scheduler.submit(Call(text, Requirements(text.input_tokens), record.query, self._done))

    def _execute(self, call: Call, core: str) -> ExecutionResult:
        seconds = self._latencies.of(call.payload, core)
        self.response_s[call.number] = seconds
        time.sleep(seconds * self._time_scale)
        return ExecutionResult(None)

    def _done(self, _: Call, result: CallResult) -> None:
        if not result.failed:
            self._submit_next()
            self._answered.release()


class _Copied(Predictor):
    """The estimates of a predictor for cores, repeated for their copies."""

    def __init__(self, inner: Predictor, copies: Mapping[Core, int]) -> None:
        self._inner = inner
        self._penalty = {core.name: COPY_PENALTY * number for core, number in copies.items()}

    def fit(self, history: Sequence[Record]) -> _Copied:
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        estimates = self._inner.predict(calls, [_original(name) for name in cores])
        penalty = np.array([self._penalty[name] for name in cores])
        return replace(estimates, quality=np.maximum(estimates.quality - penalty, 0.0))


def _split(history: Sequence[Record], seed: int) -> tuple[list[Record], list[Record]]:
    queries = sorted({record.query for record in history})
    if len(queries) < 2:
        raise ValueError(f"query: {len(queries)} different ones: must be two at least")
    shuffled = np.random.default_rng(seed).permutation(queries)
    learned = set(shuffled[: max(1, int(LEARNED_SHARE * len(queries)))].tolist())
    return [r for r in history if r.query in learned], [r for r in history if r.query not in learned]


def _copies(cores: Sequence[Core]) -> dict[Core, int]:
    """Cores for the crowd, each with the number of its copy: the given cores, repeated where too few."""
    found: dict[Core, int] = {}
    for position in range(CROWD_CORES):
        number, column = divmod(position, len(cores))
        core, price = cores[column], cores[column].resolved_price
        cheaper = 1 - COPY_PENALTY * number
        copy = Core(
            name=f"{core.name}\n{number}",
            quota=CROWD_QUOTA,
            price=Price(input=cheaper * price.input, output=cheaper * price.output),
            context_window=core.context_window,
            supports=core.supports,
        )
        found[copy] = number
    return found


def _original(core: str) -> str:
    return core.partition("\n")[0]


def _row(
    load: str, callers: int, cores: int, decisions: Sequence[Decision], response_s: Mapping[int, float]
) -> DecisionRow:
    decision_ms = np.array([decision.decision_ms for decision in decisions])
    p50, p99 = np.percentile(decision_ms, [50, 99]).tolist()
    decision_s = float(decision_ms.sum()) / 1000
    taken_s = sum(response_s[decision.call] for decision in decisions)
    return DecisionRow(
        load=load,
        callers=callers,
        cores=cores,
        calls=len(decisions),
        decision_ms_mean=float(decision_ms.mean()),
        decision_ms_p50=p50,
        decision_ms_p99=p99,
        decision_s=decision_s,
        response_s=taken_s,
        share=decision_s / taken_s if taken_s else float("inf"),
    )
