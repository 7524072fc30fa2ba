"""The ``init`` command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from eccos_aios.cli import options

if TYPE_CHECKING:
    from eccos_aios.hooks.setup import Choices, Setup

COLOURS = {"+": "green", "-": "red", "@": "cyan"}


class NamedFigures(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """``CORE=NUMBER``, or ``CORE=NUMBER,NUMBER``: so many figures after the core's name.

    Parameters
    ----------
    count : int
    number : type
        Of each figure.
    form : str
        What `--help` and errors show.
    """

    def __init__(self, count: int, number: type, form: str) -> None:
        self.count, self.number, self.name = count, number, form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, equals, text = str(value).rpartition("=")
        try:
            figures = [self.number(figure) for figure in text.split(",")]
        except ValueError:
            figures = []
        if (
            not equals
            or not name
            or len(figures) != self.count
            or any(not 0 <= each < 1e9 for each in figures)
        ):
            self.fail(f"{value!r} is not of the form {self.name}", param, ctx)
        return name, figures


@click.command("init")
@options.aios()
@click.option("--manifest", help="Core manifest to write, or to keep if it exists.  [default: cores.yaml]")
@click.option("--history", help="Store of outcomes.  [default: history.db]")
@options.quality_target(default=None, help="Mean quality to reach, 0 to 1.  [default: 0.8]")
@click.option(
    "--quota",
    "quotas",
    multiple=True,
    type=NamedFigures(1, int, "CORE=CALLS"),
    help="Calls that a core may hold at once; repeatable.  [default: 4]",
)
@click.option(
    "--price",
    "prices",
    multiple=True,
    type=NamedFigures(2, float, "CORE=INPUT,OUTPUT"),
    help="US dollars per million tokens; repeatable.  [default: litellm's list]",
)
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option("--yes", is_flag=True, help="Write without asking anything.")
@options.as_json()
def init(
    aios: Path,
    manifest: str | None,
    history: str | None,
    quality_target: float | None,
    quotas: tuple[tuple[str, list[int]], ...],
    prices: tuple[tuple[str, list[float]], ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Set up ECCOS in an AIOS: its manifest, and the lines of its config.

    The manifest lists the models of AIOS's config. On a terminal, quotas, unknown prices and the target
    are asked for. The diff is shown before anything is written; a copy of the config is kept beside it,
    its comments and order stay. What is there already is kept: a second run changes nothing.

    \b
    Examples:
      eccos-aios init --aios ~/AIOS
      eccos-aios init --aios ~/AIOS --dry-run
      eccos-aios init --aios ~/AIOS --quota gpt-4o=16 --price my-model=0.1,0.4
    """
    from eccos_aios.core import Price
    from eccos_aios.hooks.setup import Choices, plan_setup, served_models

    _require_known(served_models(aios), quotas, prices)
    choices = Choices(
        manifest,
        history,
        quality_target,
        {name: _quota(*calls) for name, calls in quotas},
        {name: Price(input=first, output=second) for name, (first, second) in prices},
    )
    asks = not (yes or dry_run or as_json) and sys.stdin.isatty()
    setup = plan_setup(aios, choices)
    if asks and setup.changes:
        setup = plan_setup(aios, _asked(setup, choices))
    if not as_json:
        _print_plan(setup)
    if setup.changes and not dry_run and not yes:
        if not asks:
            raise click.UsageError(
                "nobody can be asked here: --yes writes, --dry-run only shows", click.get_current_context()
            )
        click.confirm("Write this?", abort=True, err=True)
    backups = [] if dry_run else setup.write()
    if as_json:
        click.echo(json.dumps(_as_json(setup, backups, written=bool(setup.changes) and not dry_run)))
    elif not dry_run:
        _print_done(setup, backups)


def _require_known(models: Any, *named: tuple[tuple[str, Any], ...]) -> None:
    names = [model.name for model in models]
    for option, pairs in zip(("--quota", "--price"), named, strict=True):
        for name, _ in pairs:
            if name not in names:
                raise click.BadParameter(
                    f"{name!r}: AIOS's config lists {', '.join(names)}", param_hint=option
                )


def _quota(calls: int) -> int:
    if calls < 1:
        raise click.BadParameter(f"{calls}: must be at least 1", param_hint="--quota")
    return calls


def _asked(setup: Setup, choices: Choices) -> Choices:
    """The choices with what the user answers; Enter takes what is in brackets."""
    from eccos_aios.core import DEFAULT_QUOTA, Price
    from eccos_aios.hooks.setup import served_models, unpriced_models

    quotas, prices = dict(choices.quotas), dict(choices.prices)
    if any(change.path == setup.manifest for change in setup.changes):
        unpriced = set(unpriced_models(setup.aios))
        for model in served_models(setup.aios):
            if model.name not in quotas:
                text = f"{model.name}: calls at once"
                quotas[model.name] = click.prompt(text, DEFAULT_QUOTA, type=options.COUNT, err=True)
            if model.name in unpriced and model.name not in prices:
                first, second = (_dollars(model.name, side) for side in ("input", "output"))
                prices[model.name] = Price(input=first, output=second)
    target = choices.quality_target
    if target is None:
        default = setup.quality_target
        target = click.prompt("quality target, 0 to 1", default, type=options.SHARE, err=True)
    return replace(choices, quotas=quotas, prices=prices, quality_target=target)


def _dollars(core: str, side: str) -> float:
    text = f"{core}: US dollars per million {side} tokens"
    return float(click.prompt(text, 0.0, type=click.FloatRange(0, 1e6), err=True))


def _print_plan(setup: Setup) -> None:
    for change in setup.changes:
        for line in change.diff():
            click.secho(line, fg=COLOURS.get(line[:1]))
    for note in setup.notes:
        click.echo(f"note: {note}", err=True)
    if not setup.changes:
        click.echo("nothing to change: ECCOS is set up")


def _print_done(setup: Setup, backups: list[Path]) -> None:
    for backup in backups:
        click.echo(f"the config as it was: {backup}")
    aios, manifest, history = (quote(str(path)) for path in (setup.aios, setup.manifest, setup.history))
    collect = f"eccos-aios collect --aios {aios} --cores {manifest} --questions builtin --out history.jsonl"
    click.echo("next:")
    for command in (
        f"{collect} --dry-run   # what it will cost",
        collect,
        f"eccos-aios history import {history} history.jsonl",
        f"eccos-aios doctor --aios {aios}",
    ):
        click.echo(f"  {command}")
    click.echo("then start AIOS as usual")


def _as_json(setup: Setup, backups: list[Path], *, written: bool) -> dict[str, Any]:
    return {
        "manifest": str(setup.manifest),
        "history": str(setup.history),
        "written": written,
        "changed": [str(change.path) for change in setup.changes],
        "backups": [str(backup) for backup in backups],
        "diff": [line for change in setup.changes for line in change.diff()],
        "notes": list(setup.notes),
    }
