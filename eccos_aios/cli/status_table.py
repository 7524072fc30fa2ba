"""How ``status`` and ``top`` show what a kernel does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from eccos_aios.cli.table import dollars, figure, make_table

BETWEEN, EDGES = 3, 4  # columns between the columns of a table, and around the table
LEAST_WIDTH = 4
LEAST_SHIFT = 0.005  # of a quality, that two decimals show
STATE_STYLES = {"ok": "green", "paused": "yellow", "half-open": "yellow", "open": "bold red"}


def summary_lines(status: Mapping[str, Any]) -> list[Text]:
    """Quality against the target, cost against single cores, calls."""
    totals = _mapping(status, "totals")
    lines = [
        f"ECCOS {status.get('version', '')}  {status.get('scheduler', '')}",
        f"quality {figure(totals.get('predicted_quality'), '.3f')} estimated, "
        f"target {figure(status.get('quality_target'), '.3f')}, "
        f"owed {figure(status.get('quality_owed'), '.2f')}",
        f"cost    {_dollars(totals.get('cost_usd'))} estimated",
    ]
    for name, label in (("best", "all to the best core"), ("cheapest", "all to the cheapest")):
        core = _mapping(_mapping(status, "baselines"), name)
        if core:
            lines.append(
                f"        {_dollars(core.get('cost_usd'))} with {label}, {core.get('core')}, "
                f"quality {figure(core.get('predicted_quality'), '.3f')}"
            )
    lines.append(
        f"calls   {totals.get('completed', 0)} completed, {totals.get('failed', 0)} failed, "
        f"{status.get('pending', 0)} waiting, "
        f"decided in {figure(totals.get('decision_ms_p99'), '.1f')} ms (p99)"
    )
    waiting = _mapping(status, "pending_by_agent")
    if waiting:
        lines.append("waiting " + ", ".join(f"{agent}: {calls}" for agent, calls in waiting.items()))
    learning = _mapping(status, "learning")
    if learning:
        changed = [
            f"{core} {shift:+.2f}"
            for core, shift in _mapping(learning, "shifts").items()
            if abs(shift) >= LEAST_SHIFT
        ]
        note = f"; changed: {', '.join(changed)}" if changed else ""
        learned, refits = learning.get("learned", 0), learning.get("refits", 0)
        lines.append(f"learned {learned} outcomes, {refits} new fits{note}")
    return [Text(printable(line)) for line in lines]


def core_table(status: Mapping[str, Any], width: int | None = None) -> Table:
    """The cores with slots in use, state and why, in so many columns of a terminal."""
    table = make_table("core", "slots", "completed", "failed", "state", left=("state",))
    for name, core in _mapping(status, "cores").items():
        state, cause = printable(str(core.get("state", ""))), printable(str(core.get("cause", "")))
        shown = Text(state, STATE_STYLES.get(state, "")).append(f" {cause}" if cause else "", "dim")
        slots = f"{core.get('in_flight', 0)}/{core.get('quota', 0)}"
        counts = [str(core.get(count, 0)) for count in ("completed", "failed")]
        table.add_row(printable(name), slots, *counts, shown)
    return _shortened(table, width)


def decision_table(decisions: Sequence[Mapping[str, Any]], width: int | None = None) -> Table:
    """The last decisions, with the cost of 1,000 such calls, in so many columns of a terminal."""
    table = make_table(
        "call", "core", "quality", "$/1,000", "reason, outcome", left=("core", "reason, outcome")
    )
    for each in decisions:
        plan = _mapping(each, "plan").get("cores") or []
        table.add_row(
            str(each.get("call", "")),
            printable(">".join(map(str, plan)) if len(plan) > 1 else str(each.get("core"))),
            figure(each.get("predicted_quality"), ".3f"),
            _dollars(each.get("predicted_cost"), calls=1000),
            printable(f"{each.get('reason', '')}, {each.get('outcome', '')}"),
        )
    return _shortened(table, width)


def _dollars(value: Any, calls: int = 1) -> str:
    """Dollars of so many such calls."""
    return dollars(calls * value if isinstance(value, int | float) else None)


def printable(text: str) -> str:
    """Text of the kernel's without control characters, which a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _shortened(table: Table, width: int | None) -> Table:
    """The table, of which a narrow terminal shortens the last column alone, which holds no figure."""
    if width is not None:
        used = EDGES
        for column in table.columns[:-1]:
            used += BETWEEN + max(cell_len(str(text)) for text in (column.header, *column.cells))
        table.columns[-1].min_width = table.columns[-1].max_width = max(LEAST_WIDTH, width - used)
    return table


def _mapping(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}
