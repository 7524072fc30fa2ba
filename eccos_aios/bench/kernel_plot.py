"""The plot of ``bench kernel``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from eccos_aios.bench.kernel import KernelRow

COLOURS = {"fifo": "#9aa5b1", "eccos": "#1f77b4"}


def plot_kernel(rows: Sequence[KernelRow], path: Path) -> None:
    """Throughput and latency of each load, one bar a scheduler; without matplotlib, one line that says so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        click.echo("no plot: matplotlib is missing, pip install 'eccos-aios[plot]'", err=True)
        return
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    callers = sorted({row.callers for row in rows})
    for offset, scheduler in ((-0.2, "fifo"), (0.2, "eccos")):
        chosen = {row.callers: row for row in rows if row.scheduler == scheduler}
        places = [place + offset for place, number in enumerate(callers) if number in chosen]
        found = [chosen[number] for number in callers if number in chosen]
        bars = throughput.bar(
            places, [row.calls_per_s for row in found], 0.4, color=COLOURS[scheduler], label=scheduler.upper()
        )
        throughput.bar_label(bars, fmt="%.1f")
        bars = latency.bar(places, [row.p50_s for row in found], 0.4, color=COLOURS[scheduler])
        latency.bar_label(bars, fmt="%.2f")
        latency.vlines(places, [row.p50_s for row in found], [row.p99_s for row in found], color="#333333")
    for axes, title in (
        (throughput, "calls per second"),
        (latency, "seconds to the answer, p50 (line: to p99)"),
    ):
        axes.set_title(title)
        axes.set_xticks(range(len(callers)), [f"{number} callers" for number in callers])
        axes.spines[["top", "right"]].set_visible(False)
    throughput.legend(frameon=False)
    figure.savefig(path, dpi=150)
