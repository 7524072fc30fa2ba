"""``bench kernel``: a real AIOS kernel under its own scheduler and under ECCOS, on the same load."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from eccos_aios.bench.kernel_pair import (
    PairCore,
    PairQuestions,
    cost_usd,
    manifest_cores,
    pair_at,
    pair_questions,
)
from eccos_aios.collect.generated import GeneratedQuestion, is_right
from eccos_aios.errors import ABSENT, AiosError
from eccos_aios.sandbox.aios import AiosKernel, aios_config, aios_kernel, free_port
from eccos_aios.sandbox.server import SandboxCore

QUALITY_TARGET = 0.85
WARM_UP_CALLS = 3  # AIOS loads modules on its first call


@dataclass(frozen=True)
class Load:
    """The load that agents put on a kernel.

    Attributes
    ----------
    callers : int
        Agents that call at once, each waiting for its answer before the next call.
    calls : int
        Total over all agents.
    """

    callers: int
    calls: int


@dataclass(frozen=True)
class KernelRow:
    """The measurements of one load under one scheduler.

    Attributes
    ----------
    scheduler : {"fifo", "eccos"}
    callers, calls, errors : int
        `errors`: calls answered with an error.
    calls_per_s : float
    busy_share : float
        Utilisation of the slots: service seconds over slots times elapsed seconds; `calls_per_s` over what
        the slots could give.
    busy_by_core : dict of str to float
        The same of each core.
    kernel_cpus : float or None
        CPU seconds of the kernel's process per second; near 1 the interpreter's lock bounds it. None where
        the system does not tell.
    p50_s, p95_s, p99_s : float
        Seconds from a call to its answer.
    cost_usd : float
        US dollars of the tokens that the cores counted, at the manifest's prices.
    quality : float
        Share of the calls whose answer was graded right.
    max_in_flight, requests : dict of str to int
        By core, as the cores counted.
    decision_ms_p50 : float or None
        Milliseconds that a round took; None under AIOS's own scheduler.
    """

    scheduler: str
    callers: int
    calls: int
    errors: int
    calls_per_s: float
    busy_share: float
    busy_by_core: dict[str, float]
    kernel_cpus: float | None
    p50_s: float
    p95_s: float
    p99_s: float
    cost_usd: float
    quality: float
    max_in_flight: dict[str, int]
    requests: dict[str, int]
    decision_ms_p50: float | None


def kernel_bench(
    aios: Path,
    python: Path | None,
    loads: Sequence[Load],
    latency_s: float = 0.2,
    quota: int = 16,
    schedulers: Sequence[str] = ("fifo", "eccos"),
    on_step: Callable[[str], None] = lambda _: None,
    environment: Mapping[str, str] | None = None,
    quality_target: float = QUALITY_TARGET,
    price_ratio: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[KernelRow]:
    """Run every load on a kernel of each scheduler, over two sandbox cores that answer generated questions.

    One core is expensive and answers all of them right, the other is cheap and answers the easy ones. Every
    scheduler gets the same questions; ECCOS has a history of other questions of the same kinds.

    Parameters
    ----------
    aios : Path
        The AIOS checkout; it is copied, its own config is not touched.
    python : Path, optional
        The interpreter of AIOS's environment, with this package installed. Default: ``.venv/bin/python``
        in the checkout.
    loads : sequence of Load
    latency_s : float
        Seconds that each core takes for a call.
    quota : int
        Calls that each core may hold at once under ECCOS.
    schedulers : sequence of str
        Of ``fifo`` and ``eccos``.
    on_step : callable, optional
        Called with a description of each step.
    environment : mapping of str to str, optional
        For the kernels, in addition to this process's.
    quality_target : float
        Mean quality that ECCOS has to reach, 0 to 1.
    price_ratio : float, optional
        The dear core's prices over the cheap one's. Default: those of `PAIR`, 16.7.
    options : mapping of str to Any, optional
        More of the ``scheduler.eccos`` section.

    Raises
    ------
    AiosError
        There is no such checkout or interpreter, or the kernel does not start.
    """
    python = aios_interpreter(aios, python, environment or {})
    questions = pair_questions(max(load.calls for load in loads))
    pair = pair_at(price_ratio)
    files = {"cores.yaml": _manifest(quota, pair), "history.jsonl": _history(questions)}
    rows: list[KernelRow] = []
    for scheduler in schedulers:
        with ExitStack() as stack:
            cores = [
                stack.enter_context(SandboxCore(core.name, questions.reply_of(core), latency_s=latency_s))
                for core in pair
            ]
            on_step(f"starting AIOS with {scheduler}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "aios"
            kernel = stack.enter_context(
                aios_kernel(
                    aios,
                    folder,
                    aios_config(cores, free_port(), _section(scheduler, quality_target, options or {})),
                    [str(python), "-m", "runtime.launch"],
                    files,
                    environment,
                )
            )
            if (refusal := kernel.refusal) is not None:
                raise AiosError(str(aios), "", ABSENT, f"the kernel did not start: {refusal}")
            for _ in range(WARM_UP_CALLS):
                kernel.query("Are you there?")
            for load in loads:
                on_step(f"{scheduler}: {load.calls} calls of {load.callers} callers")
                asked = questions.asked[: load.calls]
                rows.append(_measure(kernel, cores, pair, scheduler, load, asked, latency_s, quota))
    return rows


def aios_interpreter(aios: Path, python: Path | None, environment: Mapping[str, str]) -> Path:
    """The interpreter that runs an AIOS checkout, given or its own, once it has what a kernel needs.

    Raises
    ------
    AiosError
        There is no such checkout or interpreter, or it lacks AIOS's requirements or this package.
    """
    if not (aios / "runtime" / "launch.py").is_file():
        raise AiosError(str(aios), "", ABSENT, "is not an AIOS checkout: there is no runtime/launch.py")
    python = python or aios / ".venv" / "bin" / "python"
    if not python.is_file():
        raise AiosError(
            str(python), "", ABSENT, "there is no such interpreter; name AIOS's own with --python"
        )
    probe = "import eccos_aios, cerebrum, litellm"
    done = subprocess.run(
        [python, "-c", probe],
        capture_output=True,
        text=True,
        check=False,
        env=_merged(environment),
        cwd=aios,  # not a checkout of this package, in which any interpreter would find it
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise AiosError(
            str(python), "", ABSENT, f"{reason}; install AIOS's requirements, Cerebrum and eccos-aios there"
        )
    return python


def _merged(environment: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **environment}


def _section(scheduler: str, quality_target: float, options: Mapping[str, Any]) -> dict[str, Any]:
    if scheduler != "eccos":
        return {}
    eccos = {"manifest": "cores.yaml", "history": "history.jsonl", "quality_target": quality_target}
    return {"scheduler_type": "eccos", "eccos": {**eccos, **options}}


def _manifest(quota: int, pair: Sequence[PairCore]) -> str:
    fields = {"name", "quota", "price"}
    cores = [core.model_dump(include=fields, exclude_none=True) for core in manifest_cores(quota, pair)]
    return str(yaml.safe_dump({"cores": cores}))


def _history(questions: PairQuestions) -> str:
    return "".join(record.model_dump_json() + "\n" for record in questions.history())


def _measure(
    kernel: AiosKernel,
    cores: Sequence[SandboxCore],
    pair: Sequence[PairCore],
    scheduler: str,
    load: Load,
    asked: Sequence[GeneratedQuestion],
    latency_s: float,
    quota: int,
) -> KernelRow:
    for core in cores:
        core.reset_counts()
    latencies_s: list[float] = []
    lock = threading.Lock()  # guards latencies_s

    def call(number: int) -> tuple[bool, bool]:
        started_s = time.perf_counter()
        answer = kernel.query(asked[number].text, agent=f"agent-{number % load.callers}")
        with lock:
            latencies_s.append(time.perf_counter() - started_s)
        failed = answer["error"] is not None
        return failed, not failed and is_right(answer["response_message"], asked[number].truth)

    cpu_s, started_s = _cpu_s(kernel.process.pid), time.perf_counter()
    with ThreadPoolExecutor(load.callers, thread_name_prefix="caller") as callers:
        outcomes = list(callers.map(call, range(load.calls)))
    elapsed_s = time.perf_counter() - started_s
    ended_cpu_s = _cpu_s(kernel.process.pid)
    p50, p95, p99 = np.percentile(latencies_s, [50, 95, 99]).tolist()
    status = kernel.request("/eccos/status") if scheduler == "eccos" else None
    return KernelRow(
        scheduler=scheduler,
        callers=load.callers,
        calls=load.calls,
        errors=sum(failed for failed, _ in outcomes),
        calls_per_s=load.calls / elapsed_s,
        busy_share=load.calls * latency_s / (elapsed_s * quota * len(cores)),
        busy_by_core={core.name: core.requests * latency_s / (elapsed_s * quota) for core in cores},
        kernel_cpus=None if cpu_s is None or ended_cpu_s is None else (ended_cpu_s - cpu_s) / elapsed_s,
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        cost_usd=cost_usd(cores, pair),
        quality=sum(right for _, right in outcomes) / load.calls,
        max_in_flight={core.name: core.max_in_flight for core in cores},
        requests={core.name: core.requests for core in cores},
        decision_ms_p50=status and status["totals"]["decision_ms_p50"],
    )


def _cpu_s(process: int) -> float | None:
    """CPU seconds that a process has used; None where the system has no /proc."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows_as_json(rows: Sequence[KernelRow]) -> str:
    """The rows as one JSON object."""
    return json.dumps({"rows": [asdict(row) for row in rows]}, indent=2)
