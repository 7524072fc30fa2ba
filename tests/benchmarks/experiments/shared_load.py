"""Kernels in processes of their own that take and give back slots as fast as they can."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from typing import Any

from eccos_aios.shared import LeasedSlots, RedisSlotTable

CONTEXT = multiprocessing.get_context("spawn")


class Callers:
    """Threads that call cores through one kernel's slots."""

    def __init__(self, slots: LeasedSlots) -> None:
        self.slots = slots
        self.extra = 0  # calls that wait besides those of the threads
        self._changed = threading.Condition()
        self._pending: Counter[str] = Counter()
        slots.on_change = self._wake

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def acquire(self, core: str, timeout_s: float) -> str | None:
        """Wait for a slot as a scheduler does: what is not held is asked for."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            self._pending[core] += 1
            try:
                while (token := self.slots.take(core)) is None:
                    self._want()
                    if (left_s := end_s - time.monotonic()) <= 0:
                        return None
                    self._changed.wait(left_s)
                return token
            finally:
                self._pending[core] -= 1
                self._want()

    def _want(self) -> None:
        self.slots.want({core: count + self.extra for core, count in self._pending.items()})

    def release(self, core: str, token: str) -> None:
        self.slots.give_back(core, token)
        self._wake()


class Tally:
    """What the cores themselves count, in memory that the processes share."""

    def __init__(self, cores: Mapping[str, int], kernels: int) -> None:
        self.lock = CONTEXT.Lock()
        self.places = {core: place for place, core in enumerate(cores)}
        self.in_flight = CONTEXT.Array("i", len(cores) * kernels, lock=False)
        self.most = CONTEXT.Array("i", len(cores), lock=False)
        self.calls = CONTEXT.Array("i", kernels, lock=False)

    def enter(self, core: str, kernel: int) -> None:
        place = self.places[core]
        with self.lock:
            self.in_flight[kernel * len(self.places) + place] += 1
            self.most[place] = max(self.most[place], self.held(core))

    def held(self, core: str) -> int:
        """Calls in flight; the lock is held."""
        return sum(self.in_flight[self.places[core] :: len(self.places)])

    def leave(self, core: str, kernel: int) -> None:
        with self.lock:
            self.in_flight[kernel * len(self.places) + self.places[core]] -= 1
            self.calls[kernel] += 1

    def forget(self, kernel: int) -> None:
        """The connections of a process that was killed are closed, and its calls over."""
        with self.lock:
            for place in range(len(self.places)):
                self.in_flight[kernel * len(self.places) + place] = 0


def hammer(
    url: str,
    cores: dict[str, int],
    tally: Any,
    kernel: int,
    callers: int,
    service_s: float,
    lease_s: float,
    over: Any,
) -> None:
    """Call the cores from some threads until `over` is set."""
    slots = LeasedSlots(RedisSlotTable(url, "hammer"), lease_s=lease_s)
    slots.configure(cores)
    gate = Callers(slots)
    slots.start()

    def call_on(core: str) -> None:
        while not over.is_set():
            token = gate.acquire(core, 0.2)
            if token is None:
                continue
            tally.enter(core, kernel)
            time.sleep(service_s)
            tally.leave(core, kernel)
            gate.release(core, token)

    names = list(cores)
    threads = [threading.Thread(target=call_on, args=(names[n % len(names)],)) for n in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slots.stop()


class Hammering:
    """Some kernels under load; `end` stops them and returns the cores' own count."""

    def __init__(
        self,
        url: str,
        cores: dict[str, int],
        kernels: int,
        *,
        callers: int = 6,
        service_s: float = 0.005,
        lease_s: float = 2.0,
    ) -> None:
        self.tally = Tally(cores, kernels)
        self._cores = cores
        self._over = CONTEXT.Event()
        self._options = callers, service_s, lease_s
        self._url = url
        self.processes = [self.run(number) for number in range(kernels)]

    def run(self, number: int) -> SpawnProcess:
        process = CONTEXT.Process(
            target=hammer,
            args=(self._url, self._cores, self.tally, number, *self._options, self._over),
            daemon=True,
        )
        process.start()
        return process

    def calls(self) -> int:
        return sum(self.tally.calls)

    def await_calls(self, more: int, timeout_s: float = 30.0) -> float:
        """Wait until the kernels have made so many more calls; the seconds that it took."""
        began_s, before = time.monotonic(), self.calls()
        while self.calls() < before + more:
            assert time.monotonic() - began_s < timeout_s, f"{self.calls() - before} calls in {timeout_s} s"
            time.sleep(0.005)
        return time.monotonic() - began_s

    def await_all(self, more: int, timeout_s: float = 30.0) -> float:
        """Wait until every kernel has made so many more calls; the seconds that it took."""
        began_s, before = time.monotonic(), list(self.tally.calls)
        while min(now - then for now, then in zip(self.tally.calls, before, strict=True)) < more:
            assert time.monotonic() - began_s < timeout_s, f"a kernel stands still: {list(self.tally.calls)}"
            time.sleep(0.005)
        return time.monotonic() - began_s

    def await_full(self, quotas: Mapping[str, int], timeout_s: float = 30.0) -> float:
        """Wait until all slots of each core, at one moment or another, are in use; the seconds it took."""
        began_s, missing = time.monotonic(), set(quotas)
        while missing:
            assert time.monotonic() - began_s < timeout_s, f"slots of {missing} are not used"
            with self.tally.lock:
                missing = {core for core in missing if self.tally.held(core) < quotas[core]}
            time.sleep(0.002)
        return time.monotonic() - began_s

    def kill(self, number: int) -> None:
        with self.tally.lock:  # nobody would release the lock of a process that was killed while it held it
            self.processes[number].kill()
            self.processes[number].join()
        self.tally.forget(number)

    def end(self) -> dict[str, int]:
        self._over.set()
        for process in self.processes:
            process.join(10)
            with suppress(ValueError):
                if process.is_alive():
                    process.kill()
        return dict(zip(self._cores, self.tally.most, strict=True))
