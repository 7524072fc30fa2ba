"""The options that several commands share, defined once; a command takes one as ``@options.history()``.

A command overrides what differs by keyword, as in `click.option`: ``@options.seed(help="Of the folds.")``.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import click


class Share(click.FloatRange):
    """A number from 0 to 1; unlike click's own range it refuses NaN."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not in the range 0 to 1", param, ctx)
        return number


FILE = click.Path(path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
SHARE = Share()
COUNT = click.IntRange(min=1)

_option = partial(click.option, show_default=True)
_flag = partial(click.option, is_flag=True)
_HISTORY = "Past outcomes: .json, .jsonl, .jsonl.gz or a store."
_AIOS = "AIOS's checkout.  [default: $AIOS_HOME]"
_TARGET = "Mean quality to reach, 0 to 1."
_SEVERAL = f"{_TARGET} Repeatable."

aios = partial(_option, "--aios", type=FILE, envvar="AIOS_HOME", required=True, help=_AIOS)
as_json = partial(_flag, "--json", "as_json", help="Print JSON, for machines.")
callers = partial(_option, "--callers", type=COUNT, multiple=True, help="Concurrent agents; repeatable.")
cores = partial(_option, "--cores", type=FILE, required=True, help="The core manifest (YAML).")
history = partial(_option, "--history", type=FILE, required=True, help=_HISTORY)
out = partial(_option, "--out", type=FILE, required=True)
out_folder = partial(_option, "--out", type=FOLDER)
quality_target = partial(_option, "--quality-target", type=SHARE, default=0.8, help=_TARGET)
quality_targets = partial(_option, "--quality-target", "targets", type=SHARE, multiple=True, help=_SEVERAL)
seed = partial(_option, "--seed", type=click.IntRange(min=0), default=0)
skip_bad_records = partial(_flag, "--skip-bad-records", help="Skip bad records; count and report them.")
