"""``eccos-aios bench`` without a subcommand: the replay of recorded outcomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from eccos_aios.bench.figures import BASELINE, ROUTING
from eccos_aios.bench.policy import SMART_THRESHOLD
from eccos_aios.bench.replay import Options, Replay, replay_history, replay_test
from eccos_aios.bench.report import results_of, shown_points, write_report
from eccos_aios.bench.splits import SplitReplay, replay_splits
from eccos_aios.cli.progress import OnStep, show_progress
from eccos_aios.cli.table import INSTALL_PLOT, UNKNOWN, make_table, print_tables
from eccos_aios.core import Core, read_manifest
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import ReadReport, Record, read_history


@dataclass(frozen=True)
class Scheme:
    """What is learned from and what is measured: a file, splits, or else folds."""

    folds: int
    splits: int | None
    train_records: int | None
    test: Path | None
    seed: int


def run_replay(
    history: Path,
    cores: Path,
    out: Path,
    options: Options,
    scheme: Scheme,
    *,
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
    records = _read(history, skip_bad_records)
    test = None if scheme.test is None else _read(scheme.test, skip_bad_records)
    if test is not None:
        known = {record.query.strip() for record in records}
        common = sum(record.query.strip() in known for record in test)
        if common:
            click.echo(f"{scheme.test}: {common} of {len(test)} queries are in the history, too", err=True)
    try:
        with show_progress() as on_step:
            played = _played(records, test, manifest.cores, options, scheme, on_step)
    except ValueError as error:
        raise HistoryError(str(history), "", ABSENT, str(error)) from error
    results = results_of(played)
    written = write_report(results, out)
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
        return
    print_tables(
        _policy_table(results),
        *(table for table in (_headline_table(results), _trust_table(results)) if table.row_count),
        *([_plan_table(results["plans"], _how(results))] if results["plans"] else []),
        "wrote " + ", ".join(str(path) for path in written),
    )
    if len(written) == 1:
        print_tables(f"no plots without matplotlib: {INSTALL_PLOT}")


def _read(path: Path, skip_bad_records: bool) -> Sequence[Record]:
    report = ReadReport()
    records = read_history(path, skip_bad_records=skip_bad_records, report=report)
    if report.faults:
        click.echo(f"{path}: left out {len(report.faults)} bad records", err=True)
    return records


def _played(
    records: Sequence[Record],
    test: Sequence[Record] | None,
    cores: Sequence[Core],
    options: Options,
    scheme: Scheme,
    on_step: OnStep,
) -> Replay | SplitReplay:
    if scheme.splits is not None:
        return replay_splits(
            records,
            cores,
            scheme.splits,
            options,
            train_records=scheme.train_records,
            seed=scheme.seed,
            on_step=on_step,
        )
    if test is not None:
        return replay_test(records, test, cores, options, seed=scheme.seed, on_step=on_step)
    return replay_history(
        records,
        cores,
        scheme.folds,
        options.names,
        targets=options.targets,
        seed=scheme.seed,
        predictor=options.predictor,
        plans=options.plans,
        max_calls=options.max_calls,
        on_step=on_step,
    )


def _how(results: dict[str, Any]) -> str:
    """How the figures were made, for the titles."""
    if "splits" not in results:
        return "value ± standard error"
    learned, tested = results["learned"], results["records"]
    return f"{results['splits']} splits, {learned} records learned, {tested} measured: mean ± standard error"


def _headline_table(results: dict[str, Any]) -> Table:
    """The policies with quality targets against SmartRouting and the best single core."""
    table = make_table(
        "policy",
        "quotas",
        f"cost at {BASELINE}'s quality",
        "above the floor",
        f"quality at {BASELINE}'s cost",
        "cost at the best core's quality",
        "gap to the oracle closed",
        title=f"against {BASELINE} at {SMART_THRESHOLD:g} and the best core, {_how(results)}",
    )
    for row in results["headlines"]:
        table.add_row(
            row["policy"],
            _yes(row["quotas"]),
            _with_error(row["cost_share"], "{:.2f}"),
            _with_error(row["floor_share"], "{:.2f}"),
            _with_error(row["quality_gain"], "{:+.1%}"),
            _with_error(row["single_cost_share"], "{:.2f}"),
            _with_error(row["gap_closed"], "{:.0%}"),
        )
    return table


def _trust_table(results: dict[str, Any]) -> Table:
    """Whether the policies deliver what they promise, and what that costs."""
    table = make_table(
        "policy",
        "quotas",
        "worst promise, points",
        "mean promise",
        "worst cost error",
        "over the mix at worst, points",
        "in the mean",
        f"asked {BASELINE} + 1: points",
        "cost",
        "unreachable: cost",
        title=f"promised less delivered, against the mix, without hindsight, {_how(results)}",
    )
    for row in results["headlines"]:
        table.add_row(
            row["policy"],
            _yes(row["quotas"]),
            _with_error(row["worst_promise"], "{:+.1f}", 100),
            _with_error(row["mean_promise"], "{:+.1f}", 100),
            _with_error(row["cost_error"], "{:+.1%}"),
            _with_error(row["worst_over_mix"], "{:+.1f}", 100),
            _with_error(row["mean_over_mix"], "{:+.1f}", 100),
            _with_error(row["reference_gain"], "{:+.1f}", 100),
            _with_error(row["reference_cost"], "{:.2f}"),
            _with_error(row["corner"], "{:.2f}"),
        )
    return table


def _plan_table(rows: Sequence[dict[str, Any]], how: str) -> Table:
    """Plans against routing to one core."""
    table = make_table(
        "policy",
        "quality for at most the best core's cost, points",
        "if all is spent",
        "cost of routing's best quality",
        "gap to the oracle closed",
        "by routing",
        "extra calls per call",
        "seconds",
        "by routing",
        title=f"against {ROUTING}, {how}",
    )
    for row in rows:
        table.add_row(
            row["policy"],
            _with_error(row["quality_gain"], "{:+.1f}", 100),
            _with_error(row["quality_gain_spent"], "{:+.1f}", 100),
            _with_error(row["cost_share"], "{:.2f}"),
            _with_error(row["gap_closed"], "{:.0%}"),
            _with_error(row["routing_gap_closed"], "{:.0%}"),
            *(
                UNKNOWN if row[key] is None else f"{row[key]:.2f}"
                for key in ("extra_calls", "seconds", "routing_seconds")
            ),
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
            _with_error(row["quality"], "{:.4f}"),
            _with_error(row["cost"], "{:.4f}"),
            f"{row['placed']:.0%}",
        )
    return table


def _with_error(figure: dict[str, float | None], pattern: str, scale: float = 1.0) -> str:
    """A figure with its standard error."""
    value, low, high, error = (figure[key] for key in ("value", "low", "high", "se"))
    if value is None:
        return UNKNOWN
    text = pattern.format(value * scale)
    if low is None or high is None or error is None:
        return text
    return f"{text} ± {pattern.format(error * scale).lstrip('+')}"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
