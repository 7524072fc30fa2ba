"""The ``sandbox`` command: cores to try everything on, without a model."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli import options
from eccos_aios.cli.interrupt import on_interrupt
from eccos_aios.cli.progress import show_progress

if TYPE_CHECKING:
    from eccos_aios.core import Core


@click.command("sandbox")
@click.option(
    "--write-manifest",
    "manifest",
    type=options.FILE,
    help="Write a manifest with the addresses, on free ports.",
)
@options.cores(
    required=False,
    help="Cores of this manifest, at its loopback base_urls; with --write-manifest on free ports.",
)
@options.history(
    required=False, help="Replay the outcomes that it recorded, in place of the three made-up cores."
)
@click.option(
    "--time-scale",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Factor on every latency.",
)
@options.seed(type=int, help="Of the made-up cores' answers.")
@options.as_json()
def sandbox(
    manifest: Path | None,
    cores: Path | None,
    history: Path | None,
    time_scale: float,
    seed: int,
    as_json: bool,
) -> None:
    """Serve OpenAI-compatible cores on this machine, to try everything without a model.

    Three made-up cores, large, medium and small, answer the questions of `collect --questions builtin`,
    with different skill. With --history, cores replay their recorded outcomes and latencies. They serve
    until Ctrl-C, only on the loopback interface.

    \b
    Examples:
      eccos-aios sandbox --write-manifest cores.yaml
      eccos-aios sandbox --cores cores.yaml
      eccos-aios sandbox --history history.jsonl --write-manifest replay.yaml
    \b
    Then, in another terminal:
      eccos-aios collect --cores cores.yaml --questions builtin \\
        --out history.jsonl
      eccos-aios demo --history history.jsonl --cores cores.yaml
    """
    if manifest is None and cores is None:
        raise click.UsageError(
            "needs --write-manifest, or --cores with addresses", click.get_current_context()
        )
    with show_progress() as on_step:
        on_step("starting")
        from eccos_aios.demo.local import local_cores, require_own_manifest, serve_cores, write_manifest

        if manifest is not None:
            require_own_manifest(manifest)
        local = local_cores(cores, history, seed=seed, free_ports=manifest is not None)
    ended = threading.Event()
    with on_interrupt(ended.set), serve_cores(local, time_scale) as at:
        if manifest is not None:
            write_manifest(manifest, at)
        _print_addresses(at, manifest, as_json)
        ended.wait()


def _print_addresses(cores: Sequence[Core], manifest: Path | None, as_json: bool) -> None:
    if as_json:
        addresses = {core.name: core.base_url for core in cores}
        click.echo(json.dumps({"manifest": None if manifest is None else str(manifest), "cores": addresses}))
        return
    width = max(len(core.name) for core in cores)
    for core in cores:
        click.echo(f"{core.name:{width}}  {core.base_url}")
    written = "" if manifest is None else f"manifest: {manifest}; "
    click.echo(f"{written}serving until Ctrl-C")
