"""Two plots of a replay: quality against cost, and delivered against promised quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as matplotlib  # so that an import of this module fails where it is not installed

from eccos_aios.bench.figures import BASELINE, BEST_SINGLE, ORACLE, ROUTING
from eccos_aios.bench.policy import SMART_THRESHOLD
from eccos_aios.bench.replay import MIX_POLICY
from eccos_aios.plot_style import (
    BAND,
    ECCOS,
    FAINT,
    QUIET,
    SECOND,
    THIRD,
    Label,
    Line,
    money_axis,
    new_figure,
    place_labels,
    save,
    share_axis,
    styled,
)

SIZE = (9.5, 6.0)  # inches
NAMES = {
    "eccos": "ECCOS",
    "eccos-r": "ECCOS-R, retrieval alone",
    "eccos-t": "ECCOS-T, trained alone",
    "eccos-plans": "ECCOS, several cores a call",
    "eccos-plans-unbounded": "ECCOS, any number of cores a call",
    "smart": "AIOS's SmartRouting",
    "first": "first core (AIOS's FIFO)",
    "random": "a core at random",
    "balance": "cores in turn",
    "length": "shortest answer",
    "cheapest": "cheapest core",
    "best-single": "best single core",
    "knn-argmax": "best of the neighbours",
    "mix": "mix of two single cores",
    "oracle": "oracle: outcomes known beforehand",
}
COLOURS = {
    ROUTING: ECCOS,
    "eccos-r": "#6fb0c4",
    "eccos-t": "#9bc7a4",
    "eccos-plans": THIRD,
    "eccos-plans-unbounded": "#b39ddb",
    BASELINE: SECOND,
    BEST_SINGLE: "#22262b",
    MIX_POLICY: QUIET,
    ORACLE: QUIET,
}
DASHED = (MIX_POLICY, ORACLE)
LABELLED_AT = (1.0, 0.0, 0.5, 0.75, 0.25)  # of a curve's length, the best place first

Rows = list[dict[str, Any]]


def plot_cost(results: dict[str, Any], path: Path) -> None:
    """Quality against cost of every policy, without quotas where those were replayed.

    Curves and points have their 95 % intervals of quality.
    """
    figure = new_figure(*SIZE)
    axes = figure.add_subplot()
    styled(axes, _cost_title(results), "US dollars per 1,000 calls", "mean quality of the answers")
    curves = _curves(results)
    labels: list[Label] = []
    lines: list[Line] = []
    for name, rows in curves.items():
        cost, quality = _values(rows, "cost"), _values(rows, "quality")
        lines += _draw(axes, name, rows, cost, quality)
        labels.append(_label(name, rows, cost, quality))
    _baseline(axes, curves)
    money_axis(axes, [value for rows in curves.values() for value in _values(rows, "cost")])
    axes.margins(x=0.08, y=0.1)
    share_axis(axes.yaxis)
    place_labels(axes, sorted(labels, key=lambda label: not label.bold), lines)
    save(figure, path)


def plot_promise(results: dict[str, Any], path: Path) -> None:
    """Delivered less promised quality of every policy that promises one, with 95 % intervals."""
    figure = new_figure(*SIZE)
    axes = figure.add_subplot()
    styled(axes, _promise_title(results), "promised mean quality", "delivered less promised, points")
    axes.axhline(0, color=QUIET, linewidth=1.2, zorder=1)
    labels: list[Label] = []
    lines: list[Line] = []
    for name, rows in _curves(results).items():
        promising = [row for row in rows if row["promised_quality"]["value"] is not None]
        if not promising or name == ORACLE:
            continue
        promising.sort(key=lambda row: row["promised_quality"]["value"])
        promised = _values(promising, "promised_quality")
        missed = [-100 * value for value in _values(promising, "promise_error")]
        lines += _draw(axes, name, promising, promised, missed, "promise_error", -100)
        labels.append(_label(name, promising, promised, missed))
    share_axis(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f}" if value else "0")
    axes.margins(x=0.1, y=0.12)
    ends = [(x, 0.0) for x in reversed(axes.get_xlim())]
    lines.append(ends)
    labels.append(Label("as promised", ends, QUIET))
    place_labels(axes, sorted(labels, key=lambda label: not label.bold), lines)
    save(figure, path)


def _draw(
    axes: Any,
    name: str,
    rows: Rows,
    x: Sequence[float],
    y: Sequence[float],
    figure: str = "quality",
    scale: float = 1.0,
) -> list[Line]:
    """A policy's curve with a band, or its points with bars: the 95 % interval of `y`; returns the lines."""
    colour = COLOURS.get(name, QUIET)
    low, high = (
        [
            place if row[figure][side] is None else scale * row[figure][side]
            for row, place in zip(rows, y, strict=True)
        ]
        for side in ("low", "high")
    )
    if name in DASHED:
        axes.plot(x, y, linestyle="--", color=colour, linewidth=1.2, zorder=2)
        return [list(zip(x, y, strict=True))]
    if len(rows) == 1 or name == BASELINE:
        sizes = [[abs(place - each) for place, each in zip(y, side, strict=True)] for side in (low, high)]
        axes.errorbar(
            x,
            y,
            yerr=sizes,
            fmt="o",
            color=colour,
            ecolor=colour,
            elinewidth=0.8,
            ms=6,
            linestyle="",
            zorder=4,
        )
        if len(rows) > 1:
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.5, zorder=3)
        bars = [[(at, first), (at, last)] for at, first, last in zip(x, low, high, strict=True)]
        return [*bars, list(zip(x, y, strict=True))]
    is_main = name in (ROUTING, "eccos-plans")
    axes.plot(x, y, color=colour, linewidth=2.4 if is_main else 1.3, zorder=5 if is_main else 3)
    if is_main:
        axes.fill_between(x, low, high, color=colour, alpha=BAND, linewidth=0, zorder=2)
    return [list(zip(x, y, strict=True))]


def _baseline(axes: Any, curves: dict[str, Rows]) -> None:
    """A cross through the best single core: what one core for every call gives and costs."""
    if BEST_SINGLE in curves:
        (row,) = curves[BEST_SINGLE]
        axes.axhline(row["quality"]["value"], color=FAINT, linewidth=1, zorder=1)
        axes.axvline(row["cost"]["value"], color=FAINT, linewidth=1, zorder=1)


def _curves(results: dict[str, Any]) -> dict[str, Rows]:
    """By policy its points by cost; ECCOS's last, to be drawn above the others."""
    limited = all(row["quotas"] for row in results["points"])
    rows = [
        row for row in results["points"] if row["quotas"] == limited and row["quality"]["value"] is not None
    ]
    names = sorted(dict.fromkeys(row["policy"] for row in rows), key=lambda name: name == ROUTING)
    return {
        name: sorted((row for row in rows if row["policy"] == name), key=lambda row: row["cost"]["value"])
        for name in names
    }


def _values(rows: Rows, figure: str) -> list[float]:
    return [row[figure]["value"] for row in rows]


def _label(name: str, rows: Rows, x: Sequence[float], y: Sequence[float]) -> Label:
    """A policy's label, at the end of its curve or where there is room along it."""
    places = [round(share * (len(rows) - 1)) for share in LABELLED_AT]
    if name == BASELINE:
        places = [place for place, row in enumerate(rows) if row["level"] == SMART_THRESHOLD] + places
    strong = name in (ROUTING, BASELINE, BEST_SINGLE, "eccos-plans")
    anchors = [(x[place], y[place]) for place in dict.fromkeys(places)]
    return Label(NAMES.get(name, name), anchors, COLOURS.get(name, QUIET), strong)


def _headline(results: dict[str, Any]) -> dict[str, Any] | None:
    limited = all(row["quotas"] for row in results["points"])
    found = (row for row in results["headlines"] if row["policy"] == ROUTING and row["quotas"] == limited)
    return next(found, None)


def _cost_title(results: dict[str, Any]) -> str:
    row = _headline(results)
    for key, whom in (
        ("cost_share", f"AIOS's SmartRouting ({SMART_THRESHOLD:g})"),
        ("single_cost_share", "the best single core"),
    ):
        figure = None if row is None else row[key]
        if figure is not None and figure["value"] is not None:
            error = "" if figure["se"] is None else f" ± {100 * figure['se']:.0f}"
            return f"ECCOS gives the quality of {whom} at {100 * figure['value']:.0f}{error} % of its cost"
    return "Quality against cost"


def _promise_title(results: dict[str, Any]) -> str:
    row = _headline(results)
    worst, mean = (
        (None, None) if row is None else (row["worst_promise"]["value"], row["mean_promise"]["value"])
    )
    if worst is None or mean is None:
        return "Delivered against promised quality"
    how = "more than" if mean < 0 else "less than"
    return (
        f"ECCOS delivers {abs(mean) * 100:.1f} points {how} it promises in the mean, "
        f"{abs(worst) * 100:.1f} where it is furthest off"
    )
