"""The table of the ``demo`` command."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from eccos_aios.cli.table import INSTALL_PLOT, UNKNOWN, dollars, make_table, print_tables
from eccos_aios.demo.result import NORMAL_95, CoreUse, DemoResult, RunResult, quality_difference
from eccos_aios.demo.run import FEW_QUESTIONS


def print_result(result: DemoResult) -> None:
    """Print the tables, the notes that their reader needs, and where the files are."""
    print_tables(_table(result), _use_table(result))
    if result.time_scale < 1:
        share = f"1/{1 / result.time_scale:.0f}"
        print_tables(
            f"note: latencies, AIOS's pauses and ECCOS's waits take {share} of their time; "
            "seconds above are as measured"
        )
    print_tables(*(f"note: {note}" for note in result.notes), *_verdicts(result))
    if result.plot is None:
        print_tables(f"no plot without matplotlib: {INSTALL_PLOT}")
    print_tables(f"files: {result.out}")


def _table(result: DemoResult) -> Table:
    headings = ["policy", "quality", "$ per 1,000", "p50", "p95", "calls/s"]
    if any(run.errors for run in result.runs):
        headings.append("errors")
    table = make_table(*headings, title=_title(result), caption=_caption(result))
    for run in result.runs:
        style = "bold" if run is result.eccos else ""
        row: list[Text | str] = [
            Text(run.policy, style),
            f"{run.quality:.1%} ± {run.quality_error * 100:.1f}",
            _with_error(run),
            f"{run.latency_s(50):.2f} s",
            f"{run.latency_s(95):.2f} s" if run.calls >= FEW_QUESTIONS else UNKNOWN,
            f"{run.calls_per_s:.1f}",
            str(run.errors),
        ]
        table.add_row(*row[: len(headings)])
    return table


def _with_error(run: RunResult) -> str:
    """The cost with its standard error, to as many digits."""
    cost = dollars(run.cost_usd_per_1000)
    digits = len(cost.partition(".")[2])
    return f"{cost} ± {run.cost_error:.{digits}f}"


def _use_table(result: DemoResult) -> Table:
    """Calls of each core, and whether its quota held, under AIOS's two and under ECCOS."""
    runs = [run for run in result.runs if len(run.cores) == len(result.alone)]
    table = make_table("calls · most at once / quota", *(run.policy for run in runs))
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
    return " · ".join([*parts, f"{result.seconds:.0f} s in all", "± standard error"])


def _use(use: CoreUse) -> Text:
    text = Text(f"{use.calls} · ")
    held = f"{use.max_in_flight} / {use.quota}"
    return text.append(f"{held} over", style="red") if use.max_in_flight > use.quota else text.append(held)


def _verdicts(result: DemoResult) -> Iterator[str]:
    eccos = result.eccos
    yield _own(eccos)
    for other in (result.fifo, *result.others):
        parts = ", ".join(compared(eccos, other) for compared in (_cost, _speed, _quality))
        yield f"against {other.policy}: {parts}"


def _own(eccos: RunResult) -> str:
    parts = []
    if eccos.predicted_quality is not None:
        parts.append(f"predicted quality {eccos.predicted_quality:.1%}")
    if eccos.decision_ms_p50 is not None and eccos.decision_ms_p99 is not None:
        parts.append(f"decided in {eccos.decision_ms_p50:.2f} ms (p99 {eccos.decision_ms_p99:.2f} ms)")
    return "ECCOS " + (", ".join(parts) or "made no estimates")


def _cost(eccos: RunResult, other: RunResult) -> str:
    if other.cost_usd_per_1000:
        return f"{eccos.cost_usd_per_1000 / other.cost_usd_per_1000:.0%} of its cost"
    if not eccos.cost_usd_per_1000:
        return "no prices to compare"
    return f"{dollars(eccos.cost_usd_per_1000)} per 1,000 calls where it is free"


def _speed(eccos: RunResult, other: RunResult) -> str:
    return f"{eccos.calls_per_s / other.calls_per_s:.1f}× its calls per second"


def _quality(eccos: RunResult, other: RunResult) -> str:
    """The difference with its 95 % interval; one that holds 0 is none that so many questions can tell."""
    difference, error = quality_difference(eccos, other)
    spread = NORMAL_95 * error * 100
    text = f"{difference * 100:+.1f} ± {spread:.1f} points of quality"
    if abs(difference * 100) > spread and eccos.calls >= FEW_QUESTIONS:
        return text
    return f"{text} (no difference that {eccos.calls} questions can tell)"
