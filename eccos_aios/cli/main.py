"""The command line: parses, calls, prints. Whatever takes long to import is imported by its command alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from eccos_aios.cli.progress import shown_steps
from eccos_aios.errors import ABSENT, EccosError, InputError
from eccos_aios.version import __version__

if TYPE_CHECKING:
    from eccos_aios.batch import Batch
    from eccos_aios.hooks.doctor import Finding

BAD_INPUT = 2  # exit code
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + SIGINT
# Commands that live in their own rooms, imported when they are called: where, and what --help says of them.
ELSEWHERE = {
    "collect": (
        "eccos_aios.cli.collect",
        "Ask every core every question; grade and record the answers.",
    ),
    "bench": ("eccos_aios.cli.bench", "Measure ECCOS against what it replaces."),
    "explain": ("eccos_aios.cli.explain", "Where a query would go, and why."),
    "demo": ("eccos_aios.cli.demo", "FIFO against ECCOS on local sandbox cores, nothing else needed."),
    "sandbox": ("eccos_aios.cli.sandbox", "Serve cores on this machine, to try everything on."),
    "history": ("eccos_aios.cli.history", "A store's contents: import, export, stats."),
}
FILE = click.Path(path_type=Path)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
aios_option = click.option(
    "--aios", type=FILE, envvar="AIOS_HOME", required=True, help="AIOS's checkout.  [default: $AIOS_HOME]"
)


class Commands(click.Group):
    """A group that imports a command when it is called, and tells of bad input in one line, with exit 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(ELSEWHERE[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        here = {name: command.get_short_help_str(limit=80) for name, command in self.commands.items()}
        helps = {**here, **{name: text for name, (_, text) in ELSEWHERE.items()}}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(helps.items()))

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> NoReturn:
        try:
            code = super().main(args, *rest, **{**more, "standalone_mode": False})
        except click.Abort:
            sys.exit(INTERRUPTED)
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx else "eccos-aios"
            _fail(f"{where}: {error.format_message()} ({where} --help tells more)")
        except click.ClickException as error:
            _fail(error.format_message())
        except EccosError as error:
            _fail(str(error))
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eccos-aios")
def main() -> None:
    """ECCOS for AIOS: each LLM call to the cheapest core that answers well enough.

    \b
    Examples:
      eccos-aios demo
      eccos-aios doctor --aios ~/AIOS
      eccos-aios serve --aios ~/AIOS
    \b
    From your own cores to a history, and a look at what it is worth (sandbox lends cores to try it):
      eccos-aios collect --cores cores.yaml --questions builtin --out history.jsonl
      eccos-aios demo --history history.jsonl --cores cores.yaml
    """


def _quality_targets(
    context: click.Context, parameter: click.Parameter, values: tuple[float, ...]
) -> tuple[float, ...]:
    for value in values:
        if not 0 <= value <= 1:
            raise click.BadParameter(f"{value:g} is not in the range 0 to 1")
    return values


@main.command()
@click.option(
    "--history", type=FILE, required=True, help="What past calls taught: .json, .jsonl, .jsonl.gz or a store."
)
@click.option("--cores", type=FILE, required=True, help="The core manifest (YAML).")
@click.option("--queries", type=FILE, required=True, help="JSON lines with id, and query or messages.")
@click.option(
    "--quality-target",
    "targets",
    type=float,
    multiple=True,
    callback=_quality_targets,
    help="Mean quality to reach, 0 to 1. Repeat it to route the batch at several.",
)
@click.option(
    "--budget",
    "budgets",
    type=click.FloatRange(min=0),
    multiple=True,
    help="US dollars that the batch may cost, at best quality: in place of a target, or beside it.",
)
@click.option("--estimates", is_flag=True, help="Write every core's estimates with each line.")
@click.option("--skip-bad-records", is_flag=True, help="Count and report bad records of the history; go on.")
@click.option("--out", type=FILE, required=True, help="Where the lines go, one per query and target.")
@as_json_option
def assign(
    history: Path,
    cores: Path,
    queries: Path,
    targets: tuple[float, ...],
    budgets: tuple[float, ...],
    estimates: bool,
    skip_bad_records: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Route a batch of queries offline, once per quality target or budget.

    A core's quota in the manifest is the number of queries of the batch that it may take; a core without
    one is unlimited. Where every quota is taken, a query's core is null.

    \b
    Examples:
      eccos-aios assign --history history.jsonl.gz --cores cores.yaml \\
        --queries queries.jsonl --quality-target 0.8 --out routes.jsonl
      eccos-aios assign --history history.jsonl.gz --cores cores.yaml \\
        --queries queries.jsonl --quality-target 0.7 --quality-target 0.9 \\
        --estimates --out routes.jsonl --json
    """
    if not targets and not budgets:
        raise click.UsageError("missing option --quality-target (or --budget)", click.get_current_context())
    _require_place(out)
    with shown_steps() as on_step:
        on_step("starting")
        from eccos_aios.batch import assign_files, summary, write_lines
        from eccos_aios.history import ReadReport

        report = ReadReport()
        batch = assign_files(
            history,
            cores,
            queries,
            targets,
            budgets=budgets,
            skip_bad_records=skip_bad_records,
            report=report,
            on_step=on_step,
        )
        try:
            with out.open("w", encoding="utf-8") as file:
                write_lines(batch, file, with_estimates=estimates)
        except OSError as error:
            raise InputError(str(out), "", ABSENT, f"cannot be written: {error.strerror}") from error
    _note(report.faults, "bad records left out")
    _note(batch.refusals(), "queries that no core may take")
    if as_json:
        click.echo(json.dumps(summary(batch)))
    else:
        _print_routes(batch)


@main.command()
@aios_option
@click.option("--host", help="Where the kernel listens.  [default: AIOS's config]")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: AIOS's config]")
@as_json_option
def serve(aios: Path, host: str | None, port: int | None, as_json: bool) -> None:
    """Start an AIOS kernel with its config, without start-up hooks.

    With --json a line with what was asked for comes before the kernel's own output; null stands for what
    AIOS's config says.

    \b
    Examples:
      eccos-aios serve --aios ~/AIOS
      eccos-aios serve --aios ~/AIOS --host 0.0.0.0 --port 8001
    """
    from eccos_aios.hooks.serve import serve as serve_kernel

    if as_json:
        click.echo(json.dumps({"aios": str(aios), "host": host, "port": port}))
    serve_kernel(aios, host, port)


@main.command()
@aios_option
@as_json_option
def doctor(aios: Path, as_json: bool) -> None:
    """Check an AIOS with ECCOS, and say what to mend.

    AIOS, its config, the manifest, the history, and whether the cores can be reached.

    Exits with 0 where nothing is broken, else with 2.

    \b
    Examples:
      eccos-aios doctor --aios ~/AIOS
      eccos-aios doctor --aios ~/AIOS --json
    """
    with shown_steps() as on_step:
        on_step("looking at the kernel and its cores")
        from eccos_aios.hooks.doctor import diagnose

        findings = diagnose(aios)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print_findings(findings)
    if any(finding.level == "fail" for finding in findings):
        sys.exit(BAD_INPUT)


def _fail(message: str) -> NoReturn:
    click.echo(" ".join(message.split()), err=True)
    sys.exit(BAD_INPUT)


def _require_place(out: Path) -> None:
    """Refuse at once what could not be written after minutes of work."""
    if out.is_dir():
        raise InputError(str(out), "", ABSENT, "cannot be written: is a folder")
    if not out.parent.is_dir():
        raise InputError(str(out), "", ABSENT, f"cannot be written: there is no folder {out.parent}")


def _note(faults: Sequence[object], what: str) -> None:
    if faults:
        click.echo(f"{what}: {len(faults)}, the first: {faults[0]}", err=True)


def _print_routes(batch: Batch) -> None:
    from rich.console import Console
    from rich.table import Table

    from eccos_aios.batch import summary

    targets = summary(batch)["targets"]
    figures = Table("asked for", "reached", "predicted quality", "US dollars", "gap to the bound", box=None)
    counts = Table("core", *(f"at {_asked_for(target)}" for target in targets), box=None)
    for target in targets:
        figures.add_row(
            _asked_for(target),
            "yes" if target["met"] else "no",
            _figure(target["predicted_quality"], ".3f"),
            _figure(target["predicted_cost"], ".6f"),
            _figure(target["gap"], ".2%"),
        )
    for core in batch.cores:
        counts.add_row(core.name, *(str(target["per_core"][core.name]) for target in targets))
    console = Console(markup=False)
    console.print(f"{len(batch.queries)} queries over {len(batch.cores)} cores\n")
    console.print(figures)
    console.print()
    console.print(counts)
    steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in batch.seconds.items())
    console.print(f"\n{steps}")


def _asked_for(target: dict[str, Any]) -> str:
    return f"${target['budget_usd']:g}" if "budget_usd" in target else f"{target['quality_target']:g}"


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _print_findings(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    console = Console()
    for finding in findings:
        console.print(
            Text.assemble(
                (f"{finding.level:5}", colours[finding.level]), f"{finding.subject}: {finding.message}"
            )
        )
        if finding.remedy:
            console.print(Text(f"     → {finding.remedy}"))
