"""The ``doctor`` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli import options
from eccos_aios.cli.main import BAD_INPUT
from eccos_aios.cli.progress import show_progress

if TYPE_CHECKING:
    from eccos_aios.hooks.doctor import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@options.aios()
@options.as_json()
def doctor(aios: Path, as_json: bool) -> None:
    """Check an AIOS with ECCOS, and say what to fix.

    AIOS, its config, the manifest, the history, and whether the cores can be reached.

    Exits with 0 if nothing is broken, else with 2.

    \b
    Examples:
      eccos-aios doctor --aios ~/AIOS
      eccos-aios doctor --aios ~/AIOS --json
    """
    with show_progress() as on_step:
        on_step("checking the kernel and its cores")
        from eccos_aios.hooks.doctor import diagnose

        findings = diagnose(aios)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print_findings(findings)
    if any(finding.level == "fail" for finding in findings):
        sys.exit(BAD_INPUT)


def _print_findings(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    from eccos_aios.cli.table import print_tables

    for finding in findings:
        level = f"{finding.level:5}", COLOURS[finding.level]
        print_tables(Text.assemble(level, f"{finding.subject}: {finding.message}"))
        if finding.remedy:
            print_tables(Text(f"     → {finding.remedy}"))
