"""The ``history`` command: a store's contents."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli import options
from eccos_aios.cli.progress import show_progress

if TYPE_CHECKING:
    from eccos_aios.history import StoreStats

store_argument = click.argument("store", type=options.FILE)


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
@click.argument("files", type=options.FILE, nargs=-1, required=True)
@click.option(
    "--store-text/--no-store-text",
    default=True,
    show_default=True,
    help="Keep what was asked and answered, or only hash, lengths and an embedding to learn from.",
)
@options.skip_bad_records()
@options.as_json()
def import_(
    store: Path, files: tuple[Path, ...], store_text: bool, skip_bad_records: bool, as_json: bool
) -> None:
    """Add the records of FILES to STORE, which is created if absent.

    FILES are .json, .jsonl, .jsonl.gz or other stores. A record that STORE holds already is not added
    again: its id identifies it, or its content where it has no id. A bad record stops the import; some
    records before it may be stored already, and once it is fixed the same command adds the rest.

    \b
    Examples:
      eccos-aios history import history.db history.jsonl.gz
      eccos-aios history import history.db monday.jsonl tuesday.jsonl --json
      eccos-aios history import history.db history.jsonl --no-store-text
    """
    from eccos_aios.cli.table import note_faults
    from eccos_aios.history import AddResult, HistoryStore, ReadReport, import_history
    from eccos_aios.predict import embedding_of

    for file in files:
        if _is_absent(store):  # a store made before the error would stay behind, empty
            _require_readable(file)
        _require_content(file)
    report = ReadReport()
    added = AddResult()
    with HistoryStore(store, store_text=store_text, embed=embedding_of) as opened:
        for file in files:
            with show_progress() as on_step:
                added += import_history(
                    opened,
                    file,
                    skip_bad_records=skip_bad_records,
                    report=report,
                    on_progress=partial(on_step, f"importing {file.name}"),
                )
    note_faults(report.faults, "bad records left out")
    if as_json:
        click.echo(json.dumps({"store": str(store), **asdict(added), "bad_records": len(report.faults)}))
        return
    click.echo(f"{added.stored} records added to {store}, {added.duplicates} were in it already")
    if added.conflicts:
        click.echo(f"{added.conflicts} of them have other content under the same id: the first stays")


@history.command("export")
@store_argument
@options.out(help="Output file, one JSON object a line; gzipped if its name ends in .gz.")
@options.as_json()
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
    with show_progress() as on_step:
        on_progress = partial(on_step, f"exporting {store.name}")
        exported = export_history(HistoryStore(store, read_only=True), out, on_progress=on_progress)
    if as_json:
        click.echo(json.dumps({"out": str(out), **asdict(exported)}))
        return
    click.echo(f"{exported.records} records written to {out}")
    if exported.ungraded_calls:
        click.echo(f"{exported.ungraded_calls} calls left out: the quality of their answers is unknown")


@history.command("stats")
@store_argument
@options.as_json()
def stats(store: Path, as_json: bool) -> None:
    """Show what STORE holds: records, calls of running kernels, and figures per core.

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
    except OSError:  # out of reach: opening it raises the error
        return False


def _require_readable(file: Path) -> None:
    from eccos_aios.errors import ABSENT, HistoryError

    try:
        file.open("rb").close()
    except OSError as error:
        raise HistoryError(str(file), "", ABSENT, f"cannot be read: {error.strerror}") from error


def _require_content(file: Path) -> None:
    """Refuse an empty file as a store: a truncated one would pass for a store without records."""
    from eccos_aios.errors import ABSENT, HistoryError
    from eccos_aios.history.schema import is_store

    try:
        empty = is_store(file) and file.is_file() and not file.stat().st_size
        written = any(file.with_name(file.name + suffix).exists() for suffix in ("-wal", "-journal"))
    except OSError as error:
        raise HistoryError(str(file), "", ABSENT, f"cannot be read: {error.strerror}") from error
    if empty and not written:
        raise HistoryError(str(file), "", ABSENT, "is empty, and no history store")


def _print_stats(store: Path, figures: StoreStats) -> None:
    from eccos_aios.cli.table import figure, make_table, print_tables

    headings = ["graded", "quality", "tokens out", "seconds", "calls", "failed", "dollars"]
    if not figures.calls:
        headings = headings[:4]
    table = make_table("core", *headings)
    for name, core in figures.cores.items():
        row = [
            str(core.graded),
            figure(core.quality, ".3f"),
            figure(core.output_tokens, ".1f"),
            figure(core.latency_s, ".2f"),
            str(core.calls),
            str(core.failed),
            f"{core.cost_usd:.4f}",
        ]
        table.add_row(name, *row[: len(headings)])
    print_tables(
        f"{store}: {figures.records} records; {figures.calls} calls, {figures.graded_calls} of known "
        f"quality; {figures.without_text} without text; {figures.size_bytes / 2**20:.1f} MiB",
        table,
    )
