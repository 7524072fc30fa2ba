"""The tables of the ``collect`` command: the plan, the progress, the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from eccos_aios.cli.table import dollars, figure, make_table, print_tables
from eccos_aios.collect.plan import Plan
from eccos_aios.collect.run import CollectionResult, Tally

REFRESHES_PER_S = 4


def print_plan(plan: Plan, max_usd: float | None, *, err: bool = False) -> None:
    """Print the plan with the expected price, on stdout or stderr."""
    headings = ("core", "to ask", "recorded", "unsuited", "at once", "expected", "at most")
    table = make_table(*headings)
    for core in plan.cores:
        table.add_row(
            core.core.name,
            str(len(core.todo)),
            str(len(core.recorded)),
            str(core.unsuited),
            str(core.core.slots),
            dollars(core.expected_usd),
            dollars(core.most_usd),
        )
    bound = "" if max_usd is None else f"; stops before {dollars(max_usd)}"
    print_tables(
        table,
        f"{plan.to_ask} calls, expected {dollars(plan.expected_usd)}, at most {dollars(plan.most_usd)} with "
        f"{plan.max_output_tokens} output tokens each{bound}",
        err=err,
    )


@contextmanager
def live_table(tallies: Sequence[Tally]) -> Iterator[Callable[[], None]]:
    """Progress, cost and accuracy per core, on a terminal only; yields the function that refreshes it."""
    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield lambda: None
        return
    start = time.monotonic()

    def shown() -> Table:
        caption = _caption(tallies, time.monotonic() - start)
        return _table(tallies, lambda tally: tally.stopped or _retrying(tally) or tally.last_failure, caption)

    with Live(
        get_renderable=shown, console=console, refresh_per_second=REFRESHES_PER_S, transient=True
    ) as live:
        yield live.refresh


def print_collected(collected: CollectionResult, out: str) -> None:
    """Print the result of a collection on stderr."""
    print_tables(_table(collected.tallies, lambda tally: ""), err=True)
    for tally in collected.tallies:
        if reason := tally.stopped or tally.last_failure:
            what = "stopped" if tally.stopped else "last failure"
            print_tables(f"{tally.name}: {what}: {reason}", err=True)
    words = {
        "complete": "complete",
        "budget": "stopped before the budget was exceeded (a smaller --max-output-tokens goes further)",
        "interrupted": "interrupted",
        "incomplete": "some calls failed",
    }
    more = "" if collected.ended == "complete" else "; run the same command again to continue"
    unknown = (
        f", and at most {dollars(collected.unknown_usd)} for attempts without an answer"
        if collected.unknown_usd
        else ""
    )
    print_tables(
        f"{words[collected.ended]}{more}: {dollars(collected.cost_usd)}{unknown}, {collected.seconds:.1f} s",
        f"history: {out}",
        err=True,
    )


def _table(tallies: Sequence[Tally], remark: Callable[[Tally], str], caption: str | None = None) -> Table:
    headings = ("core", "answered", "accuracy", "spent", "output tokens", "failed")
    table = make_table(*headings, caption=caption)
    table.add_column("")
    for tally in tallies:
        table.add_row(
            tally.name,
            f"{tally.recorded} / {tally.total}",
            figure(tally.quality, ".1%"),
            dollars(tally.cost_usd),
            str(tally.output_tokens),
            str(tally.failed),
            remark(tally),
        )
    return table


def _retrying(tally: Tally) -> str:
    trouble = tally.trouble() if tally.left else ""
    return f"retrying: {trouble}" if trouble else ""


def _caption(tallies: Sequence[Tally], seconds: float) -> str:
    recorded, total = sum(t.recorded for t in tallies), sum(t.total for t in tallies)
    spent = dollars(sum(tally.cost_usd for tally in tallies))
    parts = [f"{recorded} of {total}", spent]
    answered = sum(len(tally.latencies_s) for tally in tallies)
    if answered and seconds:
        parts.append(f"{answered / seconds:.1f} calls a second")
    # The cores work side by side, so the slowest of them decides how long it takes.
    waits = [t.left / len(t.latencies_s) * seconds for t in tallies if t.left and t.latencies_s]
    if waits:
        parts.append(f"{max(waits):.0f} s left")
    return " · ".join(parts)
