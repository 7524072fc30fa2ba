"""A real AIOS kernel over cores that replay recorded tool calls: right answers and dollars with and without plans."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from eccos_aios.bench.kernel import aios_interpreter
from eccos_aios.core import Core
from eccos_aios.errors import ABSENT, AiosError, HistoryError
from eccos_aios.history import Record
from eccos_aios.sandbox import Replay
from eccos_aios.sandbox.aios import AiosKernel, aios_config, aios_kernel, free_port
from eccos_aios.sandbox.server import SandboxCore

# AIOS hands tools on to this backend, but not to "vllm".
BACKEND = "hosted_vllm"
FIFO = "fifo"


@dataclass(frozen=True)
class PlansRow:
    """One run of the calls.

    Attributes
    ----------
    mode : str
        ``fifo``, or ECCOS with this ``plans``.
    calls : int
    right : float
        Mean recorded quality of the answers that the agents got.
    cost_usd : float
        US dollars of the tokens that the cores counted.
    requests, max_in_flight : dict of str to int
        By core, as the cores counted.
    accepted_at_first_stage, predicted_quality : float or None
        Of ``/eccos/status``; None under FIFO.
    """

    mode: str
    calls: int
    right: float
    cost_usd: float
    requests: dict[str, int]
    max_in_flight: dict[str, int]
    accepted_at_first_stage: float | None
    predicted_quality: float | None


def plans_bench(
    aios: Path,
    python: Path | None,
    history: Sequence[Record],
    cores: Sequence[Core],
    modes: Sequence[str] = (FIFO, "off", "check", "agree"),
    learned: int = 434,
    calls: int = 600,
    callers: int = 16,
    quality_target: float = 0.9,
    time_scale: float = 0.05,
    seed: int = 1,
    on_step: Callable[[str], None] = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> list[PlansRow]:
    """Ask a kernel the queries of a history that it has not learned, under every mode.

    Parameters
    ----------
    aios, python : Path
        As in `kernel_bench`.
    history : sequence of Record
        With answers. Some are learned; the others are asked, again from the first where they are too few.
    cores : sequence of Core
        With quotas and prices; each replays its recorded answers.
    modes : sequence of str
        ``fifo`` or a value of the ``plans`` key.
    learned, calls, callers : int
        Records that the kernel learns from, calls, and agents that call at once.
    quality_target : float
    time_scale : float
        Factor on the recorded latencies.
    seed : int
        Of the split by query.
    on_step : callable, optional
        Called with a description of each step.
    environment : mapping of str to str, optional
        For the kernels.

    Raises
    ------
    HistoryError
        Nothing is left to ask.
    AiosError
        There is no such checkout or interpreter, or the kernel does not start.
    """
    python = aios_interpreter(aios, python, environment or {})
    names = {core.name for core in cores}
    records = [_of_cores(record, names) for record in history]
    taught, asked = _split(records, learned, seed)
    if not asked:
        raise HistoryError("history", "", ABSENT, f"all {len(records)} records are learned; none is to ask")
    asked = list(islice(cycle(asked), calls))
    manifest = [core.model_dump(mode="json", include={"name", "quota", "price"}) for core in cores]
    files = {
        "cores.yaml": json.dumps({"cores": manifest}),
        "history.jsonl": "".join(record.model_dump_json(exclude_defaults=True) + "\n" for record in taught),
    }
    rows = []
    for mode in modes:
        on_step(f"{mode}: {calls} calls")
        with ExitStack() as stack:
            running = [
                stack.enter_context(SandboxCore(core.name, Replay(records, core.name), time_scale=time_scale))
                for core in cores
            ]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "aios"
            scheduler = _section(mode, quality_target)
            backends = dict.fromkeys(names, BACKEND)
            config = aios_config(running, free_port(), scheduler, backends)
            command = [str(python), "-m", "runtime.launch"]
            kernel = stack.enter_context(aios_kernel(aios, folder, config, command, files, environment))
            if (refusal := kernel.refusal) is not None:
                raise AiosError(str(aios), "", ABSENT, f"the kernel did not start: {refusal}")
            rows.append(_measure(kernel, mode, running, cores, asked, callers))
    return rows


def rows_as_json(rows: Iterable[PlansRow]) -> str:
    """The rows as one JSON object."""
    return json.dumps({"rows": [asdict(row) for row in rows]})


def _of_cores(record: Record, names: set[str]) -> Record:
    outputs = tuple(outcome for outcome in record.outputs if outcome.model_name in names)
    tools = [{"type": "function", "function": tool.get("function", tool)} for tool in record.tools or ()]
    return record.model_copy(update={"outputs": outputs, "tools": tools})


def _split(records: Sequence[Record], learned: int, seed: int) -> tuple[list[Record], list[Record]]:
    """By query: records to learn, and others to ask."""
    queries: dict[str, list[Record]] = {}
    for record in records:
        queries.setdefault(record.query.strip(), []).append(record)
    groups = list(queries.values())
    random.Random(seed).shuffle(groups)
    taught: list[Record] = []
    asked: list[Record] = []
    for group in groups:
        (taught if len(taught) < learned else asked).extend(group)
    return taught, asked


def _section(mode: str, quality_target: float) -> dict[str, Any]:
    if mode == FIFO:
        return {"scheduler_type": FIFO}
    eccos = {
        "manifest": "cores.yaml",
        "history": "history.jsonl",
        "quality_target": quality_target,
        "plans": mode,
    }
    return {"scheduler_type": "eccos", "eccos": eccos}


def _measure(
    kernel: AiosKernel,
    mode: str,
    running: Sequence[SandboxCore],
    cores: Sequence[Core],
    asked: Sequence[Record],
    callers: int,
) -> PlansRow:
    with ThreadPoolExecutor(callers, thread_name_prefix="caller") as pool:
        answers = list(pool.map(lambda record: kernel.query(record.query, tools=record.tools), asked))
    right = sum(_recorded_quality(*pair) for pair in zip(asked, answers, strict=True))
    cost = 0.0
    for core, sandbox in zip(cores, running, strict=True):
        price, counted = core.resolved_price, sandbox.stats
        cost += counted["input_tokens"] * price.input + counted["output_tokens"] * price.output
    totals = {} if mode == FIFO else kernel.request("/eccos/status")["totals"]
    return PlansRow(
        mode,
        len(asked),
        right / len(asked),
        cost / 1e6,
        {sandbox.name: sandbox.requests for sandbox in running},
        {sandbox.name: sandbox.max_in_flight for sandbox in running},
        totals.get("accepted_at_first_stage"),
        totals.get("predicted_quality"),
    )


def _recorded_quality(record: Record, answer: Mapping[str, Any]) -> float:
    """What the answer that an agent got is worth by the record; 0 where no core has given it."""
    given = _calls(answer.get("tool_calls"))
    for outcome in record.outputs:
        recorded = outcome.prediction if isinstance(outcome.prediction, list) else None
        if _calls(recorded) == given:
            return outcome.graded_quality
    return 0.0


def _calls(calls: Sequence[Mapping[str, Any]] | None) -> list[tuple[str, str]]:
    """Names, as AIOS and OpenAI write them, and arguments, in an order of their own."""
    return sorted(
        (
            str(call["name"]).replace(".", "_").replace("/", "_").replace("__", "_"),
            json.dumps(call.get("arguments", call.get("parameters")), sort_keys=True),
        )
        for call in calls or ()
    )
