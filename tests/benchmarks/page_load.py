"""Latency of calls with and without viewers of the live page, and bytes a second per viewer.

Run as ``PYTHONPATH=.:tests/benchmarks python tests/benchmarks/page_load.py [CALLS/S] [VIEWERS] [BLOCKS] [SECONDS]``.
Blocks without and with viewers alternate, in an order that is drawn anew each time, so that other load of the
machine meets both alike; ``ratio`` is that of the pooled percentiles, with a bootstrap interval over blocks. A
viewer is a process of its own.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from live_kernel import LiveKernel

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
    with LiveKernel(Path(tempfile.mkdtemp()), latency_s=0.02) as kernel, kernel.traffic(per_second):
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
        "ratio": {q: round(share[viewers][q] / share[0][q], 3) for q in (50, 99)},
        "ratio_99_interval": _interval(latencies[viewers], latencies[0]),
        "bytes_per_second_per_viewer": round(sum(counts) / max(1, len(counts)) / (seconds + SETTLE_S)),
    }


def _interval(watched: list[list[float]], alone: list[list[float]]) -> list[float]:
    """The 5th and 95th percentile of the ratio of 99th percentiles, blocks resampled in pairs."""
    draw = np.random.default_rng(0)
    ratios = []
    for _ in range(RESAMPLED):
        rows = draw.integers(len(alone), size=len(alone))
        one, other = (np.concatenate([blocks[row] for row in rows]) for blocks in (watched, alone))
        ratios.append(np.percentile(one, 99) / np.percentile(other, 99))
    return [round(float(np.percentile(ratios, q)), 2) for q in (5, 95)]


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:5]]
    rate, viewers, blocks, seconds = [*given, *(200.0, 1.0, 10.0, 4.0)[len(given) :]]
    print(json.dumps(measured(rate, int(viewers), int(blocks), seconds), indent=2))
