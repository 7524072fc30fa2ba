"""The demo: FIFO, as AIOS schedules today, against ECCOS on the same questions and cores."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eccos_aios.collect.generated import GeneratedQuestion, make_questions
from eccos_aios.config import EccosConfig
from eccos_aios.demo.cast import PLAYERS, manifest, record
from eccos_aios.demo.load import core_use, cost_usd, drive
from eccos_aios.demo.plot import draw
from eccos_aios.demo.result import THOUSAND, Alone, DemoResult, RunResult
from eccos_aios.demo.table import print_result
from eccos_aios.errors import ABSENT, InputError
from eccos_aios.history import Record
from eccos_aios.hooks import EccosScheduler
from eccos_aios.sandbox import EmbeddedKernel, Replay, SandboxCore, error_response
from eccos_aios.version import __version__

DEFAULT_QUESTIONS = 108
DEFAULT_HISTORY = 480  # records; twenty of each kind of question
QUALITY_TARGET = 0.85
CALLERS = 12  # agents at once
QUERY_THREADS_PER_SLOT = 4  # as the hooks size AIOS's own pool

CORES_FILE = "cores.yaml"
HISTORY_FILE = "history.jsonl.gz"
QUERIES_FILE = "questions.jsonl"
RESULTS_FILE = "results.json"
PLOT_FILE = "demo.png"


def run_demo(
    out: Path,
    *,
    questions: int = DEFAULT_QUESTIONS,
    history: int = DEFAULT_HISTORY,
    seed: int = 0,
    console: Console | None = None,
) -> DemoResult:
    """Make cores, questions and a history, run both schedulers, print and write what came out.

    Parameters
    ----------
    out : Path
        Folder for the manifest, the history, the questions, ``results.json`` and the plot; made where
        it is not there.
    questions : int
        Questions that are asked, at least 1.
    history : int
        Recorded questions that ECCOS learns from, none of them among those that are asked.
    seed : int
        Of questions, answers and latencies.
    console : rich.console.Console, optional
        Where the table goes. Default: nowhere.

    Raises
    ------
    InputError
        `out` cannot be written.
    """
    start = time.perf_counter()
    console = console or Console(quiet=True)
    every = _mixed(make_questions(questions + history, seed), questions, seed)
    records = [record(question, position, seed) for position, question in enumerate(every)]
    past, asked = records[questions:], records[:questions]
    config = _write_inputs(out, past, asked)
    with _progress(console) as progress:
        fifo, eccos = _both(config, every[:questions], asked, progress)
    result = DemoResult(
        version=__version__,
        seed=seed,
        questions=questions,
        history=history,
        callers=CALLERS,
        quality_target=QUALITY_TARGET,
        fifo=fifo,
        eccos=eccos,
        alone=_alone(asked),
        out=str(out),
        plot=None,
        seconds=0.0,
    )
    drawn = draw(result, out / PLOT_FILE)
    result = result.model_copy(
        update={"plot": str(drawn) if drawn else None, "seconds": time.perf_counter() - start}
    )
    (out / RESULTS_FILE).write_text(json.dumps(result.as_json(), indent=2) + "\n", encoding="utf-8")
    print_result(result, console)
    return result


def _mixed(every: Sequence[GeneratedQuestion], asked: int, seed: int) -> list[GeneratedQuestion]:
    """In random order, but the first `asked` stay the first, so that they are of all kinds alike."""
    rng = random.Random(f"order {seed}")
    return rng.sample(every[:asked], asked) + rng.sample(every[asked:], len(every) - asked)


def _write_inputs(out: Path, past: Sequence[Record], asked: Sequence[Record]) -> EccosConfig:
    content = manifest().model_dump(include={"cores": {"__all__": {"name", "quota", "price"}}})
    try:
        out.mkdir(parents=True, exist_ok=True)
        content["cores"] = list(content["cores"])
        (out / CORES_FILE).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        with gzip.open(out / HISTORY_FILE, "wt", encoding="utf-8") as file:
            file.writelines(record.model_dump_json(exclude_none=True) + "\n" for record in past)
        with (out / QUERIES_FILE).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": r.id, "query": r.query}) + "\n" for r in asked)
    except OSError as error:
        raise InputError(str(out), "", ABSENT, f"cannot be written: {error.strerror}") from error
    return EccosConfig(manifest=out / CORES_FILE, history=out / HISTORY_FILE, quality_target=QUALITY_TARGET)


def _both(
    config: EccosConfig, questions: Sequence[GeneratedQuestion], asked: Sequence[Record], progress: Progress
) -> tuple[RunResult, RunResult]:
    cores = manifest().cores
    with ExitStack() as stack:
        servers = [stack.enter_context(SandboxCore(core.name, Replay(asked, core.name))) for core in cores]

        def run(policy: str, kernel: EmbeddedKernel) -> RunResult:
            for server in servers:
                server.reset_counts()
            task = progress.add_task(policy, total=len(questions))
            with kernel:
                result = drive(policy, kernel, questions, CALLERS, partial(progress.advance, task))
                use = [core_use(core, server) for core, server in zip(cores, servers, strict=True)]
                return result.model_copy(update={"cores": use, **_decisions(kernel)})

        fifo = run("FIFO", EmbeddedKernel(servers))
        make_scheduler: Callable[..., EccosScheduler] = partial(
            EccosScheduler, config=config, response=error_response
        )
        threads = QUERY_THREADS_PER_SLOT * sum(core.slots for core in cores)
        eccos = run("ECCOS", EmbeddedKernel(servers, make_scheduler, query_threads=threads))
    return fifo, eccos


def _decisions(kernel: EmbeddedKernel) -> dict[str, float]:
    if not isinstance(kernel.scheduler, EccosScheduler):
        return {}
    totals = kernel.scheduler.status()["totals"]
    return {key: totals[key] for key in ("predicted_quality", "decision_ms_p50", "decision_ms_p99")}  # type: ignore[index]


def _alone(asked: Sequence[Record]) -> list[Alone]:
    outcomes = zip(*(record.outputs for record in asked), strict=True)
    return [
        Alone(
            name=player.core.name,
            accuracy=float(np.mean([outcome.graded_quality for outcome in of_core])),
            cost_usd_per_1000=THOUSAND
            * float(
                np.mean(
                    [
                        cost_usd(player.core, o.input_token_length or 0, o.output_token_length or 0)
                        for o in of_core
                    ]
                )
            ),
        )
        for player, of_core in zip(PLAYERS, outcomes, strict=True)
    ]


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description:>5}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress
