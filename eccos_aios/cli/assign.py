"""The ``assign`` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eccos_aios.cli import options
from eccos_aios.cli.native_stderr import native_stderr_held_back
from eccos_aios.cli.progress import show_progress
from eccos_aios.errors import ABSENT, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from eccos_aios.plans import Mode
    from eccos_aios.predict import PredictorSpec


@click.command("assign")
@options.history()
@options.cores()
@click.option("--queries", required=True, help="JSON lines or Parquet with id, and query or messages.")
@options.quality_targets()
@click.option(
    "--budget",
    "budgets",
    type=click.FloatRange(min=0),
    multiple=True,
    help="US dollars that the batch may cost, at best quality: in place of a target, or beside it.",
)
@click.option("--estimates", is_flag=True, help="Write every core's estimates with each line.")
@options.plans(help="Let plans of several cores answer a query.")
@options.max_calls()
@options.predictor
@options.skip_bad_records()
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: on the cluster at RAY_ADDRESS, or all CPUs of this machine.",
)
@click.option("--out", required=True, help="Output file: one line per query and target.")
@options.as_json()
def assign(
    history: Path,
    cores: Path,
    queries: str,
    targets: tuple[float, ...],
    budgets: tuple[float, ...],
    estimates: bool,
    plans: Mode,
    max_calls: float,
    spec: PredictorSpec,
    skip_bad_records: bool,
    engine: str,
    out: str,
    as_json: bool,
) -> None:
    """Route a batch of queries offline, once per quality target or budget.

    A core's quota in the manifest is the number of queries of the batch that it may take; a core without
    one is unlimited. Where every quota is taken, a query's core is null.

    Queries and output may be Parquet: the output where its name ends in .parquet.

    With --engine ray, queries are a file or a folder of files that all nodes can read, by path or address
    (s3://…). An output without a suffix is a folder of files, numbered in input order, that the workers
    write in the format of the queries; one that ends in .jsonl or .parquet is one file.

    With --plans, a line's plan names the cores to ask: check, a core and another where its answer fails its
    checks; agree, two cores and a third or fourth where they disagree. A quota then limits how often a
    core is expected to be asked.

    \b
    Examples:
      eccos-aios assign --history history.jsonl.gz --cores cores.yaml \\
        --queries queries.jsonl --quality-target 0.8 --out routes.jsonl
      eccos-aios assign --history history.jsonl.gz --cores cores.yaml \\
        --queries queries.jsonl --quality-target 0.7 --quality-target 0.9 \\
        --estimates --out routes.jsonl --json
      eccos-aios assign --engine ray --history history.jsonl.gz \\
        --cores cores.yaml --queries s3://bucket/queries \\
        --quality-target 0.8 --out s3://bucket/routes
    """
    if not targets and not budgets:
        raise click.UsageError("missing option --quality-target (or --budget)", click.get_current_context())
    if engine == "ray" and plans != "off":
        raise click.UsageError("--plans needs --engine local", click.get_current_context())
    if "://" not in out:
        _require_writable(Path(out), folder=engine == "ray")
    with _ray_kept_off_output() if engine == "ray" else nullcontext(), show_progress() as on_step:
        on_step("starting")
        from eccos_aios.history import ReadReport

        report = ReadReport()
        if engine == "ray":
            from eccos_aios.batch.ray_engine import RayJob, assign_on_ray

            job = RayJob(
                history,
                cores,
                queries,
                targets,
                out,
                budgets,
                spec,
                with_estimates=estimates,
                skip_bad_records=skip_bad_records,
            )
            parted = assign_on_ray(job, report, on_step)
            told, refused, first_refused = parted.summary(), parted.refused, parted.first_refused
        else:
            from eccos_aios.batch import assign_files, summary, write_file

            batch = assign_files(
                history,
                cores,
                Path(queries),
                targets,
                budgets=budgets,
                predictor=spec.make(),
                plans=plans,
                max_calls=max_calls,
                skip_bad_records=skip_bad_records,
                report=report,
                on_step=on_step,
            )
            try:
                write_file(batch, Path(out), with_estimates=estimates)
            except OSError as error:
                raise InputError(out, "", ABSENT, f"cannot be written: {error.strerror}") from error
            told, refused, first_refused = summary(batch), len(batch.refused), (*batch.refused, None)[0]
    from eccos_aios.cli.table import note_fault_count, note_faults

    note_faults(report.faults, "bad records left out")
    if refused:
        note_fault_count(refused, first_refused, "queries that no core may take")
    if as_json:
        click.echo(json.dumps(told))
    else:
        _print_routes(told)


@contextmanager
def _ray_kept_off_output() -> Iterator[None]:
    """Ray prints to standard output that a worker has died, whatever it is told to log."""
    with native_stderr_held_back(), redirect_stdout(sys.stderr):
        yield


def _require_writable(out: Path, *, folder: bool) -> None:
    """Refuse at once an output that could not be written after minutes of work.

    With `folder` it may be a folder, which is made with those above it, see `RayJob.out`.
    """
    if folder and not out.suffix:
        return
    if out.is_dir():
        raise InputError(str(out), "", ABSENT, "cannot be written: is a folder")
    if not out.parent.is_dir():
        raise InputError(str(out), "", ABSENT, f"cannot be written: there is no folder {out.parent}")
    if out.suffix == ".parquet":
        from eccos_aios.batch.parquet import require_pyarrow

        require_pyarrow()


def _print_routes(told: dict[str, Any]) -> None:
    from eccos_aios.cli.table import figure, make_table, print_tables

    targets = told["targets"]
    figures = make_table("asked for", "reached", "predicted quality", "US dollars", "gap to the bound")
    counts = make_table("core", *(f"at {_asked_for(target)}" for target in targets))
    for target in targets:
        figures.add_row(
            _asked_for(target),
            "yes" if target["met"] else "no",
            figure(target["predicted_quality"], ".3f"),
            figure(target["predicted_cost"], ".6f"),
            figure(target["gap"], ".2%"),
        )
    cores = list(targets[0]["per_core"])
    for core in cores:
        counts.add_row(core, *(str(target["per_core"][core]) for target in targets))
    steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in told["seconds"].items())
    tables = [figures, counts, *([_plan_counts(targets)] if "per_plan" in targets[0] else [])]
    print_tables(f"{told['queries']} queries over {len(cores)} cores", *tables, steps)


def _plan_counts(targets: list[dict[str, Any]]) -> Table:
    """Queries by plan, and the mean number of cores that are expected to be asked."""
    from eccos_aios.cli.table import figure, make_table

    table = make_table("plan", *(f"at {_asked_for(target)}" for target in targets))
    for name in dict.fromkeys(name for target in targets for name in target["per_plan"]):
        table.add_row(name, *(str(target["per_plan"].get(name, 0)) for target in targets))
    table.add_row("cores asked per query", *(figure(target["calls_per_query"], ".2f") for target in targets))
    return table


def _asked_for(target: dict[str, Any]) -> str:
    return f"${target['budget_usd']:g}" if "budget_usd" in target else f"{target['quality_target']:g}"
