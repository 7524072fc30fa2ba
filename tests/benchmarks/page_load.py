"""Latency of calls with and without viewers of the live page, and bytes a second per viewer.

Run as ``PYTHONPATH=.:tests/benchmarks python tests/benchmarks/page_load.py [CALLS/S] [VIEWERS] [BLOCKS] [SECONDS]``.
Blocks without and with viewers alternate, in an order that is drawn anew each time, so that other load of the
machine meets both alike; ``ratio`` is the median over pairs of blocks, with a bootstrap interval, since one burst
of other load would decide the ratio of the pooled percentiles. A viewer is a process of its own: a browser on the
kernel's machine takes CPU time that is not the kernel's. ``event_cpu_ms`` is what the kernel spends on an event.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from live_kernel import LiveKernel

from eccos_aios.hooks.live import LiveEvents

RESAMPLED = 2000  # times, for the interval
SETTLE_S = 0.5  # after a viewer has come or gone
READER = """
import sys, urllib.request
read = 0
with urllib.request.urlopen(sys.argv[1] + "/eccos/events") as events:
    print("reads", flush=True)
    while line := events.readline():
        read += len(line)
        print(read, flush=True)
"""


@contextmanager
def viewer(url: str, counts: list[int]) -> Iterator[None]:
    """Read the events until the block ends; appends their bytes."""
    command = [sys.executable, "-S", "-c", READER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        yield
        reader.terminate()
        counts.append(int(reader.stdout.read().split()[-1]))


def measured(per_second: float, viewers: int, blocks: int, seconds: float) -> dict[str, object]:
    """The figures, ready for JSON."""
    latencies: dict[int, list[list[float]]] = {0: [], viewers: []}
    counts: list[int] = []
    pause = threading.Event()
    kernel = LiveKernel(Path(tempfile.mkdtemp()), latency_s=0.02)
    with event_costs() as spent_s, kernel, kernel.traffic(per_second):
        pause.wait(5.0)
        for _ in range(blocks):
            for watching in random.sample((0, viewers), 2):
                with ExitStack() as made:
                    for _ in range(watching):
                        made.enter_context(viewer(kernel.url, counts))
                    pause.wait(SETTLE_S)
                    with kernel.measured() as found:
                        pause.wait(seconds)
                    latencies[watching].append(found)
    pooled = {count: np.concatenate([np.array(each) for each in found]) for count, found in latencies.items()}
    share = {count: {q: float(np.percentile(found, q)) for q in (50, 99)} for count, found in pooled.items()}
    return {
        "calls_per_second": per_second,
        "viewers": viewers,
        "calls": {count: len(found) for count, found in pooled.items()},
        "p50_ms": {count: round(1e3 * found[50], 2) for count, found in share.items()},
        "p99_ms": {count: round(1e3 * found[99], 2) for count, found in share.items()},
        "ratio": {q: _ratio(latencies[viewers], latencies[0], q) for q in (50, 99)},
        "event_cpu_ms": round(1e3 * float(np.median(spent_s)), 2),
        "bytes_per_second_per_viewer": round(sum(counts) / max(1, len(counts)) / (seconds + SETTLE_S)),
    }


def _ratio(watched: list[list[float]], alone: list[list[float]], q: float) -> list[float]:
    """Median of the ratio of percentiles over pairs of blocks, and its 5th and 95th percentile."""
    ratios = np.array(
        [np.percentile(a, q) / np.percentile(b, q) for a, b in zip(watched, alone, strict=True)]
    )
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLED, len(ratios)))
    interval = np.percentile(np.median(drawn, axis=1), [5, 95]).tolist()
    return [round(float(value), 3) for value in (np.median(ratios), *interval)]


@contextmanager
def event_costs() -> Iterator[list[float]]:
    """CPU seconds of each event that the kernel makes within the block."""
    spent_s: list[float] = []
    made = LiveEvents._encoded

    def timed(live: LiveEvents) -> bytes:
        began_s = time.thread_time()
        event = made(live)
        spent_s.append(time.thread_time() - began_s)
        return event

    LiveEvents._encoded = timed  # type: ignore[method-assign]
    try:
        yield spent_s
    finally:
        LiveEvents._encoded = made  # type: ignore[method-assign]


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:5]]
    rate, viewers, blocks, seconds = [*given, *(200.0, 1.0, 10.0, 4.0)[len(given) :]]
    print(json.dumps(measured(rate, int(viewers), int(blocks), seconds), indent=2))
