"""``eccos-aios bench`` without a subcommand: the replay of recorded outcomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from eccos_aios.bench.figures import BASELINE
from eccos_aios.bench.policy import SMART_THRESHOLD
from eccos_aios.bench.replay import replay_history
from eccos_aios.bench.report import results_of, shown_points, write_report
from eccos_aios.cli.progress import show_progress
from eccos_aios.cli.table import INSTALL_PLOT, UNKNOWN, make_table, print_tables
from eccos_aios.core import read_manifest
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import ReadReport, read_history
from eccos_aios.predict import PredictorSpec


def run_replay(
    history: Path,
    cores: Path,
    folds: int,
    policies: Sequence[str] | None,
    out: Path,
    *,
    seed: int = 0,
    predictor: PredictorSpec | None = None,
    skip_bad_records: bool = False,
    as_json: bool = False,
) -> None:
    """Read, replay, write the report to `out`, and print it.

    Raises
    ------
    HistoryError, ConfigError
        A file is wrong, or does not suit the folds, the manifest or the policies.
    """
    manifest = read_manifest(cores)
    report = ReadReport()
    records = read_history(history, skip_bad_records=skip_bad_records, report=report)
    if report.faults:
        click.echo(f"{history}: left out {len(report.faults)} bad records", err=True)
    try:
        with show_progress() as on_step:
            played = replay_history(
                records,
                manifest.cores,
                folds,
                policies or None,
                seed=seed,
                predictor=predictor,
                on_step=on_step,
            )
    except ValueError as error:
        raise HistoryError(str(history), "", ABSENT, str(error)) from error
    results = results_of(played)
    written = write_report(results, out)
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
        return
    print_tables(
        _policy_table(results),
        _headline_table(results),
        "wrote " + ", ".join(str(path) for path in written),
    )
    if len(written) == 1:
        print_tables(f"no plots without matplotlib: {INSTALL_PLOT}")


def _headline_table(results: dict[str, Any]) -> Table:
    """The policies with quality targets against SmartRouting."""
    table = make_table(
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
            _with_interval(row["cost_share"], "{:.2f}"),
            _with_interval(row["quality_gain"], "{:+.1%}"),
            _with_interval(row["gap_closed"], "{:.0%}"),
            _with_interval(row["worst_promise"], "{:+.1f}", 100),
            _with_interval(row["cost_error"], "{:+.1%}"),
        )
    return table


def _policy_table(results: dict[str, Any]) -> Table:
    """Every policy; one with several targets at the best quality it reached, SmartRouting at AIOS's."""
    table = make_table(
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
            _with_interval(row["quality"], "{:.4f}"),
            _with_interval(row["cost"], "{:.4f}"),
            f"{row['placed']:.0%}",
        )
    return table


def _with_interval(figure: dict[str, float | None], pattern: str, scale: float = 1.0) -> str:
    if figure["value"] is None:
        return UNKNOWN
    value = pattern.format(figure["value"] * scale)
    if figure["low"] is None or figure["high"] is None:
        return value
    return f"{value} ({pattern.format(figure['low'] * scale)} … {pattern.format(figure['high'] * scale)})"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
