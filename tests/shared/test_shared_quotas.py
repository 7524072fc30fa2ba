"""Quotas over several processes on a real Redis, while processes and Redis fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from experiments.redis_server import RedisServer
from experiments.shared_load import Hammering

CORES = {"dear": 2, "cheap": 4}
KERNELS = 3
LEASE_S = (
    0.7  # of those that a test lets expire; Redis counts it in real time, so that they are slept through
)

Start = Callable[..., Hammering]


@pytest.fixture
def hammering(redis_server: RedisServer) -> Iterator[Start]:
    started: list[Hammering] = []

    def start(**options) -> Hammering:
        load = Hammering(redis_server.url, CORES, KERNELS, **options)
        started.append(load)
        load.await_all(10)  # every process runs
        return load

    yield start
    for load in started:
        load.end()


def test_processes_never_hold_more_than_a_quota_and_use_all_of_it(hammering: Start) -> None:
    load = hammering()
    before = list(load.tally.calls)
    load.await_calls(400)
    calls = [now - then for now, then in zip(load.tally.calls, before, strict=True)]
    load.await_full(CORES)
    assert load.end() == CORES
    assert min(calls) > 0.5 * sum(calls) / KERNELS, "no kernel starves another"


def test_slots_of_a_killed_kernel_are_used_by_the_others(hammering: Start) -> None:
    load = hammering(lease_s=1.0, service_s=0.02)
    load.kill(0)
    load.await_full(CORES)
    assert load.end() == CORES


def test_calls_go_on_within_the_last_share_while_redis_is_killed_and_restarted(
    redis_server: RedisServer, hammering: Start
) -> None:
    load = hammering()
    for _ in range(3):
        redis_server.kill()
        load.await_calls(30)
        redis_server.start()
        load.await_calls(30)
    load.await_full(CORES)
    assert load.end() == CORES


def test_no_quota_is_exceeded_while_redis_stands_still_for_longer_than_the_leases(
    redis_server: RedisServer, hammering: Start
) -> None:
    load = hammering(lease_s=LEASE_S)
    for _ in range(2):
        redis_server.pause()
        time.sleep(LEASE_S + 0.3)
        redis_server.go_on()
        load.await_full(CORES)
    assert load.end() == CORES


@pytest.mark.parametrize("trouble", ["full", "paused"])
def test_calls_go_on_while_redis_is_full_or_slow(
    redis_server: RedisServer, hammering: Start, trouble: str
) -> None:
    import redis

    load = hammering()
    client = redis.Redis(port=redis_server.port)
    if trouble == "full":
        client.config_set("maxmemory", 1)
    else:
        client.client_pause(1000)
    load.await_calls(50)
    if trouble == "full":
        client.config_set("maxmemory", 0)
    load.await_all(20)
    load.await_full(CORES)
    assert load.end() == CORES


def test_a_stopped_kernel_does_not_use_slots_that_have_expired(hammering: Start) -> None:
    load = hammering(lease_s=LEASE_S, service_s=0.001)
    stopped = load.processes[0]
    with load.tally.lock:  # which it must not hold while it is stopped
        os.kill(stopped.pid, signal.SIGSTOP)
    time.sleep(LEASE_S + 0.3)
    load.tally.forget(0)  # what it had in flight is over on the cores' side
    load.await_calls(100)
    os.kill(stopped.pid, signal.SIGCONT)
    load.await_calls(200)
    most = load.end()
    assert all(most[core] <= quota + 2 for core, quota in CORES.items())
