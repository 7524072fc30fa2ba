"""The plot of ``bench kernel``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_aios.plot_style import ECCOS, SECOND, TEXT, money, new_figure, save, styled

if TYPE_CHECKING:
    from eccos_aios.bench.kernel import KernelRow

COLOURS = {"fifo": SECOND, "eccos": ECCOS}
OFFSETS = {"fifo": -0.2, "eccos": 0.2}  # of a bar's centre from its group's
WIDTH = 0.4  # of a bar
THOUSAND = 1000


def plot_kernel(rows: Sequence[KernelRow], path: Path) -> Path | None:
    """Plot throughput, latency, cost and quality of each load; None where matplotlib is not installed."""
    try:
        figure = new_figure(12.5, 7.2)
    except ModuleNotFoundError:
        return None
    throughput, latency, cost, quality, most, names = figure.subplots(2, 3).ravel()
    figure.suptitle(_finding(rows), x=0.01, ha="left", fontsize=13, fontweight="bold", color=TEXT)
    _bars(throughput, "calls per second", rows, lambda row: row.calls_per_s, "%.1f")
    _bars(latency, "seconds to the answer: p50 (to p95, p99)", rows, lambda row: row.p50_s, "%.2f")
    _tails(latency, rows)
    _bars(cost, "US dollars per 1,000 calls", rows, lambda row: THOUSAND * row.cost_usd / row.calls, "$%.3f")
    cost.yaxis.set_major_formatter(lambda value, _: money(value) if value else "$0")
    _bars(quality, "share of answers graded right", rows, lambda row: row.quality, "%.2f")
    _most_at_once(most, rows)
    names.axis("off")
    for place, (scheduler, colour) in enumerate(COLOURS.items()):
        text = {"fifo": "AIOS's FIFO", "eccos": "ECCOS"}[scheduler]
        names.text(0.1, 0.6 - 0.15 * place, text, color=colour, fontsize=14, fontweight="bold")
    return save(figure, path)


def _finding(rows: Sequence[KernelRow]) -> str:
    """What the load with the most callers shows."""
    callers = max(row.callers for row in rows)
    by_scheduler = {row.scheduler: row for row in rows if row.callers == callers}
    fifo, eccos = by_scheduler.get("fifo"), by_scheduler.get("eccos")
    if fifo is None or eccos is None or not fifo.calls_per_s or not fifo.cost_usd:
        return "A kernel under load"
    cost = (eccos.cost_usd / eccos.calls) / (fifo.cost_usd / fifo.calls)
    return (
        f"{_callers(callers)}: ECCOS serves {eccos.calls_per_s / fifo.calls_per_s:.1f} times FIFO's calls "
        f"per second, at {cost:.0%} of its cost"
    )


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
    styled(axes, title)
    axes.set_xticks(range(len(groups)), groups)
    axes.margins(y=0.14)
    axes.grid(visible=False, axis="x")


def _callers(number: int) -> str:
    return "1 caller" if number == 1 else f"{number} callers"
