"""The load: concurrent agents, each of which asks its next question when it has an answer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from eccos_aios.core import Core
from eccos_aios.demo.result import CoreUse, RunResult
from eccos_aios.history import Outcome, Record
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, Replay, Reply, SandboxCore
from eccos_aios.sandbox.replay import tool_names
from eccos_aios.sandbox.reply import last_user_text

CALLERS = 12  # concurrent agents

Key = tuple[str, frozenset[str]]  # a request: the query, and the names of its tools


def record_key(record: Record) -> Key:
    """Identifies a record's request."""
    return record.query.strip(), tool_names(record.tools)


class AnswerLog:
    """The outcomes that were replayed for each question, the last of them its answer."""

    def __init__(self) -> None:
        # needs no lock: a question's list is appended to by the cores that have its call, and read later
        self._outcomes: dict[Key, list[Outcome]] = {}

    def logging(self, replay: Replay) -> Callable[[dict[str, Any]], Reply]:
        """A reply function that replays, and logs the outcome."""

        def reply(request: dict[str, Any]) -> Reply:
            key = last_user_text(request["messages"]).strip(), tool_names(request.get("tools"))
            self._outcomes.setdefault(key, []).append(replay.outcome(request))
            return replay(request)

        return reply

    def quality(self, record: Record) -> float:
        """The quality of the logged outcome; 0 if there is none."""
        outcomes = self._outcomes.get(record_key(record))
        return outcomes[-1].graded_quality if outcomes else 0.0

    def cost_usd(self, record: Record, cores: Mapping[str, Core]) -> float:
        """US dollars of all logged outcomes of a record, at the prices of the cores by name."""
        return sum(
            cores[outcome.model_name].resolved_price.usd(
                outcome.input_token_length or 0, outcome.output_token_length or 0
            )
            for outcome in self._outcomes.get(record_key(record), ())
        )

    def clear(self) -> None:
        """Forget all."""
        self._outcomes.clear()


def drive(
    policy: str,
    kernel: EmbeddedKernel,
    asked: Sequence[Record],
    log: AnswerLog,
    on_answer: Callable[[int, int], None],
) -> RunResult:
    """Ask a running kernel every question.

    Parameters
    ----------
    policy : str
        The name of the run.
    kernel : EmbeddedKernel
        Started.
    asked : sequence of Record
        In this order, by `CALLERS` agents.
    log : AnswerLog
        The log of the kernel's cores.
    on_answer : callable
        Called after each answer with the number of answers and of questions, from the agents' threads.

    Returns
    -------
    RunResult
        Without the cores' counters and decision times.
    """

    answers = itertools.count(1)  # next() is atomic, so the agents need no lock

    def ask(record: Record) -> tuple[float, float, bool]:
        query = LLMQuery(
            messages=[{"role": "user", "content": record.query}],
            tools=[_openai_tool(tool) for tool in record.tools or ()],
        )
        start = time.perf_counter()
        response = kernel.query("demo-agent", query).result()["response"]
        latency_s = time.perf_counter() - start
        on_answer(next(answers), len(asked))
        failed = response.error is not None
        return 0.0 if failed else log.quality(record), latency_s, failed

    start = time.perf_counter()
    with ThreadPoolExecutor(CALLERS, thread_name_prefix="demo-agent") as agents:
        results = list(agents.map(ask, asked))
    seconds = time.perf_counter() - start
    return RunResult(
        policy=policy,
        qualities=[quality for quality, _, _ in results],
        latencies_s=[round(latency_s, 4) for _, latency_s, _ in results],
        errors=sum(failed for _, _, failed in results),
        seconds=seconds,
        cores=[],
    )


def core_use(core: Core, server: SandboxCore) -> CoreUse:
    """The counters of `server` since their reset."""
    stats = server.stats
    return CoreUse(
        name=core.name,
        quota=core.slots,
        calls=stats["requests"],
        max_in_flight=stats["max_in_flight"],
        input_tokens=stats["input_tokens"],
        output_tokens=stats["output_tokens"],
        cost_usd=core.resolved_price.usd(stats["input_tokens"], stats["output_tokens"]),
    )


def _openai_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)}
