"""``eccos-aios bench`` without a subcommand: the replay of recorded outcomes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from eccos_aios.errors import ABSENT, HistoryError


def run_replay(
    history: Path,
    cores: Path,
    folds: int,
    policies: Sequence[str] | None,
    out: Path,
    *,
    seed: int = 0,
    skip_bad_records: bool = False,
    as_json: bool = False,
) -> None:
    """Read, replay, write the report to `out`, and print it.

    Raises
    ------
    HistoryError, ConfigError
        A file is wrong, or does not suit the folds, the manifest or the policies.
    """
    from rich.console import Console

    from eccos_aios.bench.replay import replay_history
    from eccos_aios.bench.report import headline_table, policy_table, results_of, write_report
    from eccos_aios.core import read_manifest
    from eccos_aios.history import ReadReport, read_history

    manifest = read_manifest(cores)
    report = ReadReport()
    records = read_history(history, skip_bad_records=skip_bad_records, report=report)
    if report.faults:
        click.echo(f"{history}: left out {len(report.faults)} bad records", err=True)
    try:
        with _bar() as on_step:
            played = replay_history(
                records, manifest.cores, folds, policies or None, seed=seed, on_step=on_step
            )
    except ValueError as error:
        raise HistoryError(str(history), "", ABSENT, str(error)) from error
    results = results_of(played)
    written = write_report(results, out)
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
        return
    console = Console()
    console.print(policy_table(results))
    console.print(headline_table(results))
    console.print("wrote " + ", ".join(str(path) for path in written))
    if len(written) == 1:
        console.print("no plots: they need matplotlib, pip install 'eccos-aios\\[plot]'")


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading")
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)
