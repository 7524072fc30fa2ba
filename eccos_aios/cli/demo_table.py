"""The table of the ``demo`` command."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from eccos_aios.cli.table import INSTALL_PLOT, make_table, print_tables
from eccos_aios.demo.result import CoreUse, DemoResult, RunResult


def print_result(result: DemoResult) -> None:
    """Print the table, the notes that its reader needs, and where the files are."""
    print_tables(_table(result))
    if result.time_scale < 1:
        share = f"1/{1 / result.time_scale:.0f}"
        print_tables(
            f"note: latencies, AIOS's pauses and ECCOS's waits take {share} of their time; "
            "seconds above are as measured"
        )
    print_tables(*(f"note: {note}" for note in result.notes), _verdict(result))
    if result.plot is None:
        print_tables(f"no plot without matplotlib: {INSTALL_PLOT}")
    print_tables(f"files: {result.out}")


def _table(result: DemoResult) -> Table:
    runs = (result.fifo, result.eccos)
    table = make_table("", *(run.policy for run in runs), title=_title(result), caption=_caption(result))
    rows = {
        "quality": lambda run: f"{run.quality:.1%} ± {run.quality_error * 100:.1f}",
        "predicted quality": _predicted,
        "cost per 1,000 calls": lambda run: f"${run.cost_usd_per_1000:.4f}",
        "latency p50": lambda run: f"{run.latency_s(50):.2f} s",
        "latency p95": lambda run: f"{run.latency_s(95):.2f} s",
        "calls per second": lambda run: f"{run.calls_per_s:.1f}",
        "decision time p50 / p99": _decision_time,
    }
    if any(run.errors for run in runs):
        rows["calls that ended in an error"] = lambda run: str(run.errors)
    for name, shown in rows.items():
        table.add_row(name, *(shown(run) for run in runs))
    table.add_section()
    table.add_row(Text("calls · most at once / quota", style="dim"))
    for uses in zip(*(run.cores for run in runs), strict=True):
        table.add_row(uses[0].name, *map(_use, uses))
    return table


def _title(result: DemoResult) -> str:
    cores = len(result.alone)
    return f"{result.questions} questions, {result.callers} agents at once, {cores} sandbox core" + "s" * (
        cores > 1
    )


def _caption(result: DemoResult) -> str:
    parts = [f"{result.records} past records", f"quality target {result.quality_target:.0%}"]
    if result.time_scale < 1:
        parts.append(f"{1 / result.time_scale:.0f} times as fast as recorded")
    return " · ".join([*parts, f"{result.seconds:.0f} s in all"])


def _predicted(run: RunResult) -> str:
    return "none" if run.predicted_quality is None else f"{run.predicted_quality:.1%}"


def _decision_time(run: RunResult) -> str:
    if run.decision_ms_p50 is None or run.decision_ms_p99 is None:
        return "none"
    return f"{run.decision_ms_p50:.2f} / {run.decision_ms_p99:.2f} ms"


def _use(use: CoreUse) -> Text:
    text = Text(f"{use.calls} · ")
    held = f"{use.max_in_flight} / {use.quota}"
    return text.append(f"{held} over", style="red") if use.max_in_flight > use.quota else text.append(held)


def _verdict(result: DemoResult) -> str:
    fifo, eccos = result.fifo, result.eccos
    cost = (
        f"{eccos.cost_usd_per_1000 / fifo.cost_usd_per_1000:.0%} of FIFO's cost"
        if fifo.cost_usd_per_1000
        else "no prices to compare"
        if not eccos.cost_usd_per_1000
        else f"${eccos.cost_usd_per_1000:.4f} per 1,000 calls where FIFO's core is free"
    )
    return (
        f"ECCOS: {cost}, {eccos.calls_per_s / fifo.calls_per_s:.1f}× its calls per second, "
        f"{(eccos.quality - fifo.quality) * 100:+.1f} points of quality"
    )
