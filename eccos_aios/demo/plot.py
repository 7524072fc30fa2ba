"""The demo's plot: quality against cost, latency, calls per core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.demo.result import DemoResult

FIFO_COLOUR, ECCOS_COLOUR, QUIET_COLOUR = "#d1603d", "#1f6f8b", "#8a8f98"
LONGEST_NAME = 32  # characters of a core's name that are shown
INCHES_PER_CORE = 0.42
FINE_TICKS_BELOW = 60  # ratio of the axis below which ticks at 2 and 5 fit, too


def draw(result: DemoResult, path: Path) -> Path | None:
    """Write the plot as PNG; None if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    height = max(4.2, 1 + INCHES_PER_CORE * len(result.alone))
    figure = Figure(figsize=(14, height), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    _quality_and_cost(left, result)
    _latency(middle, result)
    _calls(right, result)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    return path


def _quality_and_cost(axes: Any, result: DemoResult) -> None:
    _title(axes, "Quality against cost")
    axes.axhline(result.quality_target, color=QUIET_COLOUR, linestyle=":", linewidth=1)
    axes.annotate(
        f"quality target {result.quality_target:.0%}",
        (0.01, result.quality_target),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=QUIET_COLOUR,
        fontsize=8,
    )
    for number, alone in enumerate(result.alone, start=1):
        place = alone.cost_usd_per_1000, alone.quality
        axes.plot(*place, "o", color="white", markeredgecolor=QUIET_COLOUR, ms=13)
        axes.annotate(str(number), place, ha="center", va="center", color="black", fontsize=8)
    for run, colour, marker in ((result.fifo, FIFO_COLOUR, "s"), (result.eccos, ECCOS_COLOUR, "D")):
        axes.plot(run.cost_usd_per_1000, run.quality, marker, color=colour, ms=9, zorder=3)
        axes.annotate(
            run.policy,
            (run.cost_usd_per_1000, run.quality),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontweight="bold",
            zorder=4,
        )
    axes.margins(x=0.18, y=0.2)
    axes.set_xlabel("US dollars per 1,000 calls; circles: all calls to core 1, 2, …")
    axes.set_ylabel("mean quality")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    costs = [run.cost_usd_per_1000 for run in (result.fifo, result.eccos)]
    _logarithmic(axes, costs + [alone.cost_usd_per_1000 for alone in result.alone])
    axes.xaxis.set_major_formatter(lambda value, _: f"${value:g}")


def _latency(axes: Any, result: DemoResult) -> None:
    _title(axes, "Time until an agent has its answer")
    runs = ((result.fifo, FIFO_COLOUR), (result.eccos, ECCOS_COLOUR))
    slowest = max(run.latency_s(50) for run, _ in runs)
    for run, colour in runs:
        latencies = np.sort(run.latencies_s)
        share = np.arange(1, len(latencies) + 1) / len(latencies)
        axes.step(latencies, share, where="post", color=colour, linewidth=2)
        median = run.latency_s(50)
        axes.plot(median, 0.5, "o", color=colour, ms=6)
        axes.annotate(
            f"{run.policy}\nmedian {median:.2g} s",
            (median, 0.5),
            xytext=(-8, 6) if median == slowest else (8, -6),
            textcoords="offset points",
            ha="right" if median == slowest else "left",
            va="bottom" if median == slowest else "top",
            color=colour,
            fontweight="bold",
            fontsize=9,
        )
    _logarithmic(axes, [latency for run, _ in runs for latency in run.latencies_s])
    axes.set_ylim(0, 1.02)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds")
    axes.set_ylabel("share of calls")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _calls(axes: Any, result: DemoResult) -> None:
    _title(axes, "Calls per core (most at once / quota)")
    runs = (result.fifo, result.eccos)
    places = np.arange(len(result.alone))
    thickness = 0.38
    for run, colour, shift in zip(runs, (FIFO_COLOUR, ECCOS_COLOUR), (-0.5, 0.5), strict=True):
        middles = places + shift * thickness
        axes.barh(middles, [use.calls for use in run.cores], thickness * 0.94, color=colour)
        for middle, use in zip(middles, run.cores, strict=True):
            if use.calls:
                over = use.max_in_flight > use.quota
                axes.annotate(
                    f"{use.calls} ({use.max_in_flight}/{use.quota})",
                    (use.calls, middle),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    color="#b00020" if over else "black",
                )
    names = [f"{_shortened(use.name)}  {number}" for number, use in enumerate(result.fifo.cores, start=1)]
    axes.set_yticks(places, names, fontsize=9)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlim(0, 1.25 * max(use.calls for run in runs for use in run.cores))
    axes.set_xlabel("calls")


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _logarithmic(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5, where no value is zero."""
    from matplotlib.ticker import LogLocator, NullLocator

    if min(values) <= 0:
        return
    axes.set_xscale("log")
    steps = (1.0, 2.0, 5.0) if max(values) < FINE_TICKS_BELOW * min(values) else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_minor_locator(NullLocator())


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold")
