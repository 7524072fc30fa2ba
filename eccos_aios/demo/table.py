"""The demo's table."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table

from eccos_aios.demo.result import CoreUse, DemoResult, RunResult

INSTALL_PLOT = "pip install 'eccos-aios[plot]'"


def print_result(result: DemoResult, console: Console) -> None:
    """Print the table, and where the files are."""
    console.print(_table(result))
    console.print(_verdict(result), highlight=False)
    if result.plot is None:
        console.print(f"no plot without matplotlib: {INSTALL_PLOT}", markup=False, highlight=False)
    console.print(f"files: {result.out}", markup=False, highlight=False, soft_wrap=True)


def _table(result: DemoResult) -> Table:
    table = Table(
        title=f"{result.questions} questions, {result.callers} agents at once, three sandbox cores",
        caption=f"{result.history} records learned from · quality target {result.quality_target:.0%} · "
        f"{result.seconds:.0f} s in all",
        box=box.SIMPLE_HEAD,
    )
    runs = (result.fifo, result.eccos)
    table.add_column("")
    for run in runs:
        table.add_column(run.policy, justify="right")
    rows = {
        "accuracy": _accuracy,
        "accuracy that it predicted": _predicted,
        "cost per 1,000 calls": lambda run: f"${run.cost_usd_per_1000:.4f}",
        "latency p50": lambda run: f"{run.latency_s(50):.2f} s",
        "latency p95": lambda run: f"{run.latency_s(95):.2f} s",
        "calls per second": lambda run: f"{run.calls_per_s:.1f}",
        "decision time p50 / p99": _decision_time,
    }
    for name, shown in rows.items():
        table.add_row(name, *(shown(run) for run in runs))
    table.add_section()
    table.add_row("[dim]calls · most at once / quota[/dim]")
    for uses in zip(*(run.cores for run in runs), strict=True):
        table.add_row(uses[0].name, *map(_use, uses))
    return table


def _accuracy(run: RunResult) -> str:
    error = math.sqrt(run.accuracy * (1 - run.accuracy) / run.calls)
    return f"{run.accuracy:.1%} ± {error * 100:.1f}"


def _predicted(run: RunResult) -> str:
    return "none" if run.predicted_quality is None else f"{run.predicted_quality:.1%}"


def _decision_time(run: RunResult) -> str:
    if run.decision_ms_p50 is None or run.decision_ms_p99 is None:
        return "none"
    return f"{run.decision_ms_p50:.2f} / {run.decision_ms_p99:.2f} ms"


def _use(use: CoreUse) -> str:
    held = f"{use.max_in_flight} / {use.quota}"
    return f"{use.calls} · " + (f"[red]{held} over[/red]" if use.max_in_flight > use.quota else held)


def _verdict(result: DemoResult) -> str:
    fifo, eccos = result.fifo, result.eccos
    return (
        f"ECCOS: {eccos.cost_usd_per_1000 / fifo.cost_usd_per_1000:.0%} of FIFO's cost, "
        f"{eccos.calls_per_s / fifo.calls_per_s:.1f}× its calls per second, "
        f"{(eccos.accuracy - fifo.accuracy) * 100:+.1f} points of accuracy"
    )
