"""The demo: FIFO, as AIOS schedules today, against ECCOS on the same questions and cores."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import yaml

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.demo.load import CALLERS, AnswerLog, core_use, drive
from eccos_aios.demo.plot import draw
from eccos_aios.demo.result import THOUSAND, DemoResult, RunResult, SingleCore
from eccos_aios.demo.scenario import Scenario
from eccos_aios.errors import ABSENT, InputError
from eccos_aios.history import Record
from eccos_aios.hooks import EccosScheduler
from eccos_aios.hooks.query_pool import QUERY_THREADS_PER_SLOT
from eccos_aios.sandbox import EmbeddedKernel, Replay, SandboxCore, error_response
from eccos_aios.version import __version__

CORES_FILE = "cores.yaml"
HISTORY_FILE = "history.jsonl.gz"
QUERIES_FILE = "questions.jsonl"
RESULTS_FILE = "results.json"
PLOT_FILE = "demo.png"
OnStep = Callable[[str, int, int], None]
FILES = (CORES_FILE, HISTORY_FILE, QUERIES_FILE, RESULTS_FILE, PLOT_FILE)


def run_demo(
    scenario: Scenario,
    out: Path,
    *,
    seed: int = 0,
    source: str | None = None,
    on_step: OnStep = lambda step, done, total: None,
) -> DemoResult:
    """Run both schedulers and write the results.

    Parameters
    ----------
    scenario : Scenario
    out : Path
        Folder for the manifest, the past records, the questions, ``results.json`` and the plot; created
        where it is absent.
    seed : int
        Of the scenario; written to the results.
    source : str, optional
        The history of the scenario; likewise.
    on_step : callable
        Called with the name of the run, the questions answered and their number, from the agents' threads.

    Raises
    ------
    InputError
        `out` cannot be written.
    """
    start = time.perf_counter()
    config = _write_inputs(out, scenario)
    fifo, eccos = _run_both(config, scenario, on_step)
    result = DemoResult(
        version=__version__,
        seed=seed,
        history=source,
        questions=len(scenario.asked),
        records=len(scenario.past),
        callers=CALLERS,
        quality_target=scenario.quality_target,
        time_scale=scenario.time_scale,
        notes=list(scenario.notes),
        fifo=fifo,
        eccos=eccos,
        alone=[_single_core(column, core, scenario.asked) for column, core in enumerate(scenario.cores)],
        out=str(out),
        plot=None,
        seconds=0.0,
    )
    drawn = draw(result, out / PLOT_FILE)
    result = result.model_copy(
        update={"plot": str(drawn) if drawn else None, "seconds": time.perf_counter() - start}
    )
    (out / RESULTS_FILE).write_text(json.dumps(result.as_json(), indent=2) + "\n", encoding="utf-8")
    return result


def _write_inputs(out: Path, scenario: Scenario) -> EccosConfig:
    cores = [
        core.model_dump(mode="json", include=_shown_keys(core), exclude_none=True) for core in scenario.cores
    ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / CORES_FILE).write_text(yaml.safe_dump({"cores": cores}, sort_keys=False), encoding="utf-8")
        with gzip.open(out / HISTORY_FILE, "wt", encoding="utf-8") as file:
            file.writelines(record.model_dump_json(exclude_none=True) + "\n" for record in scenario.past)
        with (out / QUERIES_FILE).open("w", encoding="utf-8") as file:
            file.writelines(_query_line(record) for record in scenario.asked)
    except OSError as error:
        raise InputError(str(out), "", ABSENT, f"cannot be written: {error.strerror}") from error
    default = EccosConfig(manifest=out / CORES_FILE)
    return default.model_copy(
        update={
            "history": out / HISTORY_FILE,
            "quality_target": scenario.quality_target,
            "max_wait_s": default.max_wait_s * scenario.time_scale,
            "max_quality_wait_s": default.max_quality_wait_s * scenario.time_scale,
            "max_age_s": default.max_age_s * scenario.time_scale,
        }
    )


def _shown_keys(core: Core) -> set[str]:
    """The keys of a core in the manifest, without its address: the sandbox has its own."""
    return core.model_fields_set - {"base_url", "api_key_env"}


def _query_line(record: Record) -> str:
    tools = {"tools": record.tools} if record.tools else {}
    return json.dumps({"id": record.id, "query": record.query, **tools}) + "\n"


def _run_both(config: EccosConfig, scenario: Scenario, on_step: OnStep) -> tuple[RunResult, RunResult]:
    log = AnswerLog()
    scale = scenario.time_scale
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                SandboxCore(core.name, log.logging(Replay(scenario.asked, core.name)), time_scale=scale)
            )
            for core in scenario.cores
        ]

        def run(policy: str, kernel: EmbeddedKernel) -> RunResult:
            log.clear()
            for server in servers:
                server.reset_counts()
            on_step(policy, 0, len(scenario.asked))
            with kernel:
                result = drive(policy, kernel, scenario.asked, log, partial(on_step, policy))
                use = [core_use(core, server) for core, server in zip(scenario.cores, servers, strict=True)]
                return result.model_copy(update={"cores": use, **_decisions(kernel)})

        fifo = run("FIFO", EmbeddedKernel(servers, time_scale=scale))
        on_step(f"ECCOS learns from {len(scenario.past)} records", 0, len(scenario.asked))
        make_scheduler = partial(EccosScheduler, config=config, response=error_response)
        threads = QUERY_THREADS_PER_SLOT * sum(core.slots for core in scenario.cores)
        eccos = run("ECCOS", EmbeddedKernel(servers, make_scheduler, threads, time_scale=scale))
    return fifo, eccos


def _decisions(kernel: EmbeddedKernel) -> dict[str, float]:
    if not isinstance(kernel.scheduler, EccosScheduler):
        return {}
    totals = kernel.scheduler.status()["totals"]
    return {key: totals[key] for key in ("predicted_quality", "decision_ms_p50", "decision_ms_p99")}  # type: ignore[index]


def _single_core(column: int, core: Core, asked: Sequence[Record]) -> SingleCore:
    outcomes = [record.outputs[column] for record in asked]
    input_tokens = sum(outcome.input_token_length or 0 for outcome in outcomes)
    output_tokens = sum(outcome.output_token_length or 0 for outcome in outcomes)
    return SingleCore(
        name=core.name,
        quality=sum(outcome.graded_quality for outcome in outcomes) / len(outcomes),
        cost_usd_per_1000=core.resolved_price.usd(input_tokens, output_tokens) / len(outcomes) * THOUSAND,
    )
