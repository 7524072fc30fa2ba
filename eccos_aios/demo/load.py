"""The load: agents that ask a kernel, each its next question when it has its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from eccos_aios.collect.generated import GeneratedQuestion, is_right
from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core
from eccos_aios.demo.result import CoreUse, RunResult
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, SandboxCore


def drive(
    policy: str,
    kernel: EmbeddedKernel,
    questions: Sequence[GeneratedQuestion],
    callers: int,
    answered: Callable[[], None],
) -> RunResult:
    """Ask a running kernel every question and grade what comes back.

    Parameters
    ----------
    policy : str
        The name of the run.
    kernel : EmbeddedKernel
        Started.
    questions : sequence of GeneratedQuestion
        Asked in this order.
    callers : int
        Agents that ask at once.
    answered : callable
        Called after each answer, from the agents' threads.

    Returns
    -------
    RunResult
        Without the cores' counters and decision times, which the kernel does not know.
    """

    def ask(question: GeneratedQuestion) -> tuple[bool, float]:
        query = LLMQuery(messages=[{"role": "user", "content": question.text}])
        start = time.perf_counter()
        response = kernel.query("demo-agent", query).result()["response"]
        latency_s = time.perf_counter() - start
        answered()
        return is_right(response.response_message, question.truth), latency_s

    start = time.perf_counter()
    with ThreadPoolExecutor(callers, thread_name_prefix="demo-agent") as agents:
        results = list(agents.map(ask, questions))
    seconds = time.perf_counter() - start
    return RunResult(
        policy=policy,
        right=[right for right, _ in results],
        latencies_s=[round(latency_s, 4) for _, latency_s in results],
        seconds=seconds,
        cores=[],
    )


def core_use(core: Core, server: SandboxCore) -> CoreUse:
    """What `server` counted since its counts were reset."""
    stats = server.stats
    return CoreUse(
        name=core.name,
        quota=core.slots,
        calls=stats["requests"],
        max_in_flight=stats["max_in_flight"],
        input_tokens=stats["input_tokens"],
        output_tokens=stats["output_tokens"],
        cost_usd=cost_usd(core, stats["input_tokens"], stats["output_tokens"]),
    )


def cost_usd(core: Core, input_tokens: int, output_tokens: int) -> float:
    """US dollars of so many tokens on `core`."""
    price = core.resolved_price
    return (price.input * input_tokens + price.output * output_tokens) / TOKENS_PER_PRICE_UNIT
