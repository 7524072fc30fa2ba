"""Several kernels in processes of their own over the same cores, on one Redis: quotas, answers, throughput."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core, Price
from eccos_aios.predict import query_text
from eccos_aios.runtime.configuration import prepare
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.schedule import Call, CallResult, ExecutionResult, Requirements
from experiments.kernel_processes import ANSWER_S, drive, outcome_of, run_kernels_of, seconds_of
from experiments.shared_load import Tally

WATCH_S = 0.02  # seconds between two looks at a kernel's health


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
    tally = Tally(quotas, kernels)
    with tempfile.TemporaryDirectory() as folder:
        each = url, folder, quotas
        shares = calls // kernels, callers, service_s, tally, None
        parts = run_kernels_of(run_kernel, [(*each, number, *shares) for number in range(kernels)])
    return result_of(parts, dict(zip(quotas, tally.most, strict=True)))


def result_of(parts: Sequence[dict[str, Any]], most: dict[str, int]) -> KernelsResult:
    """The results of all kernels together."""
    totals = Counter[str]()
    for part in parts:
        totals.update(part["counts"])
    return KernelsResult(
        totals["calls"], totals["answered"], totals["doubled"], totals["failed"], most, seconds_of(parts)
    )


def run_kernel(
    url: str | None,
    folder: str,
    quotas: dict[str, int],
    number: int,
    calls: int,
    callers: int,
    service_s: float,
    tally: Tally,
    over: Any,
    barrier: Any,
    results: Any,
) -> None:
    """Serve one kernel's calls in this process, and put what became of them into a queue.

    Parameters
    ----------
    url, quotas, callers, service_s
        As in `run_kernels`.
    folder : str
        Of the history, which the kernels share.
    number : int
        Of the kernel, from 0.
    calls : int
        At most; fewer where `over` is set before.
    over, barrier, results
        An event or None, a barrier of all kernels, and a queue, of multiprocessing.
    """
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
    service = SchedulingService(prepare(config, cores), Backend(execute, outcome_of))
    service.start()
    responses: Counter[str] = Counter()
    failed: list[CallResult] = []
    asked: set[int] = set()
    left = iter(range(calls))
    lock = threading.Lock()  # guards the four above

    def call_in_turn() -> None:
        while True:
            with lock:
                if (over is not None and over.is_set()) or (place := next(left, None)) is None:
                    return
                asked.add(place)
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

    degraded: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_S):
            if service.health()["degraded"]:
                degraded.append(time.monotonic())

    watcher = threading.Thread(target=watch, name="watch-health")
    watcher.start()
    moments = drive(barrier, callers, call_in_turn)
    ended.set()
    watcher.join()
    service.stop()
    counts = {
        "calls": len(asked),
        "answered": len(responses),
        "doubled": sum(count > 1 for count in responses.values()),
        "failed": len(failed),
    }
    results.put({"counts": counts, "degraded": degraded, **moments})
