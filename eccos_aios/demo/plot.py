"""The demo's plot: quality against cost, latency, calls per core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.demo.result import NORMAL_95, DemoResult, RunResult, quality_difference
from eccos_aios.plot_style import (
    ECCOS,
    QUIET,
    SECOND,
    THIRD,
    Label,
    Line,
    logarithmic,
    money_axis,
    new_figure,
    place_labels,
    save,
    share_axis,
    styled,
)

LONGEST_NAME = 32  # characters of a core's name that are shown
INCHES_PER_CORE = 0.42
COLOURS = {"FIFO": SECOND, "SmartRouting": THIRD, "ECCOS": ECCOS}
OVER = "#b00020"  # of a quota that was exceeded


def draw(result: DemoResult, path: Path) -> Path | None:
    """Write the plot as PNG; None if matplotlib is not installed."""
    try:
        figure = new_figure(15, max(4.8, 1 + INCHES_PER_CORE * len(result.alone)))
    except ModuleNotFoundError:
        return None
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.2, 0.9))
    styled(left, _cost_title(result), "US dollars per 1,000 calls", "mean quality, 95 % interval")
    styled(middle, _latency_title(result), "seconds until an agent has its answer", "share of calls")
    styled(right, "Calls per core (most at once / quota)", "calls")
    _calls(right, result)
    labelled = [_quality_and_cost(left, result), _latency(middle, result)]
    for axes, (labels, lines) in zip((left, middle), labelled, strict=True):
        place_labels(axes, labels, lines)
    return save(figure, path)


def _colour(run: RunResult) -> str:
    return COLOURS.get(run.policy, QUIET)


def _quality_and_cost(axes: Any, result: DemoResult) -> tuple[list[Label], list[Line]]:
    """Every run, and the cores that none stands for; returns labels and lines."""
    axes.axhline(result.quality_target, color=QUIET, linestyle=":", linewidth=1.2, zorder=1)
    axes.annotate(
        f"quality target {result.quality_target:.0%}",
        (0.01, result.quality_target),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=QUIET,
        fontsize=9,
    )
    labels: list[Label] = []
    lines: list[Line] = []
    for run in sorted(result.runs, key=lambda run: run is not result.eccos):
        place, spread = (run.cost_usd_per_1000, run.quality), NORMAL_95 * run.quality_error
        is_ours = run is result.eccos
        axes.errorbar(
            *place,
            yerr=spread,
            fmt="D" if is_ours else "o",
            ms=8,
            color=_colour(run),
            elinewidth=1,
            zorder=4 + (run.policy in COLOURS) + is_ours,
        )
        lines.append([(place[0], place[1] - spread), (place[0], place[1] + spread)])
        labels.append(Label(run.policy, [place], _colour(run), is_ours))
    run_alone = {run.policy.removeprefix("all to ") for run in result.others}
    for core in result.alone:
        if core.name not in run_alone:
            place = core.cost_usd_per_1000, core.quality
            axes.plot(*place, "o", color="white", markeredgecolor=QUIET, ms=8, zorder=3)
            labels.append(Label(f"all to {_shortened(core.name)}", [place], QUIET))
    money_axis(axes, [label.anchors[0][0] for label in labels])
    share_axis(axes.yaxis)
    axes.margins(x=0.16, y=0.14)
    return labels, lines


def _latency(axes: Any, result: DemoResult) -> tuple[list[Label], list[Line]]:
    labels: list[Label] = []
    lines: list[Line] = []
    for run in sorted(result.runs, key=lambda run: run is not result.eccos):
        latencies = np.sort(run.latencies_s)
        share = np.arange(1, len(latencies) + 1) / len(latencies)
        is_ours = run is result.eccos
        axes.step(latencies, share, where="post", color=_colour(run), linewidth=2.2 if is_ours else 1.4)
        line = list(zip(latencies.tolist(), share.tolist(), strict=True))
        lines.append(line)
        anchors = [line[int(part * (len(line) - 1))] for part in (0.5, 0.7, 0.3, 0.9, 0.1)]
        text = f"{run.policy} {run.latency_s(50):.2g} s"
        labels.append(Label(text, anchors, _colour(run), is_ours))
    logarithmic(axes, [latency for run in result.runs for latency in run.latencies_s])
    axes.set_ylim(0, 1.02)
    axes.margins(x=0.25)
    share_axis(axes.yaxis)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return labels, lines


def _calls(axes: Any, result: DemoResult) -> None:
    runs = [run for run in result.runs if len(run.cores) == len(result.alone)]
    places = np.arange(len(result.alone))
    thickness = 0.8 / len(runs)
    for number, run in enumerate(runs):
        middles = places + (number - (len(runs) - 1) / 2) * thickness
        axes.barh(middles, [use.calls for use in run.cores], thickness * 0.92, color=_colour(run))
        for middle, use in zip(middles, run.cores, strict=True):
            over = use.max_in_flight > use.quota
            text = (
                f"{run.policy} {use.calls} ({use.max_in_flight}/{use.quota})"
                if use.calls
                else f"{run.policy} 0"
            )
            axes.annotate(
                text + (" over its quota" if over else ""),
                (use.calls, middle),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=OVER if over else QUIET,
            )
    axes.set_yticks(places, [_shortened(use.name) for use in result.fifo.cores], fontsize=9)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlim(0, 1.8 * max(use.calls for run in runs for use in run.cores))
    axes.grid(visible=False)


def _cost_title(result: DemoResult) -> str:
    if not result.fifo.cost_usd_per_1000:
        return "Quality against cost"
    share = result.eccos.cost_usd_per_1000 / result.fifo.cost_usd_per_1000
    difference, error = quality_difference(result.eccos, result.fifo)
    spread = 100 * NORMAL_95 * error
    points = f"{100 * difference:+.1f} ± {spread:.1f} points".replace("-", "−")
    return f"ECCOS costs {share:.0%} of FIFO, at {points}"


def _latency_title(result: DemoResult) -> str:
    medians = (f"{run.latency_s(50):.2g} s" for run in (result.eccos, result.fifo))
    return "Median answer: ECCOS after {}, FIFO after {}".format(*medians)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
