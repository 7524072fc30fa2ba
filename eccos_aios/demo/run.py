"""The demo: AIOS's schedulers and single cores against ECCOS on the same questions and cores."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.demo.baselines import RoutingByText, single_cores, smart_routing
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
ALONE_FILE = "one-core.yaml"  # only while the demo runs
FEW_RECORDS = 60  # to learn from; below, estimates are hardly more than each core's mean
FEW_QUESTIONS = 20  # to compare qualities and the slowest of twenty by
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
    """Run every scheduler and write the results.

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
    fifo, others, eccos = _run_all(config, scenario, on_step)
    config.manifest.with_name(ALONE_FILE).unlink(missing_ok=True)
    result = DemoResult(
        version=__version__,
        seed=seed,
        history=source,
        questions=len(scenario.asked),
        records=len(scenario.past),
        callers=CALLERS,
        quality_target=scenario.quality_target,
        time_scale=scenario.time_scale,
        notes=[*scenario.notes, *_untold(scenario)],
        fifo=fifo,
        eccos=eccos,
        others=others,
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


def _untold(scenario: Scenario) -> Iterator[str]:
    """What so few records or questions cannot tell."""
    if not scenario.past:
        yield (
            "no past records: ECCOS and SmartRouting know nothing of the cores, so this compares how fast "
            "the schedulers are, and tells nothing of routing"
        )
    elif len(scenario.past) < FEW_RECORDS:
        yield f"{len(scenario.past)} past records: too few to learn which core suits which question"
    if len(scenario.asked) < FEW_QUESTIONS:
        yield (
            f"{len(scenario.asked)} questions: quality is known to {100 / len(scenario.asked):.0f} points at "
            "best, and the slowest calls not at all; ask more to compare"
        )


def _write_inputs(out: Path, scenario: Scenario) -> EccosConfig:
    cores = [_shown(core) for core in scenario.cores]
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


def _shown(core: Core) -> dict[str, Any]:
    """A core in the manifest, without its address: the sandbox has its own."""
    keys = core.model_fields_set - {"base_url", "api_key_env"}
    return core.model_dump(mode="json", include=keys, exclude_none=True)


def _query_line(record: Record) -> str:
    tools = {"tools": record.tools} if record.tools else {}
    return json.dumps({"id": record.id, "query": record.query, **tools}) + "\n"


class _Load:
    """The questions of a scenario, asked of one kernel after the other, each over fresh cores.

    Parameters
    ----------
    scenario : Scenario
    on_step : callable
        As in `run_demo`.
    """

    def __init__(self, scenario: Scenario, on_step: OnStep) -> None:
        self._scenario, self._on_step = scenario, on_step

    def run(
        self,
        policy: str,
        columns: Sequence[int],
        make_scheduler: Callable[..., EccosScheduler] | None = None,
        router: RoutingByText | None = None,
    ) -> RunResult:
        """Ask a kernel over some of the cores; by default under AIOS's FIFO and sequential routing."""
        scenario, log = self._scenario, AnswerLog()
        cores = [scenario.cores[column] for column in columns]
        scale = scenario.time_scale
        with ExitStack() as stack:
            servers = [
                stack.enter_context(
                    SandboxCore(core.name, log.logging(Replay(scenario.asked, core.name)), time_scale=scale)
                )
                for core in cores
            ]
            threads = QUERY_THREADS_PER_SLOT * sum(core.slots for core in cores) if make_scheduler else None
            kernel = EmbeddedKernel(servers, make_scheduler, threads, time_scale=scale)
            if router is not None:
                kernel.llm.router = router
            self._on_step(policy, 0, len(scenario.asked))
            with kernel:
                result = drive(policy, kernel, scenario.asked, log, partial(self._on_step, policy))
                use = [core_use(core, server) for core, server in zip(cores, servers, strict=True)]
                costs = [
                    log.cost_usd(record, {core.name: core for core in cores}) for record in scenario.asked
                ]
                return result.model_copy(update={"cores": use, "costs_usd": costs, **_decisions(kernel)})


def _run_all(
    config: EccosConfig, scenario: Scenario, on_step: OnStep
) -> tuple[RunResult, list[RunResult], RunResult]:
    """FIFO, the other policies, and ECCOS."""
    load = _Load(scenario, on_step)
    every = range(len(scenario.cores))
    # Both of AIOS's runs mostly sleep, so they run side by side, each over cores of its own.
    with ThreadPoolExecutor(2, thread_name_prefix="demo-run") as pool:
        fifo = pool.submit(load.run, "FIFO", every)
        smart = pool.submit(load.run, "SmartRouting", every, None, smart_routing(scenario))
        others = [smart.result()]
        first = fifo.result()
    on_step(f"ECCOS learns from {len(scenario.past)} records", 0, len(scenario.asked))
    for column in single_cores(scenario):
        name = scenario.cores[column].name
        others.append(load.run(f"all to {name}", [column], _scheduler(_alone(config, scenario, column))))
    return first, others, load.run("ECCOS", every, _scheduler(config))


def _scheduler(config: EccosConfig) -> Callable[..., EccosScheduler]:
    return partial(EccosScheduler, config=config, response=error_response)


def _alone(config: EccosConfig, scenario: Scenario, column: int) -> EccosConfig:
    """The same with one core in the manifest, which then gets every call."""
    manifest = config.manifest.with_name(ALONE_FILE)
    manifest.write_text(yaml.safe_dump({"cores": [_shown(scenario.cores[column])]}), encoding="utf-8")
    return config.model_copy(update={"manifest": manifest})


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
