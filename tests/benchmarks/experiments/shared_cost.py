"""What the same calls cost, and how well they are answered, with several kernels beside one."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core, Price
from eccos_aios.history import Record
from eccos_aios.predict import CallText, Estimates, Predictor, online_predictor, query_text
from eccos_aios.runtime.configuration import PAST_CALLS, ServiceConfiguration
from eccos_aios.runtime.learner import Learner
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.runtime.sharing import shared_cores
from eccos_aios.schedule import Call, CallResult, ExecutionResult, Requirements, SchedulerSettings
from experiments.kernel_processes import ANSWER_S, drive, outcome_of, run_kernels_of, seconds_of
from experiments.shared_load import Tally

FloatArray = NDArray[np.float64]

QUOTAS = {"small": 4, "medium": 3, "large": 2}
ABILITY = np.array([0.40, 0.60, 0.85])  # the difficulty at which half the answers are right
STEEPNESS = 8.0
PRICES = (0.2, 1.0, 6.0)  # US dollars per million tokens
SERVICE_S = np.array([0.06, 0.10, 0.16])
ESTIMATE_ERROR = 0.08  # standard deviation of a predicted quality
KERNELS = 4
GRADED = 0.2  # share of the calls


@dataclass(frozen=True)
class GeneratedCalls:
    """Calls of all difficulties with what every core would answer; arrays of shape (calls, cores)."""

    predicted: FloatArray
    quality: FloatArray
    tokens: FloatArray
    service_s: FloatArray

    @classmethod
    def of(cls, calls: int, seed: int) -> GeneratedCalls:
        draw = np.random.default_rng(seed)
        shape = (calls, len(QUOTAS))
        right = 1 / (1 + np.exp(STEEPNESS * (draw.uniform(size=(calls, 1)) - ABILITY)))
        tokens = np.broadcast_to(400 * draw.lognormal(0.0, 0.6, (calls, 1)), shape)
        return cls(
            np.clip(right + draw.normal(0.0, ESTIMATE_ERROR, shape), 0.0, 1.0),
            (draw.uniform(size=shape) < right).astype(np.float64),
            tokens,
            SERVICE_S * draw.lognormal(-0.08, 0.4, shape),
        )

    @property
    def cost(self) -> FloatArray:
        dollars: FloatArray = self.tokens * np.array(PRICES) / 1e6
        return dollars


class KnownEstimates(Predictor):
    """The estimates that were generated, by the number at the end of a question."""

    def __init__(self, calls: GeneratedCalls) -> None:
        self._calls = calls

    def fit(self, history: Sequence[Record]) -> KnownEstimates:
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        rows = np.array([int(call.text.split()[-1]) for call in calls])
        shape = (len(calls), len(cores))
        quality, tokens = self._calls.predicted[rows], self._calls.tokens[rows]
        return Estimates(quality, np.zeros(shape), tokens, np.full(shape, 100.0))


@dataclass(frozen=True)
class CostResult:
    """What the calls of a run got.

    Attributes
    ----------
    kernels : int
    cost_usd : float
        A call, by its real tokens.
    quality, promised : float
        Means over the calls, as answered and as predicted.
    seconds : float
        From the first call to the last answer.
    p50_s, p95_s : float
        From asking to the answer.
    per_core : dict of str to int
        Calls.
    over_quota : bool
        By the cores' own count.
    """

    kernels: int
    cost_usd: float
    quality: float
    promised: float
    seconds: float
    p50_s: float
    p95_s: float
    per_core: dict[str, int]
    over_quota: bool


def compare_cost(
    url: str, calls: int, callers: int, target: float, seed: int, slower: float = 1.0
) -> dict[str, CostResult]:
    """The same calls before one kernel and before four, and before one with a fourth of the callers.

    The last distinguishes what small rounds cost from what sharing costs.

    Parameters
    ----------
    url : str
        Of Redis.
    calls : int
    callers : int
        Over all kernels; each waits for its answer before it asks again.
    target : float
        Mean quality to reach.
    seed : int
    slower : float
        Factor on the seconds that the cores take.
    """
    part = callers // KERNELS
    return {
        "one": run_cost(None, "one", 1, calls, callers, target, seed, slower),
        "four": run_cost(url, f"four-{callers}-{seed}", KERNELS, calls, part, target, seed, slower),
        "one, a fourth of the callers": run_cost(None, "part", 1, calls, part, target, seed, slower),
    }


def run_cost(
    url: str | None,
    name: str,
    kernels: int,
    calls: int,
    callers: int,
    target: float,
    seed: int,
    slower: float = 1.0,
) -> CostResult:
    """Ask every call once, each kernel its part; `callers` of each kernel."""
    tally = Tally(QUOTAS, kernels)
    parts = run_kernels_of(
        _kernel,
        [
            (url, name, number, kernels, calls, callers, target, seed, slower, tally)
            for number in range(kernels)
        ],
    )
    generated = GeneratedCalls.of(calls + PAST_CALLS, seed)
    asked = [answer for part in parts for answer in part["answers"]]
    rows, columns = (np.array([answer[place] for answer in asked]) for place in (0, 1))
    taken = np.array([answer[2] for answer in asked])
    assert sorted(rows.tolist()) == list(range(calls)), "a call is lost or doubled"
    return CostResult(
        kernels,
        float(generated.cost[rows, columns].mean()),
        float(generated.quality[rows, columns].mean()),
        float(generated.predicted[rows, columns].mean()),
        seconds_of(parts),
        float(np.quantile(taken, 0.5)),
        float(np.quantile(taken, 0.95)),
        dict(zip(QUOTAS, np.bincount(columns, minlength=len(QUOTAS)).tolist(), strict=True)),
        any(most > quota for most, quota in zip(tally.most, QUOTAS.values(), strict=True)),
    )


def _kernel(
    url: str | None,
    name: str,
    number: int,
    kernels: int,
    calls: int,
    callers: int,
    target: float,
    seed: int,
    slower: float,
    tally: Tally,
    barrier: Any,
    results: Any,
) -> None:
    generated = GeneratedCalls.of(calls + PAST_CALLS, seed)
    cores = [
        Core(name=core, quota=quota, price=Price(input=0.0, output=price))
        for (core, quota), price in zip(QUOTAS.items(), PRICES, strict=True)
    ]
    columns = {core.name: column for column, core in enumerate(cores)}

    def execute(call: Call, core: str) -> ExecutionResult:
        tally.enter(core, number)
        time.sleep(slower * generated.service_s[call.payload, columns[core]])
        tally.leave(core, number)
        return ExecutionResult(core)

    with tempfile.TemporaryDirectory() as folder:
        config = EccosConfig(
            manifest=Path(folder) / "cores.yaml",
            quality_target=target,
            plans="off",
            shared=None if url is None else SecretStr(url),
            shared_name=name,
        )
        service = SchedulingService(
            ServiceConfiguration(
                tuple(cores),
                SchedulerSettings.of(config),
                Learner(online_predictor(KnownEstimates(generated))),
                shared=shared_cores(config, None),
                past=tuple(query_text(f"question {row}") for row in range(calls, calls + PAST_CALLS)),
            ),
            Backend(execute, outcome_of),
        )
        service.start()
        left = iter(range(number, calls, kernels))
        lock = threading.Lock()  # guards the two around it
        answers: list[tuple[int, int, float]] = []

        def call_in_turn() -> None:
            while True:
                with lock:
                    if (row := next(left, None)) is None:
                        return
                done = threading.Event()
                given: list[CallResult] = []

                def on_done(
                    _: Call, result: CallResult, done: threading.Event = done, given: list[CallResult] = given
                ) -> None:
                    given.append(result)
                    done.set()

                text = query_text(f"question {row}")
                call = Call(
                    text, Requirements(text.input_tokens), row, on_done, agent=f"agent {row % callers}"
                )
                began_s = time.monotonic()
                service.submit(call)
                assert done.wait(ANSWER_S), f"call {row} is not answered"
                assert given[0].core is not None, given[0].error
                column = columns[given[0].core]
                with lock:
                    answers.append((row, column, time.monotonic() - began_s))
                if row % round(1 / GRADED) == 0:
                    service.give_quality(float(generated.quality[row, column]), call=call.id)

        moments = drive(barrier, callers, call_in_turn)
        service.stop()
    results.put({"answers": answers, **moments})
