"""The demo's picture: quality against cost, latency, calls per core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.demo.result import DemoResult

FIFO_COLOUR, ECCOS_COLOUR, QUIET_COLOUR = "#d1603d", "#1f6f8b", "#8a8f98"
CORE_COLOURS = ("#22333b", "#6b9080", "#c9d6c3")


def draw(result: DemoResult, path: Path) -> Path | None:
    """Write the picture as PNG; None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    figure = Figure(figsize=(13, 4.2), layout="constrained")
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
    for alone in result.alone:
        axes.plot(
            alone.cost_usd_per_1000, alone.quality, "o", color="white", markeredgecolor=QUIET_COLOUR, ms=8
        )
        axes.annotate(
            f"all to {alone.name}",
            (alone.cost_usd_per_1000, alone.quality),
            xytext=(0, -10),
            textcoords="offset points",
            ha="center",
            va="top",
            color=QUIET_COLOUR,
            fontsize=8,
        )
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
        )
    axes.set_xscale("log")
    axes.margins(x=0.18, y=0.2)
    axes.set_xlabel("US dollars per 1,000 calls (log)")
    axes.set_ylabel("mean quality")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.set_major_formatter(lambda value, _: f"${value:g}")
    axes.xaxis.set_minor_formatter(lambda *_: "")


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
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds (log)")
    axes.set_ylabel("share of calls")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda *_: "")


def _calls(axes: Any, result: DemoResult) -> None:
    _title(axes, "Calls per core (most at once / quota)")
    runs = (result.fifo, result.eccos)
    places = np.arange(len(result.alone))
    width = 0.38
    tallest = max(use.calls for run in runs for use in run.cores)
    for run, colour, shift in zip(runs, (FIFO_COLOUR, ECCOS_COLOUR), (-width / 2, width / 2), strict=True):
        calls = [use.calls for use in run.cores]
        axes.bar(places + shift, calls, width * 0.94, color=colour, label=run.policy)
        for place, use in zip(places, run.cores, strict=True):
            if use.calls:
                over = use.max_in_flight > use.quota
                axes.annotate(
                    f"{use.calls}\n({use.max_in_flight}/{use.quota})",
                    (place + shift, use.calls),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8.5,
                    color="#b00020" if over else "black",
                )
    axes.set_xticks(places, [use.name for use in result.fifo.cores])
    axes.set_ylim(0, tallest * 1.2)
    axes.set_ylabel("calls")
    axes.legend(frameon=False, loc="upper right")


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold")
