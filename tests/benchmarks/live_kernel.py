"""An embedded kernel with ECCOS and its ``/eccos`` endpoints on a real port, under traffic."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from eccos_aios.config import EccosConfig
from eccos_aios.history import Outcome, Record
from eccos_aios.hooks import EccosScheduler
from eccos_aios.hooks.active import ACTIVE
from eccos_aios.hooks.endpoints import EccosEndpoints
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, SandboxCore, error_response

CORES = {"gemma-3n": (8, 0.02, 0.62), "gpt-4o-mini": (8, 0.6, 0.78), "sonnet": (4, 15.0, 0.93)}
RECORDS = 200
START_S = 20.0


class LiveKernel:
    """A kernel over sandbox cores, served by uvicorn in a thread of its own; one at a time in a process.

    Parameters
    ----------
    folder : Path
    port : int
        0: any free one.
    latency_s : float
        Of the cores.
    **options
        Of `EccosConfig`.
    """

    def __init__(self, folder: Path, port: int = 0, latency_s: float = 0.02, **options: Any) -> None:
        manifest = [
            {"name": name, "quota": quota, "price": {"input": price, "output": price}}
            for name, (quota, price, _) in CORES.items()
        ]
        (folder / "cores.yaml").write_text(json.dumps({"cores": manifest}))
        (folder / "history.jsonl").write_text("".join(f"{r.model_dump_json()}\n" for r in _records()))
        self.config = EccosConfig.model_validate(
            {
                "manifest": folder / "cores.yaml",
                "history": folder / "history.jsonl",
                "quality_target": 0.8,
                "plans": "off",
                "grace_s": 1.0,
                **options,
            }
        )
        self.port = port
        self.cores = {name: SandboxCore(name, latency_s=latency_s) for name in CORES}
        self._made = ExitStack()
        self.kernel: EmbeddedKernel | None = None
        self._latencies_s: list[float] | None = None

    def __enter__(self) -> LiveKernel:
        for core in self.cores.values():
            self._made.enter_context(core)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._made.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the kernel and its server; the cores run already."""
        import uvicorn

        make = partial(EccosScheduler, config=self.config, response=error_response)
        self.kernel = EmbeddedKernel(list(self.cores.values()), make, query_threads=64)
        self.kernel.start()
        ACTIVE.set_eccos(self.kernel.scheduler)  # type: ignore[arg-type]
        app: Any = EccosEndpoints(_not_found)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.port, log_level="warning", lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="live-kernel-server")
        self._thread.start()
        until_s = time.monotonic() + START_S
        while not self._server.started:
            if time.monotonic() > until_s or not self._thread.is_alive():
                raise RuntimeError("the server has not started")
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop both; may be repeated."""
        if self.kernel is None:
            return
        kernel, self.kernel = self.kernel, None
        kernel.stop()
        self._server.should_exit = True
        self._thread.join()

    @contextmanager
    def measured(self) -> Iterator[list[float]]:
        """The seconds until their answers of queries that are sent within the block."""
        found: list[float] = []
        self._latencies_s = found
        yield found
        self._latencies_s = None

    @contextmanager
    def traffic(self, per_second: float) -> Iterator[None]:
        """Queries at this rate, open loop, from four agents, until the block ends."""
        ending = threading.Event()
        sender = threading.Thread(target=self._send, args=(per_second, ending), name="live-kernel-traffic")
        sender.start()
        try:
            yield
        finally:
            ending.set()
            sender.join()

    def _send(self, per_second: float, ending: threading.Event) -> None:
        began_s = time.monotonic()
        for number in itertools.count():
            if ending.wait(max(0.0, began_s + number / per_second - time.monotonic())):
                return
            kernel, sent_s = self.kernel, time.monotonic()
            if kernel is None:
                continue
            query = LLMQuery(messages=[{"role": "user", "content": _text(number)}])
            try:
                answer = kernel.query(f"agent-{number % 4}", query)
            except RuntimeError:
                continue  # it stops just now
            latencies_s = self._latencies_s
            if latencies_s is not None:
                answer.add_done_callback(
                    lambda _, sent_s=sent_s, found=latencies_s: found.append(time.monotonic() - sent_s)
                )


async def _not_found(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _text(number: int) -> str:
    topics = ("the capital of France", "a proof by induction", "a poem on autumn", "a sorting algorithm")
    return f"Question {number % 97}: tell me about {topics[number % 4]}."


def _records() -> list[Record]:
    draw = random.Random(0)
    return [
        Record(
            query=_text(number),
            outputs=tuple(
                Outcome(
                    model_name=name,
                    quality=float(draw.random() < quality),
                    input_token_length=30,
                    output_token_length=20,
                )
                for name, (_, _, quality) in CORES.items()
            ),
        )
        for number in range(RECORDS)
    ]
