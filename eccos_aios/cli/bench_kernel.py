"""The ``bench kernel`` command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eccos_aios.cli import options
from eccos_aios.cli.progress import show_progress

if TYPE_CHECKING:
    from eccos_aios.bench.kernel import KernelRow

DEFAULT_CALLERS = (1, 40)


def _settings(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """The values of ``--set``, read as YAML."""
    import yaml

    pairs = [value.partition("=") for value in values]
    for value, (key, equals, _) in zip(values, pairs, strict=True):
        if not key or not equals:
            raise click.BadParameter(f"{value!r}: must be KEY=VALUE")
    try:
        return {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise click.BadParameter(str(error)) from error


@click.command("kernel")
@options.aios()
@click.option("--python", type=options.FILE, help="AIOS's interpreter.  [default: AIOS/.venv/bin/python]")
@options.callers(default=DEFAULT_CALLERS)
@click.option("--calls-per-caller", type=options.COUNT, default=8, show_default=True)
@click.option(
    "--latency", type=click.FloatRange(min=0), default=0.2, show_default=True, help="Seconds a core takes."
)
@click.option("--quota", type=options.COUNT, default=16, show_default=True, help="Of each core.")
@options.quality_target(default=0.85, help="Mean quality that ECCOS has to reach.")
@click.option(
    "--scheduler",
    "schedulers",
    type=click.Choice(["fifo", "eccos"]),
    multiple=True,
    default=("fifo", "eccos"),
    show_default=True,
)
@click.option(
    "--price-ratio", type=click.FloatRange(min=1), help="Of the dear core's prices to the cheap one's."
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_settings,
    help="A further key of scheduler.eccos, such as max_wait_share=0.",
)
@options.out_folder(help="Folder for kernel.json and kernel.png.")
@options.as_json()
def kernel(
    aios: Path,
    python: Path | None,
    callers: tuple[int, ...],
    calls_per_caller: int,
    latency: float,
    quota: int,
    quality_target: float,
    schedulers: tuple[str, ...],
    price_ratio: float | None,
    settings: dict[str, Any],
    out: Path | None,
    as_json: bool,
) -> None:
    """A real AIOS kernel under FIFO and under ECCOS, on the same load over two sandbox cores.

    One core is expensive and answers every question right, the other is cheap and answers the easy ones;
    ECCOS has a history of other questions of these kinds. The checkout is copied; its own config is not
    touched. This package must be installed in AIOS's environment.

    \b
    Examples:
      eccos-aios bench kernel --aios ~/AIOS
      eccos-aios bench kernel --aios ~/AIOS --callers 64 --latency 5
    """
    from eccos_aios.bench.kernel import Load, kernel_bench, rows_as_json

    with show_progress() as on_step:
        rows = kernel_bench(
            aios.expanduser().resolve(),
            python,
            [Load(number, number * calls_per_caller) for number in callers],
            latency,
            quota,
            schedulers,
            on_step=on_step,
            quality_target=quality_target,
            price_ratio=price_ratio,
            options=settings,
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "kernel.json").write_text(rows_as_json(rows) + "\n", encoding="utf-8")
        from eccos_aios.bench.kernel_plot import plot_kernel
        from eccos_aios.cli.table import INSTALL_PLOT

        if plot_kernel(rows, out / "kernel.png") is None:
            click.echo(f"no plot without matplotlib: {INSTALL_PLOT}", err=True)
    if as_json:
        click.echo(json.dumps(json.loads(rows_as_json(rows))))
    else:
        _print_kernel(rows)


def _print_kernel(rows: Sequence[KernelRow]) -> None:
    from eccos_aios.cli.table import make_table, print_tables

    table = make_table(
        "callers",
        "scheduler",
        "calls/s",
        "p50 s",
        "p95 s",
        "p99 s",
        "US $",
        "right",
        "busy: all, " + ", ".join(rows[0].busy_by_core),
        "kernel's CPUs",
        "errors",
        "most at once: " + ", ".join(rows[0].max_in_flight),
        left=("scheduler",),
    )
    for row in sorted(rows, key=lambda row: row.callers):
        table.add_row(
            str(row.callers),
            row.scheduler,
            f"{row.calls_per_s:.2f}",
            f"{row.p50_s:.3f}",
            f"{row.p95_s:.3f}",
            f"{row.p99_s:.3f}",
            f"{row.cost_usd:.4f}",
            f"{row.quality:.1%}",
            ", ".join(f"{share:.0%}" for share in (row.busy_share, *row.busy_by_core.values())),
            "" if row.kernel_cpus is None else f"{row.kernel_cpus:.2f}",
            str(row.errors),
            ", ".join(map(str, row.max_in_flight.values())),
        )
    print_tables(table)
