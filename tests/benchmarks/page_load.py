"""Latency of calls with and without viewers of the live page, and bytes a second per viewer.

Run as ``PYTHONPATH=.:tests/benchmarks python tests/benchmarks/page_load.py [CALLS/S] [VIEWERS] [SECONDS]``.
Blocks without and with viewers alternate, so that drifts of the machine's load meet both. The kernel, its
server and the viewers share one process, which makes the viewers look dearer than they are.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from live_kernel import LiveKernel

BLOCKS = 3


@contextmanager
def viewer(url: str, counts: list[int]) -> Iterator[None]:
    """Read the events until the block ends; appends their bytes."""
    parts = urlsplit(url)
    loop = asyncio.new_event_loop()
    read = 0

    async def watch() -> None:
        nonlocal read
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET /eccos/events HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        try:
            while content := await reader.read(65536):
                read += len(content)
        finally:
            writer.close()

    task = loop.create_task(watch())

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            return
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="viewer")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        counts.append(read)


def main(per_second: float, viewers: int, seconds: float) -> None:
    """Print the figures as JSON."""
    latencies: dict[int, list[float]] = {0: [], viewers: []}
    counts: list[int] = []
    pause = threading.Event()
    with LiveKernel(Path(tempfile.mkdtemp()), latency_s=0.02) as kernel:
        with kernel.traffic(per_second):
            pause.wait(3.0)
        for _ in range(BLOCKS):
            for watching in (0, viewers):
                with ExitStack() as made:
                    for _ in range(watching):
                        made.enter_context(viewer(kernel.url, counts))
                    made.enter_context(kernel.traffic(per_second, latencies[watching]))
                    pause.wait(seconds)
    print(
        json.dumps(
            {
                "calls_per_second": per_second,
                "viewers": viewers,
                "calls": {count: len(found) for count, found in latencies.items()},
                "p50_ms": {
                    count: round(1e3 * float(np.percentile(found, 50)), 2)
                    for count, found in latencies.items()
                },
                "p99_ms": {
                    count: round(1e3 * float(np.percentile(found, 99)), 2)
                    for count, found in latencies.items()
                },
                "bytes_per_second_per_viewer": round(sum(counts) / max(1, len(counts)) / seconds),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:4]]
    rate, viewers, seconds = [*given, *(200.0, 1.0, 10.0)[len(given) :]]
    main(rate, int(viewers), seconds)
