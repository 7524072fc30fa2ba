"""The ``explain`` command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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

SHOWN_QUERY_LENGTH = 60  # characters of a past query in the table
LEFT_OUT = "(text left out)"
NOTABLE = 0.02  # difference of quality that is explained
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
      eccos-aios explain --history history.db --cores cores.yaml \\
        "What is 17 times 23?"
      eccos-aios explain --history history.db --cores cores.yaml \\
        --plans agree --json "Who was Ada?"
    """
    from eccos_aios.core import read_manifest
    from eccos_aios.explain import explain as explanation_of

    if not query.strip():
        raise click.BadParameter("is empty: write the query", param_hint="QUERY")
    manifest = read_manifest(cores)
    records, fitted = _fitted(history, spec)
    predictor: Predictor = fitted
    if plans != "off":
        from eccos_aios.runtime.planner import fitted_plans

        predictor = fitted_plans(history, manifest.cores, plans, spec)
    explanation = explanation_of(
        records,
        manifest.cores,
        query,
        quality_target=quality_target,
        neighbours=neighbours,
        predictor=predictor,
        searched=fitted,
    )
    if as_json:
        click.echo(json.dumps(asdict(explanation)))
    else:
        _print(explanation)


def _fitted(history: Path, spec: PredictorSpec) -> tuple[Sequence[Record], Predictor]:
    """The records of a history, and a predictor fitted on them, from its cache if possible."""
    from eccos_aios.history import HistoryStore, indexed_history
    from eccos_aios.predict import fitted_predictor

    fitted = fitted_predictor(history, spec)
    if fitted.mark is None:
        return indexed_history(history), fitted.predictor
    with HistoryStore(history, read_only=True) as store:
        return store.records_until(fitted.mark), fitted.predictor


def _print(explanation: Explanation) -> None:
    from eccos_aios.cli.table import dollars, print_tables

    reason = "" if explanation.reason is None else f"{explanation.reason}. "
    print_tables(f"→ {explanation.core or 'no core'}: {reason}{explanation.why}")
    if not explanation.seen:
        print_tables(
            "Nothing like this was seen: no past call is as similar as past calls usually are to each other. "
            "The estimates are little more than each core's mean."
        )
    for line in _alternatives(explanation):
        print_tables(line)
    if explanation.quality_price:
        point = explanation.quality_price / 100
        print_tables(
            f"The target binds: one hundredth more of quality would cost about {dollars(point)} here."
        )
    print_tables(_estimates(explanation))
    if explanation.grounds:
        print_tables(*_why_it_differs(explanation))
    if explanation.plan is not None and explanation.plans:
        print_tables(_plans(explanation.plans, explanation.plan.name))
    if explanation.neighbours:
        print_tables(_neighbours(explanation.neighbours, [row.core for row in explanation.estimates]))


def _alternatives(explanation: Explanation) -> Iterator[str]:
    from eccos_aios.cli.table import dollars

    for other, when in ((explanation.cheaper, "up to"), (explanation.dearer, "above")):
        if other is not None:
            beyond = other.target if when == "up to" else explanation.estimate_of(explanation.core).quality
            yield (
                f"A target {when} {beyond:.3f} would choose {other.core}: {other.quality:.3f} for "
                f"{dollars(other.cost)}."
            )


def _estimates(explanation: Explanation) -> Table:
    from eccos_aios.cli.table import UNKNOWN, dollars, figure, make_table

    headings = ("", "core", "quality", "cost", "alike", "all", "model", "in", "out", "weight")
    table = make_table(*headings, left=("core",))
    grounds = {each.core: each for each in explanation.grounds}
    for row in sorted(explanation.estimates, key=lambda row: row.cost):
        known = grounds.get(row.core)
        table.add_row(
            "→" if row.core == explanation.core else "" if row.allowed else "✗",
            row.core,
            f"{row.quality:.3f}" + (f" ± {known.error:.2f}" if known else ""),
            dollars(row.cost),
            UNKNOWN if known is None else figure(known.neighbours, ".3f"),
            UNKNOWN if known is None else figure(known.mean, ".3f"),
            UNKNOWN if known is None else figure(known.trained, ".3f"),
            f"{row.input_tokens:.0f}",
            f"{row.output_tokens:.0f}",
            f"{row.support:.1f}",
        )
    return table


def _why_it_differs(explanation: Explanation) -> Iterator[str]:
    """What the columns mean, and why the chosen core's estimate is not just its neighbours' mean."""
    yield (
        "alike: mean quality on the similar past calls; all: on all past calls; model: what the model "
        "trained on all of them expects; in, out: tokens; weight: past calls that the similar ones count as"
    )
    known = next((each for each in explanation.grounds if each.core == explanation.core), None)
    if known is None or known.neighbours is None:
        return
    row = explanation.estimate_of(known.core)
    difference = row.quality - known.neighbours
    if abs(difference) < NOTABLE:
        return
    pulls = []
    if known.mean is not None and (known.mean - row.quality) * difference > 0:
        pulls.append(
            f"its mean over all calls, {known.mean:.3f}, since {row.support:.1f} similar ones prove little"
        )
    if known.trained is not None and (known.trained - known.neighbours) * difference > 0:
        pulls.append(f"the trained model, which expects {known.trained:.3f}")
    towards = " and ".join(pulls) or "what choices among estimates have proved to deliver (winner's curse)"
    yield (
        f"{known.core} gave {known.neighbours:.3f} on {known.answered} similar calls; the estimate "
        f"{row.quality:.3f} is drawn towards {towards}."
    )


def _plans(rows: Sequence[PlanEstimate], chosen: str) -> Table:
    from eccos_aios.cli.table import dollars, make_table

    table = make_table("", "plan", "quality", "cost", "calls", left=("plan",))
    for row in sorted(rows, key=lambda row: row.cost):
        mark = "→" if row.name == chosen else ""
        table.add_row(mark, row.words, f"{row.quality:.3f}", dollars(row.cost), f"{row.calls:.2f}")
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
