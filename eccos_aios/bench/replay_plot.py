"""Two plots of a replay: quality against cost, and delivered against promised quality."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SIZE = (9.0, 5.5)  # inches
DPI = 120


def plot_cost(results: dict[str, Any], path: Path) -> None:
    """Quality against cost of every policy, without quotas where those were replayed."""
    colours = _colours(results)
    figure, axes = _empty("US dollars per 1,000 calls", "quality")
    for name, rows in _curves(results):
        cost = [row["cost"]["value"] for row in rows]
        quality = [row["quality"]["value"] for row in rows]
        axes.plot(cost, quality, marker="." if len(rows) > 1 else "D", label=name, color=colours[name])
    if all(row["cost"]["value"] > 0 for row in results["points"]):
        axes.set_xscale("log")
    axes.axhline(results["best_single"], linestyle=":", color="grey", linewidth=1)
    _save(figure, axes, path)


def plot_promise(results: dict[str, Any], path: Path) -> None:
    """Delivered against promised quality of every policy that promises one."""
    colours = _colours(results)
    figure, axes = _empty("promised quality", "delivered quality")
    for name, rows in _curves(results):
        promising = [row for row in rows if row["promised_quality"]["value"] is not None]
        if promising and name != "oracle":
            promised = [row["promised_quality"]["value"] for row in promising]
            delivered = [row["quality"]["value"] for row in promising]
            axes.plot(promised, delivered, marker=".", label=name, color=colours[name])
    low, high = axes.get_xlim()
    axes.plot(
        [low, high], [low, high], linestyle="--", color="grey", linewidth=1, label="delivered = promised"
    )
    _save(figure, axes, path)


def _curves(results: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    limited = all(row["quotas"] for row in results["points"])
    rows = [
        row for row in results["points"] if row["quotas"] == limited and row["quality"]["value"] is not None
    ]
    for name in dict.fromkeys(row["policy"] for row in rows):
        own = [row for row in rows if row["policy"] == name]
        yield name, sorted(own, key=lambda row: row["cost"]["value"])


def _colours(results: dict[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys(row["policy"] for row in results["points"])
    return {name: colormaps["tab20"](number % 20) for number, name in enumerate(names)}


def _empty(x: str, y: str) -> tuple[Any, Any]:
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    FigureCanvasAgg(figure).print_png(path)
