"""The ``eccos-aios`` command: the group, which imports a command's module when that command is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from eccos_aios.errors import EccosError
from eccos_aios.version import __version__

BAD_INPUT = 2  # exit code
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + SIGINT
# From click 8.2 on, a group without arguments raises this; before, it printed its help and ended with 0.
_RAISED = getattr(click.exceptions, "NoArgsIsHelpError", None)
NO_ARGUMENTS: tuple[type[click.UsageError], ...] = () if _RAISED is None else (_RAISED,)
# Each is the attribute of that name in the module of that name; the text is what --help says of it.
COMMANDS = {
    "assign": "Route a batch of queries offline, once per quality target or budget.",
    "bench": "Measure ECCOS against what it replaces.",
    "collect": "Ask every core every question; grade and record the answers.",
    "demo": "AIOS's schedulers against ECCOS on local sandbox cores.",
    "doctor": "Check an AIOS with ECCOS, and say what to fix.",
    "explain": "Where a query would go, and why.",
    "history": "A store's contents: import, export, stats.",
    "init": "Set up ECCOS in an AIOS: manifest and config lines.",
    "sandbox": "Serve cores on this machine, to try everything on.",
    "serve": "Start an AIOS kernel with its config, without start-up hooks.",
    "status": "What a kernel does, once.",
    "top": "What a kernel does, live in the terminal.",
}


class OneLineErrors(click.Group):
    """A group that reports bad input in one line on stderr, with exit 2."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> NoReturn:
        try:
            code = super().main(args, *rest, **{**more, "standalone_mode": False})
        except click.Abort:
            sys.exit(INTERRUPTED)
        except NO_ARGUMENTS as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            sys.exit(0)
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx else self.name
            _fail(f"{where}: {error.format_message()} (see {where} --help)")
        except click.ClickException as error:
            _fail(error.format_message())
        except EccosError as error:
            _fail(str(error))
        sys.exit(code if isinstance(code, int) else 0)


class Commands(OneLineErrors):
    """The group of `COMMANDS`, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"eccos_aios.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eccos-aios")
def main() -> None:
    """ECCOS for AIOS: each LLM call to the cheapest core that answers well enough.

    \b
    Examples:
      eccos-aios demo
      eccos-aios init --aios ~/AIOS
      eccos-aios doctor --aios ~/AIOS
      eccos-aios serve --aios ~/AIOS
    \b
    From your own cores to a history, and a look at what it is worth
    (sandbox provides cores to try it):
      eccos-aios collect --cores cores.yaml --questions builtin \\
        --out history.jsonl
      eccos-aios demo --history history.jsonl --cores cores.yaml
    """


def _fail(message: str) -> NoReturn:
    click.echo(" ".join(message.split()), err=True)
    sys.exit(BAD_INPUT)
