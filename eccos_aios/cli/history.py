"""The ``history`` command: a store's contents."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from eccos_aios.history import StoreStats

FILE = click.Path(path_type=Path)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
store_argument = click.argument("store", type=FILE)


@click.group("history")
def history() -> None:
    """A store's contents: import, export, stats.

    A store keeps a history in one file that running kernels add to.

    \b
    Examples:
      eccos-aios history import history.db history.jsonl.gz
      eccos-aios history stats history.db
      eccos-aios history export history.db --out history.jsonl.gz
    """


@history.command("import")
@store_argument
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option(
    "--store-text/--no-store-text",
    default=True,
    show_default=True,
    help="Keep what was asked and answered, or only hash, lengths and an embedding to learn from.",
)
@click.option("--skip-bad-records", is_flag=True, help="Count and report bad records; go on.")
@as_json_option
def import_(
    store: Path, files: tuple[Path, ...], store_text: bool, skip_bad_records: bool, as_json: bool
) -> None:
    """Add the records of FILES to STORE, which is made where it is absent.

    FILES are .json, .jsonl, .jsonl.gz or other stores. A record that STORE holds already is not added
    again: it is told by its id, or by its content where it has none. A bad record stops the import; of
    what came before it some may be stored, and once it is mended the same command adds the rest.

    \b
    Examples:
      eccos-aios history import history.db history.jsonl.gz
      eccos-aios history import history.db monday.jsonl tuesday.jsonl --json
      eccos-aios history import history.db history.jsonl --no-store-text
    """
    from eccos_aios.history import Added, HistoryStore, ReadReport, import_history
    from eccos_aios.predict import embedding_of

    for file in files:
        if _is_absent(store):  # one that is made for nothing would stay behind, empty
            _require_readable(file)
        _require_content(file)
    report = ReadReport()
    added = Added()
    with HistoryStore(store, store_text=store_text, embed=embedding_of) as kept:
        for file in files:
            with _progress(f"importing {file.name}") as on_progress:
                added += import_history(
                    kept, file, skip_bad_records=skip_bad_records, report=report, on_progress=on_progress
                )
    if report.faults:
        click.echo(f"bad records left out: {len(report.faults)}, the first: {report.faults[0]}", err=True)
    if as_json:
        click.echo(json.dumps({"store": str(store), **asdict(added), "bad_records": len(report.faults)}))
        return
    click.echo(f"{added.stored} records added to {store}, {added.duplicates} were in it already")
    if added.conflicts:
        click.echo(f"{added.conflicts} of them have other content under the same id: what came first stays")


@history.command("export")
@store_argument
@click.option("--out", type=FILE, required=True, help="Where the lines go; gzipped where it ends with .gz.")
@as_json_option
def export(store: Path, out: Path, as_json: bool) -> None:
    """Write what predictors learn from in STORE as JSON lines, one record each.

    These are its records, and the calls of running kernels whose quality is known.

    \b
    Examples:
      eccos-aios history export history.db --out history.jsonl
      eccos-aios history export history.db --out history.jsonl.gz --json
    """
    from eccos_aios.history import HistoryStore, export_history

    _require_content(store)
    with _progress(f"exporting {store.name}") as on_progress:
        exported = export_history(HistoryStore(store, read_only=True), out, on_progress=on_progress)
    if as_json:
        click.echo(json.dumps({"out": str(out), **asdict(exported)}))
        return
    click.echo(f"{exported.records} records written to {out}")
    if exported.ungraded_calls:
        click.echo(
            f"{exported.ungraded_calls} calls stay behind: nobody has said how good their answers were"
        )


@history.command("stats")
@store_argument
@as_json_option
def stats(store: Path, as_json: bool) -> None:
    """Tell what STORE holds: records, calls of running kernels, and figures per core.

    Means are over the outcomes where the figure is known.

    \b
    Examples:
      eccos-aios history stats history.db
      eccos-aios history stats history.db --json
    """
    from eccos_aios.history import HistoryStore

    _require_content(store)
    figures = HistoryStore(store, read_only=True).stats()
    if as_json:
        click.echo(json.dumps({"store": str(store), **asdict(figures)}))
    else:
        _print_stats(store, figures)


def _is_absent(store: Path) -> bool:
    try:
        return not store.exists()
    except OSError:  # out of reach, which whoever opens it says
        return False


def _require_readable(file: Path) -> None:
    from eccos_aios.errors import ABSENT, HistoryError

    try:
        file.open("rb").close()
    except OSError as error:
        raise HistoryError(str(file), "", ABSENT, f"cannot be read: {error.strerror}") from error


def _require_content(file: Path) -> None:
    """Refuse an empty file as a store: what was cut off at nothing would pass for one that holds nothing."""
    from eccos_aios.errors import ABSENT, HistoryError
    from eccos_aios.history.schema import is_store

    try:
        empty = is_store(file) and file.is_file() and not file.stat().st_size
        written = any(file.with_name(file.name + suffix).exists() for suffix in ("-wal", "-journal"))
    except OSError as error:
        raise HistoryError(str(file), "", ABSENT, f"cannot be read: {error.strerror}") from error
    if empty and not written:
        raise HistoryError(str(file), "", ABSENT, "is empty, and no history store")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what.replace("[", r"\["), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print_stats(store: Path, figures: StoreStats) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(markup=False)
    click.echo(
        f"{store}: {figures.records} records; {figures.calls} calls, {figures.graded_calls} of known "
        f"quality; {figures.without_text} without text; {figures.size_bytes / 2**20:.1f} MiB\n"
    )
    headings = ["graded", "quality", "tokens out", "seconds", "calls", "failed", "dollars"]
    if not figures.calls:
        headings = headings[:4]
    table = Table(Column("core", overflow="fold"), box=None)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, core in figures.cores.items():
        row = [
            str(core.graded),
            _figure(core.quality, ".3f"),
            _figure(core.output_tokens, ".1f"),
            _figure(core.latency_s, ".2f"),
            str(core.calls),
            str(core.failed),
            f"{core.cost_usd:.4f}",
        ]
        table.add_row(name, *row[: len(headings)])
    console.print(table)


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
