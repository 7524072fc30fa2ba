"""The ``demo`` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli import options
from eccos_aios.cli.progress import show_progress
from eccos_aios.errors import InputError

if TYPE_CHECKING:
    from eccos_aios.demo.scenario import Scenario

DEFAULT_OUT = Path("eccos-demo")


@click.command("demo")
@options.history(required=False, help="Replay this history in place of generated questions; needs --cores.")
@options.cores(required=False, help="With --history: the core manifest (YAML), for prices and quotas.")
@click.option(
    "--questions",
    type=click.IntRange(1, 2000),
    help="Questions to ask.  [default: 108; of a history a third, at most 108]",
)
@click.option(
    "--records",
    type=click.IntRange(0, 2000),
    help="Generated records to learn from; not with --history.  [default: 480]",
)
@options.quality_target(
    default=None, help="Mean quality to reach.  [default: 0.85; of a history 95 % of its best core's]"
)
@options.seed(type=int, help="Of questions, answers and latencies.")
@options.out_folder(
    default=DEFAULT_OUT, help="Folder for the past records, the questions, the results and the plot."
)
@options.as_json()
def demo(
    history: Path | None,
    cores: Path | None,
    questions: int | None,
    records: int | None,
    quality_target: float | None,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """AIOS's FIFO and SmartRouting, single cores, and ECCOS on the same load; nothing else needed.

    Three made-up cores answer generated questions. With --history, sandbox cores replay what your own
    cores gave: a part of the records is asked, the rest is learned from. The first core of the manifest
    is the one that AIOS's FIFO sends every call to. "all to" a core runs under ECCOS's scheduler, so that
    routing is compared apart from queueing. Long latencies run faster, so that it ends in about a minute;
    the table shows by how much.

    \b
    Examples:
      eccos-aios demo
      eccos-aios demo --quality-target 0.8 --json
      eccos-aios demo --history history.jsonl --cores cores.yaml
    """
    context = click.get_current_context()
    if (history is None) != (cores is None):
        given, missing = ("--history", "--cores") if cores is None else ("--cores", "--history")
        hint = (
            "; --records sets the number of generated records to learn from" if str(history).isdigit() else ""
        )
        raise click.UsageError(f"{given} needs {missing} beside it{hint}", context)
    if history is not None and records is not None:
        raise click.UsageError(
            "--records counts generated records; with --history, all records that are not asked are learned",
            context,
        )
    with show_progress() as on_step:
        on_step("starting")
        from eccos_aios.demo.recorded import recorded_scenario
        from eccos_aios.demo.run import FILES, run_demo
        from eccos_aios.demo.scenario import DEFAULT_QUESTIONS, DEFAULT_RECORDS, generated_scenario

        scenario: Scenario
        if history is not None and cores is not None:
            _require_apart(out, (history, cores), FILES)
            on_step(f"reading {history.name}")
            scenario = recorded_scenario(
                history, cores, questions=questions, seed=seed, quality_target=quality_target
            )
        else:
            scenario = generated_scenario(
                DEFAULT_QUESTIONS if questions is None else questions,
                DEFAULT_RECORDS if records is None else records,
                seed,
                quality_target,
            )
        source = None if history is None else str(history)
        result = run_demo(scenario, out, seed=seed, source=source, on_step=on_step)
    if as_json:
        click.echo(json.dumps(result.as_json()))
        return
    from eccos_aios.cli.demo_table import print_result

    print_result(result)


def _require_apart(out: Path, inputs: tuple[Path, ...], written: tuple[str, ...]) -> None:
    """Refuse a folder where the demo would overwrite the files that it reads."""
    for path in inputs:
        if path.name in written and path.resolve().parent == out.resolve():
            raise InputError("--out", "", str(out), f"{path} would be overwritten; name another folder")
