"""The ``top`` command."""

from __future__ import annotations

import time

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from eccos_aios.cli import options
from eccos_aios.cli.kernel_client import KernelClient, KernelUnreachableError
from eccos_aios.cli.status_table import core_table, decision_table, printable, summary_lines

FRAME = 12  # lines that the summary and the headings take


@click.command("top")
@options.url()
@options.token_env()
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds.")
@click.option("--count", type=options.COUNT, help="End after so many updates.  [default: at Ctrl-C]")
def top(url: str, token_env: str | None, interval: float, count: int | None) -> None:
    """Watch a kernel in the terminal; Ctrl-C ends it.

    \b
    Examples:
      eccos-aios top
      eccos-aios top --url http://host:8000
    """
    client, console = KernelClient(url, token_env), Console(highlight=False, markup=False)
    shown: RenderableType = Text("")
    fault: str | None = None
    seen = 0
    try:
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                try:
                    shown, fault = view(client, console.width, console.height), None
                except KernelUnreachableError as error:
                    fault = f"{error}; trying again"
                note = printable(fault or f"{client.url}, every {interval:g} s, Ctrl-C ends")
                live.update(Group(Text(note, "red" if fault else "dim"), shown), refresh=True)
                seen += 1
                if count is not None and seen >= count:
                    break
                time.sleep(interval)
    except KeyboardInterrupt:
        return


def view(client: KernelClient, width: int, height: int) -> RenderableType:
    """What a terminal of this size shows."""
    status = client.status()
    cores = core_table(status, width)
    lines = max(3, height - FRAME - cores.row_count - len(summary_lines(status)))
    return Group(*summary_lines(status), cores, decision_table(client.decisions(min(lines, 50)), width))
