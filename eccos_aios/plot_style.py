"""The one style of all plots: colours, titles that say the finding, labels beside what they name.

Imports matplotlib when a figure is made, so that modules that draw can be imported without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ECCOS, SECOND, THIRD = "#1f6f8b", "#d1603d", "#7a5ea8"
QUIET, FAINT, TEXT = "#7d838c", "#c9cdd2", "#22262b"
DPI = 130
SMALL = 9.0  # points
BAND = 0.16  # opacity of an interval
GAP = 5.0  # points between a label and its mark
HALO = 2.5  # points of white around a label
LEADER_FROM = 3.0  # gaps between a label and its point from which a line leads from one to the other
LEADER_COST = 20.0  # of a label that a leading line crosses
ANCHOR_COST = 2.0  # of each further point that a label may stand at
STEP = 5.0  # pixels between the places of a line that a label should not cover
REACHES = (1.0, 1.8, 2.8, 4.5, 7.0)  # multiples of the gap that a label is tried at
FINE_TICKS_BELOW = 200  # ratio of a logarithmic axis below which ticks at 2 and 5 fit, too


Line = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Label:
    """A label and the points that it may stand at, in data coordinates, the best first."""

    text: str
    anchors: Line
    colour: str = TEXT
    bold: bool = False


def new_figure(width: float, height: float) -> Any:
    """An empty figure, of so many inches.

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def styled(axes: Any, title: str, x: str = "", y: str = "") -> None:
    """Title on the left, no frame above and on the right, a faint grid."""
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=TEXT, pad=10)
    axes.set_xlabel(x, color=TEXT)
    axes.set_ylabel(y, color=TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=TEXT, labelsize=SMALL)
    axes.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
    return path


def money(value: float) -> str:
    """US dollars as on an axis: ``$0.01``, ``$2``."""
    if value >= 1:
        return f"${value:,.10g}"
    digits = f"{value:.10f}".rstrip("0").partition(".")[2]
    return f"$0.{digits:0<2}"


def money_axis(axes: Any, values: Sequence[float]) -> None:
    """A horizontal axis of dollars, logarithmic where no value is zero."""
    logarithmic(axes, values)
    axes.xaxis.set_major_formatter(lambda value, _: money(value))


def share_axis(axis: Any) -> None:
    """An axis in per cent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def logarithmic(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic horizontal axis with ticks at 1, 2 and 5, where no value is zero."""
    from matplotlib.ticker import LogLocator, NullLocator

    if not values or min(values) <= 0:
        return
    axes.set_xscale("log")
    steps = (1.0, 2.0, 5.0) if max(values) < FINE_TICKS_BELOW * min(values) else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_minor_locator(NullLocator())


def place_labels(axes: Any, labels: Sequence[Label], lines: Sequence[Line] = ()) -> None:
    """Write labels near their points, where they cover neither each other nor, if possible, a line.

    Call it last: limits and scales of the axes must be final.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    labels : sequence of Label
        The first are placed best.
    lines : sequence of Line
        What is drawn, in data coordinates: each the points of a line, or one point.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figure = axes.figure
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what is placed stays where it is
    renderer = figure.canvas.get_renderer()
    points = figure.dpi / 72
    dots = [dot for line in lines for dot in _dots(axes.transData.transform(list(line)))]
    taken: list[Any] = []
    for label in labels:
        best: tuple[Any, Any] | None = None
        least = float("inf")
        for start, anchor, across, up in _offers(label):
            if start >= least:
                continue
            text = _annotation(axes, label, anchor, across, up)
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # an annotation's own includes its leading line
            cost = start + _covered(box, taken, dots, axes.bbox, points)
            if text.arrow_patch is not None:
                middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
                leader = _dots([axes.transData.transform(anchor), middle])
                cost += LEADER_COST * sum(any(other.contains(*dot) for dot in leader) for other in taken)
            if cost >= least:
                text.remove()
                continue
            if best is not None:
                best[0].remove()
            best, least = (text, box), cost
        if best is not None:
            taken.append(best[1])


def _offers(label: Label) -> list[tuple[float, tuple[float, float], float, float]]:
    """Where a label may stand: a cost for distance and for the anchor, the anchor, the offset in points."""
    return [
        (reach + ANCHOR_COST * rank, anchor, across * GAP * reach, up * GAP * reach)
        for rank, anchor in enumerate(label.anchors)
        for reach in REACHES
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    ]


def _dots(corners: Any) -> list[tuple[float, float]]:
    """Places along a line in pixels, close enough that no label fits between."""
    dots = [tuple(corners[0])]
    for (x, y), (next_x, next_y) in pairwise(corners):
        count = max(1, int(max(abs(next_x - x), abs(next_y - y)) / STEP))
        dots += [(x + (next_x - x) * n / count, y + (next_y - y) * n / count) for n in range(1, count + 1)]
    return dots


def _annotation(axes: Any, label: Label, anchor: tuple[float, float], across: float, up: float) -> Any:
    from matplotlib.patheffects import withStroke

    far = max(abs(across), abs(up)) > GAP * LEADER_FROM
    return axes.annotate(
        label.text,
        anchor,
        xytext=(across, up),
        textcoords="offset points",
        ha="left" if across > 0 else "right" if across < 0 else "center",
        va="bottom" if up > 0 else "top" if up < 0 else "center",
        fontsize=SMALL,
        color=label.colour,
        fontweight="bold" if label.bold else "normal",
        zorder=6,
        path_effects=[withStroke(linewidth=HALO, foreground="white", alpha=0.8)],
        arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.6} if far else None,
    )


def _covered(box: Any, taken: Sequence[Any], dots: Sequence[Any], inside: Any, points: float) -> float:
    """What a label's box would cover, as a cost; other labels weigh most."""
    wide = box.padded(points)
    cost = 100.0 * sum(wide.overlaps(other) for other in taken)
    cost += 1.0 * sum(bool(wide.contains(*dot)) for dot in dots)
    out = box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1
    return float(cost + 60.0 * out)
