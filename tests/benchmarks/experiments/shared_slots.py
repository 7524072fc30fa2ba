"""What shared slots cost on loopback, whether a busy kernel starves others, and drills of failures."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.shared import CoreClaim, Exchange, LeasedSlots, RedisSlotTable
from experiments.redis_server import RedisServer
from experiments.shared_load import Callers, Hammering

CONTEXT = multiprocessing.get_context("spawn")
CORES = {"dear": 2, "middle": 3, "cheap": 4}
FAIR_QUOTA = 20
SERVICE_S = 0.1
PENDING = 500
READY_S = 15.0  # seconds for ten processes to start


@dataclass(frozen=True)
class Overhead:
    """Milliseconds on loopback.

    Attributes
    ----------
    exchange_p50, exchange_p99 : float
        One round trip that takes and gives back slots of all cores.
    asked_p50, asked_p99 : float
        From asking for slots that another thread must fetch until they are there.
    held_p50, held_p99 : float
        Taking a slot that is held already, and giving it back.
    """

    exchange_p50: float
    exchange_p99: float
    asked_p50: float
    asked_p99: float
    held_p50: float
    held_p99: float


@dataclass(frozen=True)
class Fairness:
    """Seconds from asking for a slot to the end of the call, of the kernels with one call at a time.

    Attributes
    ----------
    idle_p50, idle_p95 : float
        Alone.
    busy_p50, busy_p95 : float
        Beside a kernel with hundreds of pending calls.
    busy_calls_per_s : float
        That one's throughput; all slots together: `FAIR_QUOTA` / `SERVICE_S`.
    """

    idle_p50: float
    idle_p95: float
    busy_p50: float
    busy_p95: float
    busy_calls_per_s: float


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A server that ends with the experiment."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def measure_overhead(url: str, rounds: int = 2000) -> Overhead:
    """Take and give back slots of three cores, round after round."""
    table, number = RedisSlotTable(url, "overhead"), 0
    idle: dict[str, tuple[str, ...]] = dict.fromkeys(CORES, ())

    def exchange(pending: int) -> float:
        nonlocal number
        number += 1
        claims = {core: CoreClaim(quota, (), idle[core], pending) for core, quota in CORES.items()}
        began_s = time.perf_counter()
        answer = table.exchange(Exchange("one", number, 10.0, claims))
        passed_s = time.perf_counter() - began_s
        for core, grant in answer.grants.items():
            idle[core] += grant.granted
        return passed_s

    while not all(idle.values()):
        exchange(1)
        time.sleep(0.05)
    exchanges = []
    for _ in range(rounds):
        idle = dict.fromkeys(CORES, ())
        exchanges.append(exchange(2))
    table.close()

    slots = LeasedSlots(RedisSlotTable(url, "asked"))
    other = LeasedSlots(RedisSlotTable(url, "asked"))
    callers = Callers(slots), Callers(other)
    for each in (slots, other):
        each.configure({"core": 1})
        each.start()
    asked = []
    for number in range(rounds // 2):  # the one slot passes to and fro, so that each call has to ask
        began_s = time.perf_counter()
        token = callers[number % 2].acquire("core", 30.0)
        asked.append(time.perf_counter() - began_s)
        assert token is not None
        callers[number % 2].release("core", token)
    other.stop()
    held = []
    token = callers[0].acquire("core", 30.0)
    assert token is not None
    slots.give_back("core", token)
    for _ in range(rounds):
        began_s = time.perf_counter()
        token = slots.take("core")
        assert token is not None
        slots.give_back("core", token)
        held.append(time.perf_counter() - began_s)
    slots.stop()
    quantiles = [1e3 * np.quantile(times, q) for times in (exchanges, asked, held) for q in (0.5, 0.99)]
    return Overhead(*map(float, quantiles))


def measure_fairness(url: str, kernels: int = 9, seconds: float = 8.0) -> Fairness:
    """The latency of kernels with one call at a time, with and without one that has hundreds pending."""
    idle, _ = _latencies(url, "idle", kernels, 0, seconds)
    busy, calls = _latencies(url, "busy", kernels, PENDING, seconds)
    quantiles = [float(np.quantile(times, q)) for times in (idle, busy) for q in (0.5, 0.95)]
    idle_p50, idle_p95, busy_p50, busy_p95 = quantiles
    return Fairness(idle_p50, idle_p95, busy_p50, busy_p95, calls / seconds)


def _latencies(url: str, name: str, kernels: int, pending: int, seconds: float) -> tuple[list[float], int]:
    results: Any = CONTEXT.Queue()
    barrier = CONTEXT.Barrier(kernels + 1)
    processes = [
        CONTEXT.Process(target=_kernel, args=(url, name, 0 if n else pending, barrier, results, seconds, n))
        for n in range(kernels + 1)
    ]
    for process in processes:
        process.start()
    times: list[float] = []
    calls = 0
    for _ in processes:
        number, found = results.get(timeout=READY_S + seconds + 30)
        if number:
            times += found
        else:
            calls = len(found)
    for process in processes:
        process.join()
    return times, calls


def _kernel(
    url: str, name: str, pending: int, barrier: Any, results: Any, seconds: float, number: int
) -> None:
    """Kernel 0 has `pending` calls at any time; every other one has one call, and pauses between."""
    draw = random.Random(number)
    slots = LeasedSlots(RedisSlotTable(url, name))
    slots.configure({"core": FAIR_QUOTA})
    callers = Callers(slots)
    callers.extra = max(0, pending - FAIR_QUOTA)
    slots.start()
    barrier.wait(READY_S)
    time.sleep(2.0)  # kernels claim what they held, which is nothing
    end_s = time.monotonic() + seconds
    times: list[float] = []

    def call_in_turn() -> None:
        while time.monotonic() < end_s:
            if number:
                time.sleep(draw.uniform(0.0, 2 * SERVICE_S))
            began_s = time.monotonic()
            token = callers.acquire("core", 30.0)
            assert token is not None
            time.sleep(draw.uniform(0.7, 1.3) * SERVICE_S)
            times.append(time.monotonic() - began_s)
            callers.release("core", token)

    threads = [
        threading.Thread(target=call_in_turn)
        for _ in range(min(pending, FAIR_QUOTA) if pending else bool(number))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slots.stop()
    results.put((number, times))


@dataclass(frozen=True)
class Drills:
    """What failures did to kernels under load.

    Attributes
    ----------
    over_quota : dict of str to int
        Most calls in flight by the cores' own count, where that exceeds the quota.
    calls : int
    longest_recovery_s : float
        From the end of a failure until every kernel had made three more calls; a killed one is started
        anew first, which counts.
    longest_return_s : float or None
        From the kill of a kernel until the others have held all slots of every core at once.
    """

    over_quota: dict[str, int]
    calls: int
    longest_recovery_s: float
    longest_return_s: float | None = None


def drill(server: RedisServer, failure: str, times: int, kernels: int = 4) -> Drills:
    """Let one kind of failure happen so many times: ``restart``, ``pause`` (5 s) or ``kill``."""
    lease_s = 2.0 if failure == "kill" else 10.0
    load = Hammering(server.url, CORES, kernels, lease_s=lease_s, service_s=0.01)
    load.await_calls(100)
    longest_s, returned_s = 0.0, None
    for number in range(times):
        if failure == "restart":
            server.kill()
            time.sleep(0.5)
            server.start()
        elif failure == "pause":
            server.pause()
            time.sleep(5.0)
            server.go_on()
        else:
            load.kill(number % kernels)
            returned_s = max(returned_s or 0.0, load.await_full(CORES))
            load.processes[number % kernels] = load.run(number % kernels)
        longest_s = max(longest_s, load.await_all(3))
    most = load.end()
    over = {core: count for core, count in most.items() if count > CORES[core]}
    return Drills(over, load.calls(), longest_s, returned_s)
