"""The ``serve`` command."""

from __future__ import annotations

import json
from pathlib import Path

import click

from eccos_aios.cli import options


@click.command("serve")
@options.aios()
@click.option("--host", help="Where the kernel listens.  [default: AIOS's config]")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: AIOS's config]")
@options.as_json()
def serve(aios: Path, host: str | None, port: int | None, as_json: bool) -> None:
    """Start an AIOS kernel with its config, without start-up hooks.

    With --json a line with the options comes before the kernel's own output; null means what AIOS's
    config says.

    \b
    Examples:
      eccos-aios serve --aios ~/AIOS
      eccos-aios serve --aios ~/AIOS --host 0.0.0.0 --port 8001
    """
    from eccos_aios.hooks.serve import serve as serve_kernel

    if as_json:
        click.echo(json.dumps({"aios": str(aios), "host": host, "port": port}))
    serve_kernel(aios, host, port)
