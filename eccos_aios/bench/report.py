"""The report of a replay: results.json and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_aios.bench.curves import curves_of
from eccos_aios.bench.figures import (
    BASELINE,
    Bootstrap,
    OverSplits,
    Spread,
    headlines,
    plan_headlines,
    points,
)
from eccos_aios.bench.policy import SMART_THRESHOLD
from eccos_aios.bench.replay import Replay
from eccos_aios.bench.splits import SplitReplay
from eccos_aios.frames import frame_of

if TYPE_CHECKING:
    import pandas

RESULTS, COST_PLOT, PROMISE_PLOT = "results.json", "cost_quality.png", "reliability.png"


def results_of(replay: Replay | SplitReplay) -> dict[str, Any]:
    """All figures of a replay, ready for JSON; None where a figure is undefined.

    Figures of splits are means over the splits with the corrected standard error.
    """
    spread: Spread
    if isinstance(replay, SplitReplay):
        curves = replay.curves
        spread = OverSplits(replay.tested / replay.learned)
        made = {"splits": len(curves.oracle), "records": replay.tested, "learned": replay.learned}
    else:
        curves, spread = curves_of(replay), Bootstrap()
        made = {"folds": replay.folds, "records": replay.records, "learned": replay.learned}
    names = [core.name for core in replay.cores]
    content = {
        **made,
        "seed": replay.seed,
        "cores": names,
        "best_single": float(spread.centre(curves.best_single)),
        "oracle": float(spread.centre(curves.oracle)),
        "headlines": [asdict(headline) for headline in headlines(curves, spread)],
        "plans": [asdict(row) for row in plan_headlines(curves, spread)],
        "points": [asdict(point) for point in points(curves, names, spread)],
    }
    finite: dict[str, Any] = _without_nan(content)
    return finite


def points_frame(replay: Replay | SplitReplay) -> pandas.DataFrame:
    """The points of `results_of` as a pandas DataFrame: a row per policy and level.

    Raises
    ------
    ImportError
        pandas is not installed.
    """
    return frame_of(results_of(replay)["points"])


def write_report(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``results.json`` and, where matplotlib is installed, two plots; returns the files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / RESULTS]
    written[0].write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    try:
        from eccos_aios.bench.replay_plot import plot_cost, plot_promise
    except ImportError:
        return written
    plot_cost(results, folder / COST_PLOT)
    plot_promise(results, folder / PROMISE_PLOT)
    return [*written, folder / COST_PLOT, folder / PROMISE_PLOT]


def shown_points(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One point for each policy, without and with quotas, see the table of `bench`."""
    shown: dict[tuple[str, bool], dict[str, Any]] = {}
    for row in rows:
        if row["policy"] == BASELINE and row["level"] != SMART_THRESHOLD:
            continue
        key = row["policy"], row["quotas"]
        best = shown.get(key)
        quality = row["quality"]["value"]
        if best is None or (quality is not None and quality > (best["quality"]["value"] or 0.0)):
            shown[key] = row
    return list(shown.values())


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
