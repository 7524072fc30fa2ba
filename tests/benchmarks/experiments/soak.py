"""Many calls on the embedded kernel, over cores that fail in every way, with refreshes."""

from __future__ import annotations

import itertools
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eccos_aios.config import EccosConfig
from eccos_aios.hooks import EccosScheduler
from eccos_aios.sandbox import FAULT_KINDS, EmbeddedKernel, LLMQuery, SandboxCore, error_response
from eccos_aios.sandbox.aios import free_port
from experiments.memory import resident_kb

QUOTAS = {"core-a": 4, "core-b": 3, "core-c": 2}
LATENCY_S = 0.004
CALL_TIMEOUT_S = 5.0
TROUBLE_EVERY_S = 0.5  # seconds between one trouble and the next
HEAL_AFTER = 3  # troubles that a fault lasts


@dataclass(frozen=True)
class SoakResult:
    """The result of a soak test.

    Attributes
    ----------
    calls, answered, errors : int
        `answered` counts final responses; `errors` those of them that are errors.
    over_quota : dict of str to int
        Most calls in flight by the core's own count, where that exceeds its quota.
    troubles : dict of str to int
        Faults injected into the cores, and refreshes.
    retries : int
    seconds : float
    threads_left : list of str
        Threads of the scheduler that outlived its stop.
    memory_growth : float
        Resident memory at the end over that after the first quarter, less 1.
    """

    calls: int
    answered: int
    errors: int
    over_quota: dict[str, int]
    troubles: dict[str, int]
    retries: int
    seconds: float
    threads_left: list[str]
    memory_growth: float

    def as_json(self) -> str:
        """The result as one JSON object."""
        return json.dumps(asdict(self))


class _Seat:
    """Swaps schedulers under way, as AIOS's refresh does."""

    def __init__(self, config: EccosConfig) -> None:
        self.config = config
        self.parameters: dict[str, Any] = {}
        self.scheduler: EccosScheduler | None = None

    def make(self, **parameters: Any) -> EccosScheduler:
        self.parameters = parameters
        self.scheduler = EccosScheduler(**parameters, config=self.config, response=error_response)
        return self.scheduler

    def refresh(self) -> None:
        self.scheduler = EccosScheduler(
            **self.parameters,
            config=self.config,
            response=error_response,
            service=None if self.scheduler is None else self.scheduler.service,
        )
        self.scheduler.start()


def soak(
    calls: int = 20_000,
    callers: int = 48,
    share: float = 0.2,
    on_progress: Callable[[int], None] = lambda _: None,
) -> SoakResult:
    """Run a soak test.

    Parameters
    ----------
    calls, callers : int
        Total number; concurrent callers.
    share : float
        Share of a faulty core's requests that fail, 0 to 1.
    on_progress : callable, optional
        Called with the number of calls submitted.
    """
    before = set(threading.enumerate())
    started_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        seat = _Seat(_config(folder))
        cores = [
            stack.enter_context(SandboxCore(name, latency_s=LATENCY_S, port=free_port())) for name in QUOTAS
        ]
        kernel = stack.enter_context(EmbeddedKernel(cores, seat.make, query_threads=callers))
        with _trouble(cores, seat, share) as troubles:
            outcomes, early_kb = _ask(kernel, calls, callers, on_progress)
        status: Any = kernel.scheduler.status()  # type: ignore[attr-defined]
        kernel.stop()
        most = {core.name: core.max_in_flight for core in cores}
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("eccos-")]
    return SoakResult(
        calls=calls,
        answered=outcomes.total(),
        errors=outcomes["error"],
        over_quota={name: number for name, number in most.items() if number > QUOTAS[name]},
        troubles=dict(troubles),
        retries=status["totals"]["retries"],
        seconds=round(time.monotonic() - started_s, 1),
        threads_left=left,
        memory_growth=round(resident_kb() / early_kb - 1, 4),
    )


def _config(folder: Path) -> EccosConfig:
    cores = [
        {"name": name, "quota": quota, "price": {"input": price, "output": price}}
        for price, (name, quota) in enumerate(QUOTAS.items(), start=1)
    ]
    (folder / "cores.yaml").write_text(json.dumps({"cores": cores}), encoding="utf-8")
    return EccosConfig(
        manifest=folder / "cores.yaml",
        quality_target=0.5,
        max_wait_s=0.05,
        call_timeout_s=CALL_TIMEOUT_S,
        grace_s=CALL_TIMEOUT_S,
    )


@contextmanager
def _trouble(cores: Sequence[SandboxCore], seat: _Seat, share: float) -> Iterator[Counter[str]]:
    """Disturb a core or the scheduler periodically while the body runs."""
    done, troubles = threading.Event(), Counter[str]()

    def make_trouble() -> None:
        victims, kinds = itertools.cycle(cores), itertools.cycle(FAULT_KINDS)
        for number in itertools.count(1):
            if done.wait(TROUBLE_EVERY_S):
                break
            victim = next(victims)
            if number % 7 == 0:
                seat.refresh()
                troubles["refresh"] += 1
            elif number % 11 == 0:
                victim.stop()
                victim.start()
                troubles["restart"] += 1
            elif number % HEAL_AFTER == 0:
                victim.heal()
            else:
                kind = next(kinds)
                victim.fail(kind, share, seed=number)
                troubles[kind] += 1
        for core in cores:
            core.heal()

    maker = threading.Thread(target=make_trouble, name="trouble", daemon=True)
    maker.start()
    try:
        yield troubles
    finally:
        done.set()
        maker.join()


def _ask(
    kernel: EmbeddedKernel, calls: int, callers: int, on_progress: Callable[[int], None]
) -> tuple[Counter[str], int]:
    """Submit the calls; returns the outcomes, and the resident memory after the first quarter."""
    outcomes, early_kb = Counter[str](), 0
    slots = threading.Semaphore(2 * callers)
    lock = threading.Lock()  # guards the outcomes

    def count(future: Future[Any]) -> None:
        response = future.result()["response"]
        with lock:
            outcomes["error" if response.error else "ok"] += 1
        slots.release()

    futures = []
    for number in range(calls):
        slots.acquire()
        if number == calls // 4:
            early_kb = resident_kb()
        if number % 500 == 0:
            on_progress(number)
        query = LLMQuery(messages=[{"role": "user", "content": f"What is {number} and {number % 97}?"}])
        future = kernel.query(f"agent-{number % 7}", query)
        future.add_done_callback(count)
        futures.append(future)
        if len(futures) > 4 * callers:
            futures = [waiting for waiting in futures if not waiting.done()]
    for future in futures:
        future.result()
    for _ in range(2 * callers):
        slots.acquire()
    return outcomes, early_kb
