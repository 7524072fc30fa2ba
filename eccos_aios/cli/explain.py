"""The ``explain`` command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from eccos_aios.explain import Explanation, Neighbour, PlanEstimate
    from eccos_aios.history import Record
    from eccos_aios.plans import Mode
    from eccos_aios.predict import Predictor, PredictorSpec
    from eccos_aios.router import CoreEstimate

SHOWN_QUERY_LENGTH = 60  # characters of a past query in the table
LEFT_OUT = "(text left out)"
GOOD = 0.5  # quality from which an answer counts as good in the table


@click.command("explain")
@options.history()
@options.cores()
@options.quality_target()
@click.option(
    "--neighbours", type=click.IntRange(min=0), default=5, show_default=True, help="Past calls to show."
)
@options.plans(help="Let plans of several cores answer the query.")
@options.predictor
@options.as_json()
@click.argument("query")
def explain(
    history: Path,
    cores: Path,
    quality_target: float,
    neighbours: int,
    plans: Mode,
    spec: PredictorSpec,
    as_json: bool,
    query: str,
) -> None:
    """Show where a query would go, and why: past calls like it, estimates per core, the choice.

    \b
    Examples:
      eccos-aios explain --history history.jsonl.gz --cores cores.yaml "What is 17 times 23?"
      eccos-aios explain --history history.jsonl.gz --cores cores.yaml --json "Who was Ada?"
      eccos-aios explain --history history.jsonl.gz --cores cores.yaml --plans agree "What is 17 times 23?"
    """
    from eccos_aios.core import read_manifest
    from eccos_aios.explain import explain as explanation_of

    if not query.strip():
        raise click.BadParameter("is empty: write the query", param_hint="QUERY")
    manifest = read_manifest(cores)
    if plans == "off":
        records, predictor = _fitted(history, spec)
    else:
        from eccos_aios.history import read_history
        from eccos_aios.plans import PlanPredictor

        records = read_history(history)
        predictor = PlanPredictor(manifest.cores, plans, spec.make()).fit(records)
    explanation = explanation_of(
        records,
        manifest.cores,
        query,
        quality_target=quality_target,
        neighbours=neighbours,
        predictor=predictor,
    )
    if as_json:
        click.echo(json.dumps(asdict(explanation)))
    else:
        _print(explanation)


def _fitted(history: Path, spec: PredictorSpec) -> tuple[Sequence[Record], Predictor]:
    """The records of a history, and a predictor fitted on them; of a store, from its cache if possible."""
    from eccos_aios.history import HistoryStore, read_history
    from eccos_aios.history.schema import is_store
    from eccos_aios.predict import fitted_predictor

    if not is_store(history):
        records = read_history(history)
        return records, spec.make().fit(records)
    fitted = fitted_predictor(history, spec)
    assert fitted.mark is not None  # the history is a store
    with HistoryStore(history, read_only=True) as store:
        return store.records_until(fitted.mark), fitted.predictor


def _print(explanation: Explanation) -> None:
    from eccos_aios.cli.table import print_tables

    reason = "" if explanation.reason is None else f"{explanation.reason}. "
    print_tables(f"→ {explanation.core or 'no core'}: {reason}{explanation.why}\n")
    if explanation.quality_price:
        point = explanation.quality_price / 100
        print_tables(f"One more point in a hundred of quality would cost ${point:.6f}.")
    print_tables(_estimates(explanation.estimates, explanation.core))
    if explanation.plan is not None and explanation.plans:
        print_tables(_plans(explanation.plans, explanation.plan.name))
    if explanation.neighbours:
        print_tables(_neighbours(explanation.neighbours, [row.core for row in explanation.estimates]))


def _estimates(rows: Sequence[CoreEstimate], chosen: str | None) -> Table:
    from eccos_aios.cli.table import make_table

    headings = ("", "core", "quality", "US dollars", "tokens in", "tokens out", "past calls")
    table = make_table(*headings, left=("core",))
    for row in sorted(rows, key=lambda row: row.cost):
        table.add_row(
            "→" if row.core == chosen else "" if row.allowed else "✗",
            row.core,
            f"{row.quality:.3f}",
            f"{row.cost:.6f}",
            f"{row.input_tokens:.0f}",
            f"{row.output_tokens:.0f}",
            f"{row.support:.1f}",
        )
    return table


def _plans(rows: Sequence[PlanEstimate], chosen: str) -> Table:
    from eccos_aios.cli.table import make_table

    table = make_table("", "plan", "quality", "US dollars", "calls", left=("plan",))
    for row in sorted(rows, key=lambda row: row.cost):
        mark = "→" if row.name == chosen else ""
        table.add_row(mark, row.words, f"{row.quality:.3f}", f"{row.cost:.6f}", f"{row.calls:.2f}")
    return table


def _neighbours(neighbours: Sequence[Neighbour], cores: Sequence[str]) -> Table:
    from eccos_aios.cli.table import make_table

    table = make_table("alike", "past call", "answered well by", left=("past call",))
    for neighbour in neighbours:
        text = " ".join(neighbour.query.split()) or LEFT_OUT
        known = [core for core in cores if core in neighbour.quality]
        good = [core for core in known if neighbour.quality[core] >= GOOD]
        table.add_row(
            f"{neighbour.similarity:.2f}",
            text if len(text) <= SHOWN_QUERY_LENGTH else text[:SHOWN_QUERY_LENGTH] + "…",
            f"{len(good)} of {len(known)} cores",
        )
    return table
