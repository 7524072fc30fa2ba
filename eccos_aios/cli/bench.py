"""The ``bench`` commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from eccos_aios.cli.bench_kernel import kernel
from eccos_aios.cli.bench_learning import learning
from eccos_aios.cli.progress import shown_steps

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)


@click.group("bench", invoke_without_command=True)
@click.option("--history", type=FILE, help="Recorded outcomes: .json, .jsonl, .jsonl.gz or a store.")
@click.option("--cores", type=FILE, help="The core manifest (YAML).")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--policies", help="Names with commas between.  [default: all]")
@click.option("--out", type=FOLDER, help="Folder for results.json and the plots.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the folds.")
@click.option("--skip-bad-records", is_flag=True, help="Count and report bad records of the history; go on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@click.pass_context
def bench(
    context: click.Context,
    history: Path | None,
    cores: Path | None,
    folds: int,
    policies: str | None,
    out: Path | None,
    seed: int,
    skip_bad_records: bool,
    as_json: bool,
) -> None:
    """Measure ECCOS against what it replaces: replay recorded outcomes under every policy.

    The history is split into folds by query; each fold is placed by what the others taught. Policies:
    eccos, eccos-r, eccos-t, smart (AIOS SmartRouting), first, random, balance, length, cheapest,
    best-single, knn-argmax, oracle; each without quotas and with quotas in proportion to the manifest's.

    \b
    Examples:
      eccos-aios bench --history history.jsonl.gz --cores cores.yaml --out results
      eccos-aios bench kernel --aios ~/AIOS
      eccos-aios bench history --records 100000
    """
    if context.invoked_subcommand is not None:
        return
    if history is None or cores is None or out is None:
        missing = [
            name for name, value in (("history", history), ("cores", cores), ("out", out)) if value is None
        ]
        raise click.UsageError(f"missing option --{missing[0]}", context)
    from eccos_aios.cli.bench_replay import run_replay

    names = [name.strip() for name in policies.split(",") if name.strip()] if policies else None
    run_replay(
        history, cores, folds, names, out, seed=seed, skip_bad_records=skip_bad_records, as_json=as_json
    )


bench.add_command(kernel)
bench.add_command(learning)


@bench.command("online")
@click.option("--history", type=FILE, required=True, help="Recorded outcomes.")
@click.option("--cores", type=FILE, required=True, help="The core manifest (YAML).")
@click.option("--calls", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--round-size", type=click.IntRange(min=1), default=4, show_default=True, help="Calls a round.")
@click.option(
    "--feedback",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Part of the calls whose real quality is told.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def online(
    history: Path, cores: Path, calls: int, round_size: int, feedback: float, seed: int, as_json: bool
) -> None:
    """Does the quality target hold over time, with a predictor that is wrong by five points?

    \b
    Examples:
      eccos-aios bench online --history history.jsonl.gz --cores cores.yaml
      eccos-aios bench online --history history.jsonl.gz --cores cores.yaml --feedback 0.2 --json
    """
    from eccos_aios.bench.online import online_bench, rows_as_json
    from eccos_aios.core import read_manifest
    from eccos_aios.errors import ABSENT, HistoryError
    from eccos_aios.history import read_history

    manifest, records = read_manifest(cores), read_history(history)
    with shown_steps() as on_step:
        try:
            rows = online_bench(
                records, manifest.cores, calls, round_size, feedback, seed=seed, on_step=on_step
            )
        except ValueError as error:
            raise HistoryError(str(history), "", ABSENT, str(error)) from error
    if as_json:
        click.echo(rows_as_json(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("target", "bias", "delivered", "off by, points in 100", "US dollars", box=None)
    for row in rows:
        off = f"{100 * (row.delivered - row.target):+.2f}"
        table.add_row(
            f"{row.target:.4f}", f"{row.bias:+.2f}", f"{row.delivered:.4f}", off, f"{row.cost_usd:.4f}"
        )
    Console().print(table)


@bench.command("decisions")
@click.option("--history", type=FILE, required=True, help="Recorded outcomes, with latencies.")
@click.option("--cores", type=FILE, required=True, help="The core manifest (YAML).")
@click.option("--calls", type=click.IntRange(1, 1000), default=300, show_default=True, help="Of each load.")
@click.option(
    "--callers",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 16),
    show_default=True,
    help="Agents that call at once; repeat it for several loads.",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0),
    default=0.02,
    show_default=True,
    help="Factor on the recorded latencies while they are waited for; 1: as long as recorded.",
)
@click.option("--quality-target", type=click.FloatRange(0, 1), default=0.8, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def decisions(
    history: Path,
    cores: Path,
    calls: int,
    callers: tuple[int, ...],
    time_scale: float,
    quality_target: float,
    as_json: bool,
) -> None:
    """How long the clockwork takes to decide a call, beside the recorded time of the calls.

    The history is split by query: a part is learned from, the rest is replayed through the scheduler, each
    call taking its recorded time. The last row is of rounds over 1,000 pending calls and 16 cores.

    \b
    Examples:
      eccos-aios bench decisions --history history.jsonl.gz --cores cores.yaml
      eccos-aios bench decisions --history history.jsonl.gz --cores cores.yaml --callers 64 --time-scale 1
    """
    from eccos_aios.bench.decisions import decisions_bench, rows_as_json
    from eccos_aios.core import read_manifest
    from eccos_aios.errors import ABSENT, HistoryError
    from eccos_aios.history import read_history

    manifest, records = read_manifest(cores), read_history(history)
    with shown_steps() as on_step:
        try:
            rows = decisions_bench(
                records, manifest.cores, calls, callers, time_scale, quality_target, on_step=on_step
            )
        except ValueError as error:
            raise HistoryError(str(history), "", ABSENT, str(error)) from error
    if as_json:
        click.echo(rows_as_json(rows, time_scale))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("load", "cores", "calls", "decision ms", "p50", "p99", "response s", "share", box=None)
    for row in rows:
        load = f"{row.callers} callers" if row.load == "replay" else f"{row.callers} pending"
        figures = [row.decision_ms_mean, row.decision_ms_p50, row.decision_ms_p99]
        table.add_row(
            load,
            str(row.cores),
            str(row.calls),
            *(f"{figure:.3f}" for figure in figures),
            f"{row.response_s / row.calls:.3f}",
            f"{row.share:.4%}",
        )
    Console().print(table)
    click.echo(f"recorded latencies were waited for at {time_scale:g} of their length")


@bench.command("solver")
@click.option("--size", "sizes", multiple=True, help="Calls x cores, as 1000x10; repeatable.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Problems of a kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def solver(sizes: tuple[str, ...], seeds: int, as_json: bool) -> None:
    """Stage 2 on seeded problems beside the full LP, MILP and CBC where it is installed, in one run.

    \b
    Examples:
      eccos-aios bench solver
      eccos-aios bench solver --size 1000x10 --size 100000x32 --json
    """
    from eccos_aios.bench.solver import SIZES, rows_as_json, rows_as_table, solver_bench

    wanted = [_size(text) for text in sizes] or SIZES
    with shown_steps() as on_step:
        rows = solver_bench(wanted, seeds=range(seeds), on_step=on_step)
    if as_json:
        click.echo(rows_as_json(rows))
    else:
        from rich.console import Console

        Console().print(rows_as_table(rows))


def _size(text: str) -> tuple[int, int]:
    calls, _, cores = text.partition("x")
    if not (calls.isdecimal() and cores.isdecimal() and int(calls) and int(cores)):
        raise click.BadParameter(f"{text!r} is not calls x cores, as 1000x10", param_hint="--size")
    return int(calls), int(cores)


@bench.command("history")
@click.option("--records", type=click.IntRange(min=256), default=1_000_000, show_default=True)
@click.option(
    "--dimensions",
    type=click.IntRange(min=2),
    default=256,
    show_default=True,
    help="Of the vectors: half for the query, half for the tools.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=FOLDER, help="Folder for history.json; the files lie there meanwhile.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def history_command(records: int, dimensions: int, seed: int, out: Path | None, as_json: bool) -> None:
    """How large a history may grow: generated records into a store, a fit on it, a fresh process on both.

    A million records take some ten minutes and 2 GB of disk, which are given back.

    \b
    Examples:
      eccos-aios bench history
      eccos-aios bench history --records 100000 --json
    """
    from eccos_aios.bench.history import history_bench, shown_figures

    if dimensions % 2:
        raise click.BadParameter(f"{dimensions} is not even", param_hint="--dimensions")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with shown_steps() as on_step:
        result = history_bench(records, dimensions, out, seed=seed, on_step=on_step)
    if out is not None:
        (out / "history.json").write_text(result.as_json() + "\n", encoding="utf-8")
    if as_json:
        click.echo(result.as_json())
    else:
        from rich.console import Console

        Console().print(shown_figures(result))


@bench.command("soak")
@click.option("--calls", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--callers", type=click.IntRange(min=1), default=48, show_default=True, help="Agents at once.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Part of a troubled core's requests that fail.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def soak_command(calls: int, callers: int, share: float, as_json: bool) -> None:
    """Many calls on the embedded kernel, over cores that fail in every way, with refreshes.

    Exits with 1 where a call was lost, a quota was broken or a thread was left.

    \b
    Examples:
      eccos-aios bench soak
      eccos-aios bench soak --calls 2000 --json
    """
    from eccos_aios.bench.soak import soak

    with shown_steps() as on_step:
        result = soak(calls, callers, share, lambda answered: on_step(f"{answered} of {calls} calls"))
    if as_json:
        click.echo(result.as_json())
    else:
        for name, value in json.loads(result.as_json()).items():
            click.echo(f"{name.replace('_', ' '):15} {value}")
    if result.answered != calls or result.over_quota or result.threads_left:
        sys.exit(1)
