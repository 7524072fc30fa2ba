"""Kernels in processes of their own, each driven by its own callers from one moment on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from eccos_aios.core import Core
from eccos_aios.history import CallOutcome
from eccos_aios.schedule import Call, CallResult
from experiments.shared_load import CONTEXT

READY_S = 60.0
ANSWER_S = 300.0
CLAIMS_S = 2.0  # in which kernels claim what they held before an empty Redis, which is nothing


def run_kernels_of(
    kernel: Callable[..., None],
    arguments: Iterable[tuple[Any, ...]],
    meanwhile: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """What each process puts into its queue.

    Parameters
    ----------
    kernel : callable
        Runs in a process, with its own arguments, a barrier for all, and the queue.
    arguments : iterable of tuple
        For each process.
    meanwhile : callable, optional
        Called once all processes run.
    """
    every = list(arguments)
    results, barrier = CONTEXT.Queue(), CONTEXT.Barrier(len(every))
    processes = [CONTEXT.Process(target=kernel, args=(*own, barrier, results)) for own in every]
    for process in processes:
        process.start()
    meanwhile()
    parts = [results.get(timeout=READY_S + ANSWER_S) for _ in processes]
    for process in processes:
        process.join()
    return parts


def drive(barrier: Any, callers: int, call_in_turn: Callable[[], None]) -> dict[str, float]:
    """Let callers call until they are done, from the moment on at which every kernel is ready."""
    barrier.wait(READY_S)
    time.sleep(CLAIMS_S)
    began_s = time.monotonic()
    threads = [threading.Thread(target=call_in_turn) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"began_s": began_s, "ended_s": time.monotonic()}


def seconds_of(parts: Iterable[dict[str, Any]]) -> float:
    """From the first call of any kernel to the last answer."""
    every = list(parts)
    return float(max(part["ended_s"] for part in every) - min(part["began_s"] for part in every))


def outcome_of(call: Call, result: CallResult, core: Core, finished_s: float) -> CallOutcome:
    """What a kernel records of a call."""
    return CallOutcome(
        call_id=call.id, core=core.name, query=call.text.text, agent=call.agent, finished_s=finished_s
    )
