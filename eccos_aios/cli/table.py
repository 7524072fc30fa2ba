"""How every command shows figures: one style of table, one sign for an unknown figure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

UNKNOWN = "–"
INSTALL_PLOT = "pip install 'eccos-aios[plot]'"
WIDEST = 1000  # columns; only a bound for measuring a table


def make_table(
    *headings: str, left: Collection[str] = (), title: str | None = None, caption: str | None = None
) -> Table:
    """An empty table: the first column and those named in `left` hold text, the others figures."""
    table = Table(
        title=None if title is None else Text(title),
        caption=None if caption is None else Text(caption),
        box=box.SIMPLE_HEAD,
    )
    for place, heading in enumerate(headings):
        is_text = place == 0 or heading in left
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    return table


def print_tables(*parts: Table | Text | str, err: bool = False) -> None:
    """Print tables and lines; a narrow terminal wraps a table's lines, but truncates no figure."""
    console = Console(stderr=err, markup=False, highlight=False)
    for part in parts:
        if isinstance(part, Table):
            options = console.options.update(max_width=WIDEST)
            wide = max(console.width, Measurement.get(console, options, part).maximum)
            Console(stderr=err, markup=False, highlight=False, width=wide).print(part)
        else:
            console.print(part, soft_wrap=not console.is_terminal)


def figure(value: float | None, form: str) -> str:
    """A figure in a format of `format`, or the sign for an unknown one."""
    return UNKNOWN if value is None else format(value, form)


def note_faults(faults: Sequence[object], what: str) -> None:
    """Print on stderr how many faults were skipped, and the first of them."""
    if faults:
        note_fault_count(len(faults), faults[0], what)


def note_fault_count(count: int, first: object, what: str) -> None:
    """As `note_faults`, where only the number of faults and the first of them are known."""
    click.echo(f"{what}: {count}, the first: {first}", err=True)
