"""Several kernels in processes of their own over the same cores, on one Redis: quotas, answers, throughput."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core, Price
from eccos_aios.history import CallOutcome
from eccos_aios.predict import query_text
from eccos_aios.runtime.configuration import prepare
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.schedule import Call, CallResult, ExecutionResult, Requirements
from experiments.shared_load import CONTEXT, Tally

READY_S = 60.0
ANSWER_S = 120.0


@dataclass(frozen=True)
class KernelsResult:
    """The result of a run.

    Attributes
    ----------
    calls, answered, doubled, failed : int
        Calls submitted; those with a final response; with more than one; with an error.
    most : dict of str to int
        Most calls in flight, by the cores' own count.
    seconds : float
        From the first call until the last response.
    """

    calls: int
    answered: int
    doubled: int
    failed: int
    most: dict[str, int]
    seconds: float

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.seconds


def run_kernels(
    url: str | None,
    quotas: dict[str, int],
    kernels: int,
    calls: int,
    *,
    callers: int = 16,
    service_s: float = 0.02,
) -> KernelsResult:
    """Let callers of some kernels ask until each kernel has answered its part of the calls.

    Parameters
    ----------
    url : str or None
        Of Redis. None: every kernel has the quotas for itself.
    quotas : dict of str to int
        By core; the first core is the cheapest.
    kernels, calls : int
        `calls` over all kernels.
    callers : int
        Of each kernel; a caller waits for its answer before it asks again.
    service_s : float
        Seconds that a core takes.
    """
    tally, results = Tally(quotas, kernels), CONTEXT.Queue()
    barrier = CONTEXT.Barrier(kernels)
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            CONTEXT.Process(
                target=_kernel,
                args=(
                    url,
                    folder,
                    quotas,
                    number,
                    calls // kernels,
                    callers,
                    service_s,
                    tally,
                    barrier,
                    results,
                ),
            )
            for number in range(kernels)
        ]
        for process in processes:
            process.start()
        parts = [results.get(timeout=READY_S + ANSWER_S) for _ in processes]
        for process in processes:
            process.join()
    totals = Counter[str]()
    for part in parts:
        totals.update(part["counts"])
    seconds = max(part["ended_s"] for part in parts) - min(part["began_s"] for part in parts)
    most = dict(zip(quotas, tally.most, strict=True))
    return KernelsResult(
        totals["calls"], totals["answered"], totals["doubled"], totals["failed"], most, seconds
    )


def _kernel(
    url: str | None,
    folder: str,
    quotas: dict[str, int],
    number: int,
    calls: int,
    callers: int,
    service_s: float,
    tally: Tally,
    barrier: Any,
    results: Any,
) -> None:
    cores = [
        Core(name=name, quota=quota, price=Price(input=1.0 + place, output=1.0 + place))
        for place, (name, quota) in enumerate(quotas.items())
    ]

    def execute(call: Call, core: str) -> ExecutionResult:
        tally.enter(core, number)
        time.sleep(service_s)
        tally.leave(core, number)
        return ExecutionResult(call.payload)

    config = EccosConfig(
        manifest=Path(folder) / "cores.yaml",
        history=Path(folder) / "history.db",
        quality_target=0.0,
        shared=None if url is None else SecretStr(url),
    )
    service = SchedulingService(prepare(config, cores), Backend(execute, _describe))
    service.start()
    responses: Counter[str] = Counter()
    failed: list[CallResult] = []
    left = iter(range(calls))
    lock = threading.Lock()  # guards the three above

    def call_in_turn() -> None:
        while True:
            with lock:
                if (place := next(left, None)) is None:
                    return
            done = threading.Event()

            def on_done(call: Call, result: CallResult, done: threading.Event = done) -> None:
                with lock:
                    responses[call.id] += 1
                    if result.failed:
                        failed.append(result)
                done.set()

            text = query_text(f"question {place} of kernel {number}")
            service.submit(Call(text, Requirements(text.input_tokens), text.text, on_done, agent="agent"))
            done.wait(ANSWER_S)

    barrier.wait(READY_S)
    time.sleep(2.0)  # kernels claim what they held before an empty Redis, which is nothing
    began_s = time.monotonic()
    threads = [threading.Thread(target=call_in_turn) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended_s = time.monotonic()
    service.stop()
    counts = {
        "calls": calls,
        "answered": len(responses),
        "doubled": sum(count > 1 for count in responses.values()),
        "failed": len(failed),
    }
    results.put({"counts": counts, "began_s": began_s, "ended_s": ended_s})


def _describe(call: Call, result: CallResult, core: Core, finished_s: float) -> CallOutcome:
    return CallOutcome(
        call_id=call.id, core=core.name, query=call.text.text, agent=call.agent, finished_s=finished_s
    )
