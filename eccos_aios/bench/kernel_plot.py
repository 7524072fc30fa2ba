"""The plot of ``bench kernel``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eccos_aios.bench.kernel import KernelRow

COLOURS = {"fifo": "#9aa5b1", "eccos": "#1f77b4"}
OFFSETS = {"fifo": -0.2, "eccos": 0.2}  # of a bar's centre from its group's
WIDTH = 0.4  # of a bar
THOUSAND = 1000


def plot_kernel(rows: Sequence[KernelRow], path: Path) -> Path | None:
    """Plot throughput, latency, cost and quality of each load; None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    figure = Figure(figsize=(12, 7), layout="constrained")
    throughput, latency, cost, quality, most, legend = figure.subplots(2, 3).ravel()
    _bars(throughput, "calls per second", rows, lambda row: row.calls_per_s, "%.1f")
    _bars(latency, "seconds to the answer: p50 (to p95, p99)", rows, lambda row: row.p50_s, "%.2f")
    _tails(latency, rows)
    _bars(cost, "US dollars per 1,000 calls", rows, lambda row: THOUSAND * row.cost_usd / row.calls, "%.3f")
    _bars(quality, "share of answers graded right", rows, lambda row: row.quality, "%.2f")
    _most_at_once(most, rows)
    legend.axis("off")
    legend.legend(*throughput.get_legend_handles_labels(), loc="center left", frameon=False, fontsize=12)
    figure.savefig(path, dpi=150)
    return path


def _bars(
    axes: Any, title: str, rows: Sequence[KernelRow], figure_of: Callable[[KernelRow], float], shown: str
) -> None:
    """One group of bars per load, one bar per scheduler."""
    callers = sorted({row.callers for row in rows})
    for scheduler, offset in OFFSETS.items():
        chosen = [row for row in rows if row.scheduler == scheduler]
        places = [callers.index(row.callers) + offset for row in chosen]
        figures = [figure_of(row) for row in chosen]
        bars = axes.bar(places, figures, WIDTH, color=COLOURS[scheduler], label=scheduler.upper())
        axes.bar_label(bars, fmt=shown)
    _style(axes, title, [_callers(number) for number in callers])


def _tails(axes: Any, rows: Sequence[KernelRow]) -> None:
    callers = sorted({row.callers for row in rows})
    for row in rows:
        place = callers.index(row.callers) + OFFSETS[row.scheduler] + WIDTH / 3
        axes.vlines(place, row.p50_s, row.p99_s, color="#333333", linewidth=1)
        axes.hlines(row.p95_s, place - WIDTH / 10, place + WIDTH / 10, color="#333333", linewidth=1)


def _most_at_once(axes: Any, rows: Sequence[KernelRow]) -> None:
    """Most calls in flight of the load with the most callers, by core."""
    callers = max(row.callers for row in rows)
    names = list(rows[0].max_in_flight)
    for row in rows:
        if row.callers == callers:
            places = [place + OFFSETS[row.scheduler] for place in range(len(names))]
            held = [row.max_in_flight[name] for name in names]
            axes.bar_label(axes.bar(places, held, WIDTH, color=COLOURS[row.scheduler]))
    _style(axes, f"most calls in flight at once, {_callers(callers)}", names)


def _style(axes: Any, title: str, groups: Sequence[str]) -> None:
    axes.set_title(title)
    axes.set_xticks(range(len(groups)), groups)
    axes.margins(y=0.14)
    axes.spines[["top", "right"]].set_visible(False)


def _callers(number: int) -> str:
    return "1 caller" if number == 1 else f"{number} callers"
