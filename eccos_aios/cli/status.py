"""The ``status`` command."""

from __future__ import annotations

import json

import click

from eccos_aios.cli import options
from eccos_aios.cli.kernel_client import KernelClient


@click.command("status")
@options.url()
@options.token_env()
@options.as_json()
def status(url: str, token_env: str | None, as_json: bool) -> None:
    """Show once what a kernel does: cores, cost and quality so far.

    \b
    Examples:
      eccos-aios status
      eccos-aios status --url http://host:8000 --json
    """
    found = KernelClient(url, token_env).status()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from eccos_aios.cli.status_table import core_table, summary_lines
    from eccos_aios.cli.table import print_tables

    print_tables(*summary_lines(found), core_table(found))
