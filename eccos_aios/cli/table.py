"""How every command shows figures: one style of table, one sign for an unknown figure."""

from __future__ import annotations

import math
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
    """Print tables and lines; on a terminal too narrow for a table, each row of it as a paragraph."""
    console = Console(stderr=err, markup=False, highlight=False)
    for part in parts:
        if isinstance(part, Table):
            options = console.options.update(max_width=WIDEST)
            needed = Measurement.get(console, options, part).maximum
            if console.is_terminal and needed > console.width:
                console.print(*_paragraphs(part, console.width), sep="\n", soft_wrap=True)
                continue
            wide = max(console.width, needed)
            Console(stderr=err, markup=False, highlight=False, width=wide).print(part)
        else:
            console.print(part, soft_wrap=not console.is_terminal)


def _paragraphs(table: Table, width: int) -> list[Text]:
    """The rows, one after the other: what names the row, then its figures with their headings."""
    lines = [] if table.title is None else [_text(table.title)]
    for row in zip(*(map(_text, column.cells) for column in table.columns), strict=True):
        named = [cell for cell, column in zip(row, table.columns, strict=True) if column.justify == "left"]
        lines.append(Text(" ").join(cell for cell in named if cell.plain))
        figures = [
            Text(f"{column.header} ").append_text(cell)
            for cell, column in zip(row, table.columns, strict=True)
            if column.justify != "left" and cell.plain
        ]
        lines += _wrapped(figures, width)
    return lines if table.caption is None else [*lines, _text(table.caption)]


def _wrapped(parts: Sequence[Text], width: int) -> list[Text]:
    """Lines of whole parts, indented."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 2 + part.cell_len <= width:
            lines[-1] = lines[-1].append("  ").append_text(part)
        else:
            lines.append(Text("  ").append_text(part))
    return lines


def _text(cell: object) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text(str(cell))


def figure(value: float | None, form: str) -> str:
    """A figure in a format of `format`, or the sign for an unknown one."""
    return UNKNOWN if value is None else format(value, form)


def dollars(usd: float | None) -> str:
    """US dollars: cents from one dollar on, below it three significant digits, below a mill two."""
    if usd is None or not math.isfinite(usd):
        return UNKNOWN
    if usd >= 1 or usd <= 0:
        return f"${usd:.2f}"
    digits = 3 if usd >= 0.001 else 2
    return f"${usd:.{digits - 1 - math.floor(math.log10(usd))}f}"


def note_faults(faults: Sequence[object], what: str) -> None:
    """Print on stderr how many faults were skipped, and the first of them."""
    if faults:
        note_fault_count(len(faults), faults[0], what)


def note_fault_count(count: int, first: object, what: str) -> None:
    """As `note_faults`, where only the number of faults and the first of them are known."""
    click.echo(f"{what}: {count}, the first: {first}", err=True)
