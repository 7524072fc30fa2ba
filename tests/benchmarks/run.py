"""The experiments' command line: what each part of the package is worth, and what it costs.

python tests/benchmarks/run.py solver --size 1000x10
python tests/benchmarks/run.py soak --calls 2000 --json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli import options
from eccos_aios.cli.main import OneLineErrors
from eccos_aios.cli.progress import show_progress
from eccos_aios.cli.table import make_table, print_tables
from eccos_aios.core import Core, read_manifest
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import Record, read_history

if TYPE_CHECKING:
    from experiments.learning import LearnedOutcomes


@click.group("run.py", cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Experiments on the parts of eccos-aios; each prints a table, or one JSON object with --json."""


@contextmanager
def recorded(history: Path, cores: Path) -> Iterator[tuple[list[Record], tuple[Core, ...]]]:
    """The records and the cores; a ValueError about them becomes an error that names the file."""
    manifest, records = read_manifest(cores), read_history(history)
    try:
        yield records, manifest.cores
    except ValueError as error:
        raise HistoryError(str(history), "", ABSENT, str(error)) from error


@main.command("shared")
@click.argument(
    "what",
    type=click.Choice(
        [
            "overhead",
            "fairness",
            "kernels",
            "cost",
            "restart",
            "pause",
            "kill",
            "failover",
            "vanish",
            "handover",
            "full",
            "slow",
        ]
    ),
)
@click.option("--times", type=options.COUNT, default=5, show_default=True, help="Failures of a drill.")
@click.option("--calls", type=options.COUNT, default=1600, show_default=True, help="Of a run of cost.")
@click.option("--callers", type=click.IntRange(min=4), default=8, show_default=True, help="Likewise.")
@click.option(
    "--slower",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Likewise: factor on the 0.06 to 0.16 s that its cores take.",
)
@options.quality_target()
@options.seed()
def shared(
    what: str, times: int, calls: int, callers: int, slower: float, quality_target: float, seed: int
) -> None:
    """What do slots cost that several kernels share, and what do failures do to them? Starts redis-server.

    \b
    Example:
      python tests/benchmarks/run.py shared restart --times 20
      python tests/benchmarks/run.py shared cost --quality-target 0.6 --callers 64 --slower 10
    """
    from dataclasses import asdict

    from experiments.redis_failures import FAILURES, fail_under_load
    from experiments.shared_cost import compare_cost
    from experiments.shared_kernels import run_kernels
    from experiments.shared_slots import CORES, drill, measure_fairness, measure_overhead, redis_server

    with redis_server() as server:
        if what == "overhead":
            result: object = asdict(measure_overhead(server.url))
        elif what == "fairness":
            result = asdict(measure_fairness(server.url))
        elif what == "kernels":
            result = asdict(run_kernels(server.url, CORES, kernels=4, calls=2000))
        elif what == "cost":
            runs = compare_cost(server.url, calls, callers, quality_target, seed, slower)
            result = {name: asdict(run) for name, run in runs.items()}
        elif what in FAILURES:
            result = asdict(fail_under_load(what, times))
        else:
            result = asdict(drill(server, what, times))
    click.echo(json.dumps(result))


@main.command("plans")
@options.aios()
@click.option("--python", type=options.FILE, help="AIOS's interpreter.  [default: .venv/bin/python in it]")
@options.history()
@options.cores()
@click.option("--core", "names", multiple=True, required=True, help="A core to ask; repeatable.")
@click.option("--quota", type=options.COUNT, default=8, show_default=True, help="Of a core without one.")
@click.option("--calls", type=options.COUNT, default=600, show_default=True)
@click.option("--learned", type=options.COUNT, default=434, show_default=True, help="Records.")
@options.quality_target(default=0.9)
@options.seed()
@options.as_json()
def plans(
    aios: Path,
    python: Path | None,
    history: Path,
    cores: Path,
    names: tuple[str, ...],
    quota: int,
    calls: int,
    learned: int,
    quality_target: float,
    seed: int,
    as_json: bool,
) -> None:
    """What are plans worth in a real AIOS kernel, over cores that replay their recorded answers?

    \b
    Example:
      python tests/benchmarks/run.py plans --aios ~/AIOS --history tools.jsonl.gz --cores cores.yaml \\
        --core small --core medium --core large
    """
    from experiments.recorded_kernel import plans_bench, rows_as_json

    with recorded(history, cores) as (records, manifest), show_progress() as on_step:
        chosen = [
            core.model_copy(update={"quota": core.quota or quota}) for core in manifest if core.name in names
        ]
        rows = plans_bench(
            aios,
            python,
            records,
            chosen,
            learned=learned,
            calls=calls,
            quality_target=quality_target,
            seed=seed,
            on_step=on_step,
        )
    if as_json:
        click.echo(rows_as_json(rows))
        return
    table = make_table("mode", "right", "$ / 1,000", "requests", "most in flight", "accepted at first")
    for row in rows:
        accepted = "" if row.accepted_at_first_stage is None else f"{row.accepted_at_first_stage:.2f}"
        requests, most = (" ".join(map(str, counts.values())) for counts in (row.requests, row.max_in_flight))
        cost = f"{1000 * row.cost_usd / row.calls:.4f}"
        table.add_row(row.mode, f"{row.right:.4f}", cost, requests, most, accepted)
    print_tables(table)


@main.command("online")
@options.history()
@options.cores()
@click.option("--calls", type=options.COUNT, default=2000, show_default=True)
@click.option("--round-size", type=options.COUNT, default=4, show_default=True, help="Calls a round.")
@click.option(
    "--feedback",
    type=options.SHARE,
    default=1.0,
    show_default=True,
    help="Share of the calls whose real quality is reported.",
)
@options.seed()
@options.as_json()
def online(
    history: Path, cores: Path, calls: int, round_size: int, feedback: float, seed: int, as_json: bool
) -> None:
    """Does the quality target hold over time, with a predictor that is wrong by five points?

    Also what small rounds cost over the optimum of all calls at once: without a lasting price of quality, with
    one, and with one that past calls set before the first.

    \b
    Example:
      python tests/benchmarks/run.py online --history history.jsonl.gz --cores cores.yaml --round-size 1
      python tests/benchmarks/run.py online --history history.jsonl.gz --cores cores.yaml --feedback 0.2
    """
    from experiments.online import online_bench, rows_as_json

    with recorded(history, cores) as (records, manifest), show_progress() as on_step:
        rows = online_bench(records, manifest, calls, round_size, feedback, seed=seed, on_step=on_step)
    if as_json:
        click.echo(rows_as_json(rows))
        return
    table = make_table("target", "bias", "price", "delivered", "error, points", "US dollars", "/ optimum")
    for row in rows:
        error = f"{100 * (row.delivered - row.target):+.2f}"
        price = "a round's" if not row.lasting_price else "from past calls" if row.primed else "lasting"
        ratio = row.cost_usd / row.least_usd
        figures = [f"{row.delivered:.4f}", error, f"{row.cost_usd:.4f}", f"{ratio:.2f}"]
        table.add_row(f"{row.target:.4f}", f"{row.bias:+.2f}", price, *figures)
    print_tables(table)


@main.command("learning")
@options.history()
@options.cores()
@click.option("--learned", type=options.COUNT, default=2000, show_default=True, help="Calls before.")
@click.option("--measured", type=options.COUNT, default=1000, show_default=True, help="Calls after.")
@click.option(
    "--outcomes",
    type=click.Choice(["all", "chosen"]),
    multiple=True,
    default=("all", "chosen"),
    show_default=True,
    help="Outcomes learned from a call: every core's, as collect records, or the chosen core's.",
)
@options.quality_targets(help="Mean quality to reach; repeatable.  [default: three, from easy to hard]")
@click.option(
    "--exploration",
    type=options.SHARE,
    default=0.05,
    show_default=True,
    help="Share of the calls that may explore where only the chosen core's outcome is learned.",
)
@options.seed()
@options.as_json()
def learning(
    history: Path,
    cores: Path,
    learned: int,
    measured: int,
    outcomes: tuple[LearnedOutcomes, ...],
    targets: tuple[float, ...],
    exploration: float,
    seed: int,
    as_json: bool,
) -> None:
    """From an empty history: how soon is ECCOS as good as with a complete one? And when a core degrades?

    Calls are replayed in a random order. After the first ones (--learned), quality is compared with that of
    a predictor that was fitted on all other recorded outcomes, on the same calls at the same cost. Then the
    core that served most gives half its quality.

    \b
    Example:
      python tests/benchmarks/run.py learning --history history.jsonl.gz --cores cores.yaml --outcomes chosen
    """
    from experiments.learning import learning_bench, rows_as_json, rows_as_table

    with recorded(history, cores) as (records, manifest), show_progress() as on_step:
        rows = learning_bench(
            records,
            manifest,
            learned,
            measured,
            exploration=exploration,
            outcomes=outcomes,
            targets=targets,
            seed=seed,
            on_step=on_step,
        )
    if as_json:
        click.echo(rows_as_json(rows))
    else:
        print_tables(rows_as_table(rows))


@main.command("decisions")
@options.history(help="Recorded outcomes, with latencies.")
@options.cores()
@click.option("--calls", type=click.IntRange(1, 1000), default=300, show_default=True, help="Of each load.")
@options.callers(default=(1, 16))
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0),
    default=0.02,
    show_default=True,
    help="Factor on the recorded latencies during the replay; 1: as long as recorded.",
)
@options.quality_target()
@options.as_json()
def decisions(
    history: Path,
    cores: Path,
    calls: int,
    callers: tuple[int, ...],
    time_scale: float,
    quality_target: float,
    as_json: bool,
) -> None:
    """How long the scheduler takes to decide a call, beside the recorded time of the calls.

    The history is split by query: one part is fitted on, the other is replayed through the scheduler, each
    call taking its recorded time. The last row is of rounds over 1,000 pending calls and 16 cores.

    \b
    Example:
      python tests/benchmarks/run.py decisions --history history.jsonl.gz --cores cores.yaml --callers 64
    """
    from experiments.decisions import decisions_bench, rows_as_json

    with recorded(history, cores) as (records, manifest), show_progress() as on_step:
        rows = decisions_bench(records, manifest, calls, callers, time_scale, quality_target, on_step=on_step)
    if as_json:
        click.echo(rows_as_json(rows, time_scale))
        return
    table = make_table("load", "cores", "calls", "decision ms", "p50", "p99", "response s", "share")
    for row in rows:
        figures = [row.decision_ms_mean, row.decision_ms_p50, row.decision_ms_p99]
        table.add_row(
            f"{row.callers} callers" if row.load == "replay" else f"{row.callers} pending",
            str(row.cores),
            str(row.calls),
            *(f"{figure:.3f}" for figure in figures),
            f"{row.response_s / row.calls:.3f}",
            f"{row.share:.4%}",
        )
    print_tables(table, f"recorded latencies were scaled by {time_scale:g}")


@main.command("solver")
@click.option("--size", "sizes", multiple=True, help="Calls x cores, as 1000x10; repeatable.")
@click.option("--seeds", type=options.COUNT, default=1, show_default=True, help="Problems of a kind.")
@options.as_json()
def solver(sizes: tuple[str, ...], seeds: int, as_json: bool) -> None:
    """Stage 2 on seeded problems beside the full LP, MILP and CBC where it is installed, in one run.

    \b
    Example:
      python tests/benchmarks/run.py solver --size 1000x10 --size 100000x32 --json
    """
    from experiments.solver import SIZES, rows_as_json, rows_as_table, solver_bench

    wanted = [_size(text) for text in sizes] or SIZES
    with show_progress() as on_step:
        rows = solver_bench(wanted, seeds=range(seeds), on_step=on_step)
    if as_json:
        click.echo(rows_as_json(rows))
    else:
        print_tables(rows_as_table(rows))


def _size(text: str) -> tuple[int, int]:
    calls, _, cores = text.partition("x")
    if not (calls.isdecimal() and cores.isdecimal() and int(calls) and int(cores)):
        raise click.BadParameter(f"{text!r} is not calls x cores, as 1000x10", param_hint="--size")
    return int(calls), int(cores)


@main.command("history")
@click.option("--records", type=click.IntRange(min=256), default=1_000_000, show_default=True)
@click.option(
    "--dimensions",
    type=click.IntRange(min=2),
    default=256,
    show_default=True,
    help="Of the vectors: half for the query, half for the tools.",
)
@options.seed()
@options.out_folder(help="Folder for history.json, and for temporary files during the run.")
@options.as_json()
def history_command(records: int, dimensions: int, seed: int, out: Path | None, as_json: bool) -> None:
    """How large a history may grow: generated records into a store, a fit on it, a fresh process on both.

    A million records take some ten minutes and, during the run, 2 GB of disk.

    \b
    Example:
      python tests/benchmarks/run.py history --records 100000 --json
    """
    from experiments.history import history_bench, shown_figures

    if dimensions % 2:
        raise click.BadParameter(f"{dimensions} is not even", param_hint="--dimensions")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with show_progress() as on_step:
        result = history_bench(records, dimensions, out, seed=seed, on_step=on_step)
    if out is not None:
        (out / "history.json").write_text(result.as_json() + "\n", encoding="utf-8")
    if as_json:
        click.echo(result.as_json())
    else:
        print_tables(shown_figures(result))


@main.command("soak")
@click.option("--calls", type=options.COUNT, default=20_000, show_default=True)
@click.option("--callers", type=options.COUNT, default=48, show_default=True, help="Concurrent agents.")
@click.option(
    "--share",
    type=options.SHARE,
    default=0.2,
    show_default=True,
    help="Share of a faulty core's requests that fail.",
)
@options.as_json()
def soak_command(calls: int, callers: int, share: float, as_json: bool) -> None:
    """Many calls on the embedded kernel, over cores that fail in every way, with refreshes.

    Exits with 1 where a call was lost, a quota was exceeded or a thread was left.

    \b
    Example:
      python tests/benchmarks/run.py soak --calls 2000 --json
    """
    from experiments.soak import soak

    with show_progress() as on_step:
        result = soak(calls, callers, share, lambda answered: on_step("calls", answered, calls))
    if as_json:
        click.echo(result.as_json())
    else:
        for name, value in json.loads(result.as_json()).items():
            click.echo(f"{name.replace('_', ' '):15} {value}")
    if result.answered != calls or result.over_quota or result.threads_left:
        sys.exit(1)


if __name__ == "__main__":
    main()
