"""What a replay is told with: results.json, tables and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_aios.bench.figures import BASELINE, Sample, headlines, points
from eccos_aios.bench.policy import SMART_THRESHOLD

if TYPE_CHECKING:
    from rich.table import Table

    from eccos_aios.bench.replay import Replay

RESULTS, COST_PLOT, PROMISE_PLOT = "results.json", "cost_quality.png", "reliability.png"


def results_of(replay: Replay) -> dict[str, Any]:
    """All figures of a replay, ready for JSON; what cannot be told is None."""
    sample = Sample(replay)
    content = {
        "records": replay.records,
        "folds": replay.folds,
        "seed": replay.seed,
        "cores": [core.name for core in replay.cores],
        "best_single": replay.best_single,
        "oracle": replay.oracle,
        "headlines": [asdict(headline) for headline in headlines(sample)],
        "points": [asdict(point) for point in points(sample)],
    }
    finite: dict[str, Any] = _without_nan(content)
    return finite


def write_report(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``results.json`` and, where matplotlib is installed, two plots; returns what was written."""
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


def headline_table(results: dict[str, Any]) -> Table:
    """The policies with quality targets against SmartRouting."""
    from rich.table import Table

    table = Table(
        "policy",
        "quotas",
        f"cost at {BASELINE}'s quality",
        f"quality at {BASELINE}'s cost",
        "gap to the oracle closed",
        "worst promise, points",
        "worst cost error",
        title=f"against {BASELINE} at {SMART_THRESHOLD:g}, 95 % intervals",
    )
    for row in results["headlines"]:
        table.add_row(
            row["policy"],
            _yes(row["quotas"]),
            _told(row["cost_share"], "{:.2f}"),
            _told(row["quality_gain"], "{:+.1%}"),
            _told(row["gap_closed"], "{:.0%}"),
            _told(row["worst_promise"], "{:+.1f}", 100),
            _told(row["cost_error"], "{:+.1%}"),
        )
    return table


def policy_table(results: dict[str, Any]) -> Table:
    """Every policy; one with levels at the one of the best quality, SmartRouting at AIOS's."""
    from rich.table import Table

    table = Table(
        "policy",
        "quotas",
        "level",
        "quality",
        "$ per 1,000 calls",
        "placed",
        title=f"best single core {results['best_single']:.4f}, oracle {results['oracle']:.4f}",
    )
    for row in shown_points(results["points"]):
        table.add_row(
            row["policy"],
            _yes(row["quotas"]),
            "" if row["level"] is None else f"{row['level']:g}",
            _told(row["quality"], "{:.4f}"),
            _told(row["cost"], "{:.4f}"),
            f"{row['placed']:.0%}",
        )
    return table


def shown_points(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One point for each policy, without and with quotas."""
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


def _told(figure: dict[str, float | None], pattern: str, scale: float = 1.0) -> str:
    if figure["value"] is None:
        return "–"
    value = pattern.format(figure["value"] * scale)
    if figure["low"] is None or figure["high"] is None:
        return value
    return f"{value} ({pattern.format(figure['low'] * scale)} … {pattern.format(figure['high'] * scale)})"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
