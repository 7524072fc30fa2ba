"""The ``demo`` command."""

from __future__ import annotations

import json
from pathlib import Path

import click

DEFAULT_OUT = Path("eccos-demo")


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_OUT,
    show_default=True,
    help="Folder for the manifest, the history, the results and the plot.",
)
@click.option("--questions", type=click.IntRange(1, 2000), help="Questions to ask.  [default: 108]")
@click.option("--history", type=click.IntRange(0, 2000), help="Records to learn from.  [default: 480]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of questions, answers and latencies.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of a table.")
def demo(out: Path, questions: int | None, history: int | None, seed: int, as_json: bool) -> None:
    """FIFO, as AIOS schedules today, against ECCOS: local sandbox cores, nothing else needed."""
    from rich.console import Console

    from eccos_aios.demo.run import DEFAULT_HISTORY, DEFAULT_QUESTIONS, run_demo

    result = run_demo(
        out,
        questions=DEFAULT_QUESTIONS if questions is None else questions,
        history=DEFAULT_HISTORY if history is None else history,
        seed=seed,
        console=Console(stderr=True, quiet=True) if as_json else Console(),
    )
    if as_json:
        click.echo(json.dumps(result.as_json()))
