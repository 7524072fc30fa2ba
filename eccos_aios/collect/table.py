"""What a person sees: the plan, the live table, and what it came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from eccos_aios.collect.plan import Plan
from eccos_aios.collect.run import Collected, Tally

REFRESHES_PER_S = 4


def print_plan(plan: Plan, console: Console, max_usd: float | None) -> None:
    """The plan, with the expected price."""
    table = Table("core", box=box.SIMPLE_HEAD)
    for name in ("to ask", "recorded", "unsuited", "at once", "expected", "at most"):
        table.add_column(name, justify="right")
    for core in plan.cores:
        table.add_row(
            escape(core.core.name),
            str(len(core.todo)),
            str(len(core.recorded)),
            str(core.unsuited),
            str(core.core.slots),
            dollars(core.expected_usd),
            dollars(core.most_usd),
        )
    console.print(table)
    bound = "" if max_usd is None else f"; stops before {dollars(max_usd)}"
    console.print(
        f"{plan.to_ask} calls, expected {dollars(plan.expected_usd)}, at most {dollars(plan.most_usd)} with "
        f"{plan.max_output_tokens} output tokens each{bound}",
        highlight=False,
    )


@contextmanager
def live_table(tallies: Sequence[Tally], console: Console) -> Iterator[Callable[[], None]]:
    """Progress, spend and accuracy per core, on a terminal only; yields what is to be called on progress."""
    if not console.is_terminal:
        yield lambda: None
        return
    start = time.monotonic()

    def shown() -> Table:
        table = _table(tallies, lambda tally: tally.stopped or _retrying(tally) or tally.last_failure)
        table.caption = _caption(tallies, time.monotonic() - start)
        return table

    with Live(
        get_renderable=shown, console=console, refresh_per_second=REFRESHES_PER_S, transient=True
    ) as live:
        yield live.refresh


def print_collected(collected: Collected, out: str, console: Console) -> None:
    """What a collection came to."""
    console.print(_table(collected.tallies, lambda tally: ""))
    for tally in collected.tallies:
        if reason := tally.stopped or tally.last_failure:
            told = f"stopped: {reason}" if tally.stopped else f"last failure: {reason}"
            console.print(f"{tally.name}: {told}", highlight=False, markup=False)
    words = {
        "complete": "complete",
        "budget": "stopped before the budget was exceeded (a smaller --max-output-tokens goes further)",
        "interrupted": "interrupted",
        "incomplete": "some calls failed",
    }
    more = "" if collected.ended == "complete" else "; the same command goes on from here"
    unknown = (
        f", and at most {dollars(collected.unknown_usd)} for attempts without an answer"
        if collected.unknown_usd
        else ""
    )
    console.print(
        f"{words[collected.ended]}{more}: {dollars(collected.cost_usd)}{unknown}, {collected.seconds:.1f} s",
        highlight=False,
        markup=False,
    )
    console.print(f"history: {out}", highlight=False, markup=False, soft_wrap=True)


def dollars(usd: float) -> str:
    """US dollars, with as many decimals as tell something."""
    return f"${usd:.2f}" if usd >= 1 or not usd else f"${usd:#.3g}" if usd >= 0.0001 else f"${usd:.1e}"


def _table(tallies: Sequence[Tally], remark: Callable[[Tally], str]) -> Table:
    table = Table("core", box=box.SIMPLE_HEAD)
    for name in ("answered", "accuracy", "spent", "output tokens", "failed"):
        table.add_column(name, justify="right")
    table.add_column("")
    for tally in tallies:
        table.add_row(
            escape(tally.name),
            f"{tally.recorded} / {tally.total}",
            "–" if tally.quality is None else f"{tally.quality:.1%}",
            dollars(tally.cost_usd),
            str(tally.output_tokens),
            str(tally.failed),
            escape(remark(tally)),
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
    # The cores work side by side, so the slowest of them tells how long it takes.
    waits = [t.left / len(t.latencies_s) * seconds for t in tallies if t.left and t.latencies_s]
    if waits:
        parts.append(f"{max(waits):.0f} s left")
    return " · ".join(parts)
