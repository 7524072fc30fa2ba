"""What a command is doing, shown on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class OnStep(Protocol):
    """Called at each step of a command, and for a step that can be counted after each item of it."""

    def __call__(self, step: str, done: int = 0, total: int | None = None, /) -> None: ...


@contextmanager
def show_progress() -> Iterator[OnStep]:
    """Yield the function to report steps to; a terminal shows the last one, anything else shows none."""
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, count="")
        shown = ""

        def on_step(step: str, done: int = 0, total: int | None = None, /) -> None:
            nonlocal shown
            if step != shown:  # a completed task keeps its elapsed time until it is reset
                shown = step
                progress.reset(task)
            count = "" if total is None else f"{done}/{total}"
            progress.update(task, description=step, completed=done, total=total, count=count)

        yield on_step


def _ignore(step: str, done: int = 0, total: int | None = None, /) -> None:
    """Show nothing."""
