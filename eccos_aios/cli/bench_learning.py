"""The ``bench learning`` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli.progress import shown_steps

if TYPE_CHECKING:
    from eccos_aios.bench.learning import Told

TABLE_WIDTH = 150  # columns that the table needs; a narrower terminal wraps it
FILE = click.Path(path_type=Path)


@click.command("learning")
@click.option("--history", type=FILE, required=True, help="Recorded outcomes.")
@click.option("--cores", type=FILE, required=True, help="The core manifest (YAML).")
@click.option("--learned", type=click.IntRange(min=1), default=2000, show_default=True, help="Calls before.")
@click.option("--measured", type=click.IntRange(min=1), default=1000, show_default=True, help="Calls after.")
@click.option(
    "--told",
    type=click.Choice(["all", "chosen"]),
    multiple=True,
    default=("all", "chosen"),
    show_default=True,
    help="Whose outcomes are learned of a call: every core's, as collect records, or the chosen core's.",
)
@click.option(
    "--quality-target",
    "targets",
    type=click.FloatRange(0, 1),
    multiple=True,
    help="Mean quality to reach; repeatable.  [default: three, from easy to hard]",
)
@click.option(
    "--exploration",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of the calls that may explore where only the chosen core's outcome is told.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def learning(
    history: Path,
    cores: Path,
    learned: int,
    measured: int,
    told: tuple[Told, ...],
    targets: tuple[float, ...],
    exploration: float,
    seed: int,
    as_json: bool,
) -> None:
    """From an empty history: how soon is ECCOS as good as with a complete one? And when a core gets worse?

    Calls are replayed in a random order. After the first ones (--learned), quality is compared with that of
    a predictor that was fitted on all other recorded outcomes, on the same calls at the same cost. Then the
    core that served most gives half its quality.

    \b
    Examples:
      eccos-aios bench learning --history history.jsonl.gz --cores cores.yaml
      eccos-aios bench learning --history history.jsonl.gz --cores cores.yaml --told chosen --json
    """
    from eccos_aios.bench.learning import learning_bench, rows_as_json, rows_as_table
    from eccos_aios.core import read_manifest
    from eccos_aios.errors import ABSENT, HistoryError
    from eccos_aios.history import read_history

    manifest, records = read_manifest(cores), read_history(history)
    with shown_steps() as on_step:
        try:
            rows = learning_bench(
                records,
                manifest.cores,
                learned,
                measured,
                exploration=exploration,
                told=told,
                targets=targets,
                seed=seed,
                on_step=on_step,
            )
        except ValueError as error:
            raise HistoryError(str(history), "", ABSENT, str(error)) from error
    if as_json:
        click.echo(rows_as_json(rows))
    else:
        from rich.console import Console

        Console(width=max(TABLE_WIDTH, Console().width)).print(rows_as_table(rows))
