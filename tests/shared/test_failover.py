"""A Redis whose primary dies, vanishes or is replaced under load, and one that is full or slow: real servers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from experiments.redis_failures import FAILURES
from experiments.redis_pair import RedisPair
from experiments.shared_load import Hammering
from test_shared_kernels import CORES, WAIT_S, Cores, Kernel, await_, kernels_on

from eccos_aios.history import HistoryStore
from eccos_aios.shared import CoreClaim, CoreGrant, Exchange, RedisSlotTable, SharedUnavailableError
from eccos_aios.shared.slots import STALE_S

CALLERS = 4


@pytest.fixture
def redis_pair(redis_installed: None, tmp_path: Path) -> Iterator[RedisPair]:
    pair = RedisPair(tmp_path)
    pair.start()
    yield pair
    pair.kill()


class Load:
    """Callers of some kernels that ask again as soon as they are answered."""

    def __init__(self, kernels: list[Kernel]) -> None:
        self._over = threading.Event()
        self._kernels = kernels
        self.asked = dict.fromkeys(range(len(kernels)), 0)
        self._lock = threading.Lock()  # guards what was asked
        self._threads = [
            threading.Thread(target=self._call, args=(place,))
            for place in range(len(kernels))
            for _ in range(CALLERS)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, place: int) -> None:
        kernel = self._kernels[place]
        while not self._over.is_set():
            with self._lock:
                self.asked[place] += 1
                number = self.asked[place]
            call = kernel.ask(f"question {number} of kernel {place}")
            kernel.wait_for(call)

    def await_more(self, calls: int) -> None:
        """Until every kernel has answered so many more."""
        wanted = [len(kernel.results) + calls for kernel in self._kernels]
        for kernel, count in zip(self._kernels, wanted, strict=True):
            kernel.wait(count)

    def end(self) -> int:
        self._over.set()
        for thread in self._threads:
            thread.join()
        return sum(self.asked.values())


@pytest.mark.parametrize("failure", sorted(FAILURES))
def test_no_call_is_lost_and_no_quota_exceeded_whatever_becomes_of_redis(
    failure: str,
    redis_pair: RedisPair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiments.redis_failures.LASTS_S", 0.8)
    monkeypatch.setattr("eccos_aios.shared.redis_slots.RECLAIM_S", 0.5)
    cores = Cores()
    cores.service_s = 0.02
    with kernels_on(redis_pair.url, tmp_path, cores) as make:
        several = make(2)
        load = Load(several)
        try:
            load.await_more(20)
            FAILURES[failure](redis_pair)
            load.await_more(20)
            for kernel in several:
                await_(lambda kernel=kernel: not kernel.service.health()["degraded"], "it does not recover")
            load.await_more(20)
        finally:
            asked = load.end()

        def are_stored() -> bool:
            with HistoryStore(tmp_path / "history.db", read_only=True) as store:
                return len(list(store.outcomes())) == asked

        await_(are_stored, "outcomes are lost")
    for kernel in several:
        assert set(kernel.results.values()) == {1}
        assert kernel.failed == []
    assert sum(len(kernel.results) for kernel in several) == asked
    assert cores.most == {core.name: core.slots for core in CORES}


def test_processes_stay_within_the_quotas_over_failovers_that_lose_leases(redis_pair: RedisPair) -> None:
    quotas = {"dear": 2, "cheap": 4}
    load = Hammering(redis_pair.url, quotas, kernels=3)
    try:
        load.await_calls(50)
        for _ in range(2):
            redis_pair.fail_over(lost_s=0.5)
            load.await_all(20)
            redis_pair.rejoin()
    finally:
        most = load.end()
    assert most == quotas


def test_a_kernel_is_woken_after_a_failover_that_left_its_connections_open(
    redis_pair: RedisPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eccos_aios.shared.redis_slots.RECLAIM_S", 0.0)
    holder, other = (RedisSlotTable(redis_pair.url, "test") for _ in range(2))
    numbers = itertools.count(1)

    def exchange(table: RedisSlotTable, kernel: str, held: tuple[str, ...], pending: int) -> CoreGrant:
        claims = {"core": CoreClaim(2, held, (), pending)}
        return table.exchange(Exchange(kernel, next(numbers), 10.0, claims)).grants["core"]

    held = exchange(holder, "holder", (), 2).granted
    holder.wait("holder", 0.01)
    redis_pair.fail_over(silent=True)
    woken = False
    end_s = time.monotonic() + WAIT_S
    while not woken and time.monotonic() < end_s:
        try:
            exchange(holder, "holder", held, 0)
        except SharedUnavailableError:
            continue
        holder.wait("holder", 2 * STALE_S)
        exchange(other, "other", (), 1)
        woken = holder.wait("holder", 0.1)
    assert woken
    for table in (holder, other):
        table.close()
