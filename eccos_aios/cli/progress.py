"""What a command is doing, shown on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown_steps() -> Iterator[Callable[[str], None]]:
    """A function to be told of each step; on a terminal the last one is shown, elsewhere nothing is."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda step: status.update(Text(step))
