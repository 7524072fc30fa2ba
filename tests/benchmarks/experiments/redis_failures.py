"""What kernels make of a Redis that fails under load: calls lost, quotas exceeded, time to recover."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from eccos_aios.history import HistoryStore
from experiments.kernel_processes import run_kernels_of
from experiments.redis_pair import RedisPair
from experiments.shared_kernels import KernelsResult, result_of, run_kernel
from experiments.shared_load import CONTEXT, Tally

QUOTAS = {"dear": 2, "middle": 3, "cheap": 4}
SERVICE_S = 0.05
CALLERS = 8
STARTS_S = 60.0
LOST_S = 0.5  # seconds of writes that a replica lacks when it takes over
LASTS_S = 2.0  # seconds of a failure that ends by itself
CALM_S = 5.0  # seconds between two failures: enough for kernels to recover, and to be seen doing so


@dataclass(frozen=True)
class FailuresResult:
    """The result of a run.

    Attributes
    ----------
    kernels : KernelsResult
    over_quota : dict of str to int
        Most calls in flight by the cores' own count, where that exceeds the quota.
    stored : int
        Outcomes in the store at the end.
    recovered_s : list of float
        Of each failure: seconds from its end until no kernel said any more that it is degraded.
    """

    kernels: KernelsResult
    over_quota: dict[str, int]
    stored: int
    recovered_s: list[float]


def _failover(pair: RedisPair) -> None:
    pair.fail_over(LOST_S)


def _vanish(pair: RedisPair) -> None:
    pair.fail_over(LOST_S, silent=True)


def _handover(pair: RedisPair) -> None:
    pair.hand_over(LOST_S)


def _full(pair: RedisPair) -> None:
    client = pair.client()
    client.config_set("maxmemory", 1)
    time.sleep(LASTS_S)
    client.config_set("maxmemory", 0)


def _slow(pair: RedisPair) -> None:
    pair.client().client_pause(int(1000 * LASTS_S))
    time.sleep(LASTS_S)


FAILURES: Mapping[str, Callable[[RedisPair], None]] = {
    "failover": _failover,
    "vanish": _vanish,
    "handover": _handover,
    "full": _full,
    "slow": _slow,
}
REJOINS = ("failover", "vanish", "handover")  # after which the earlier primary is to follow the new one


def fail_under_load(failure: str, times: int, kernels: int = 2) -> FailuresResult:
    """Let one kind of failure happen so many times to kernels whose callers never pause.

    Parameters
    ----------
    failure : str
        Of `FAILURES`: the primary dies, or vanishes with its machine, and its replica takes over without the
        last writes; the replica takes over while the primary lives; no memory for writes; no answers.
    times, kernels : int
    """
    tally, over = Tally(QUOTAS, kernels), CONTEXT.Event()
    begins_s: list[float] = []
    ends_s: list[float] = []

    def fail() -> None:
        try:
            _await_calls(tally, STARTS_S)
            for _ in range(times):
                time.sleep(CALM_S)
                begins_s.append(time.monotonic())
                FAILURES[failure](pair)
                ends_s.append(time.monotonic())
                if failure in REJOINS:
                    pair.rejoin()
            time.sleep(CALM_S)
        finally:
            over.set()

    with tempfile.TemporaryDirectory() as folder:
        pair = RedisPair(Path(folder))
        try:
            pair.start()
            shares = 1_000_000, CALLERS, SERVICE_S, tally, over
            each = [(pair.url, folder, QUOTAS, number, *shares) for number in range(kernels)]
            parts = run_kernels_of(run_kernel, each, fail)
        finally:
            pair.kill()
        with HistoryStore(Path(folder) / "history.db", read_only=True) as store:
            stored = sum(1 for _ in store.outcomes())
    most = dict(zip(QUOTAS, tally.most, strict=True))
    exceeded = {core: count for core, count in most.items() if count > QUOTAS[core]}
    degraded = sorted(moment_s for part in parts for moment_s in part["degraded"])
    recovered = [
        max((moment_s - end_s for moment_s in degraded if end_s <= moment_s < until_s), default=0.0)
        for end_s, until_s in zip(ends_s, [*begins_s[1:], float("inf")], strict=True)
    ]
    return FailuresResult(result_of(parts, most), exceeded, stored, recovered)


def _await_calls(tally: Tally, timeout_s: float) -> None:
    end_s = time.monotonic() + timeout_s
    while min(tally.calls) < 20:
        assert time.monotonic() < end_s, "the kernels do not call"
        time.sleep(0.02)
