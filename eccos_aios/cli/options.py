"""The options that several commands share, defined once; a command takes one as ``@options.history()``.

A command overrides what differs by keyword, as in `click.option`: ``@options.seed(help="Of the folds.")``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

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
CALLS = click.FloatRange(min=1)

_option = partial(click.option, show_default=True)
_flag = partial(click.option, is_flag=True)
_HISTORY = "Past outcomes: .json, .jsonl, .jsonl.gz or a store."
_AIOS = "AIOS's checkout.  [default: $AIOS_HOME]"
_TARGET = "Mean quality to reach, 0 to 1."
_MAX_CALLS = "With plans: the most cores that a query asks, in the mean."
_TOKEN = "Environment variable with the kernel's token.  [default: ECCOS_TOKEN, if set]"
_SEVERAL = f"{_TARGET} Repeatable."

aios = partial(_option, "--aios", type=FILE, envvar="AIOS_HOME", required=True, help=_AIOS)
as_json = partial(_flag, "--json", "as_json", help="Print JSON, for machines.")
callers = partial(_option, "--callers", type=COUNT, multiple=True, help="Concurrent agents; repeatable.")
cores = partial(_option, "--cores", type=FILE, required=True, help="The core manifest (YAML).")
history = partial(_option, "--history", type=FILE, required=True, help=_HISTORY)
max_calls = partial(_option, "--max-calls-per-query", "max_calls", type=CALLS, default=1.5, help=_MAX_CALLS)
out = partial(_option, "--out", type=FILE, required=True)
out_folder = partial(_option, "--out", type=FOLDER)
quality_target = partial(_option, "--quality-target", type=SHARE, default=0.8, help=_TARGET)
quality_targets = partial(_option, "--quality-target", "targets", type=SHARE, multiple=True, help=_SEVERAL)
plans = partial(_option, "--plans", type=click.Choice(["off", "check", "agree"]), default="off")
seed = partial(_option, "--seed", type=click.IntRange(min=0), default=0)
url = partial(_option, "--url", default="http://127.0.0.1:8000", help="The kernel's address.")
token_env = partial(click.option, "--token-env", metavar="NAME", help=_TOKEN)
skip_bad_records = partial(_flag, "--skip-bad-records", help="Skip bad records; count and report them.")

_OPTION = "Argument of its constructor; repeatable."
_NAMED = "{kind}: {names}, an entry point, module:Class, or path/to/file.py:Class."
_PREDICTOR = _NAMED.format(kind="Predictor", names="hybrid, retrieval, trained")
_EMBEDDER = _NAMED.format(kind="Embedder", names="tfidf, hashed, minilm")


class KeyValue(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """``KEY=VALUE``, the value as in YAML: a number, true, false, null or text."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        import yaml

        key, equals, text = value.partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not of the form KEY=VALUE", param, ctx)
        try:
            return key, yaml.safe_load(text)
        except yaml.YAMLError:
            return key, text


def predictor(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--predictor`` and ``--embedder`` with their options; the command gets a `PredictorSpec` as `spec`.

    Wrong names and options end the command before it reads its files.
    """

    @click.option("--predictor", default="hybrid", show_default=True, help=_PREDICTOR)
    @click.option("--predictor-option", type=KeyValue(), multiple=True, help=_OPTION)
    @click.option("--embedder", help=f"{_EMBEDDER}  [default: the predictor's]")
    @click.option("--embedder-option", type=KeyValue(), multiple=True, help=_OPTION)
    @wraps(command)
    def with_spec(
        *args: Any,
        predictor: str,
        predictor_option: tuple[tuple[str, Any], ...],
        embedder: str | None,
        embedder_option: tuple[tuple[str, Any], ...],
        **others: Any,
    ) -> Any:
        from eccos_aios.plugins import Where
        from eccos_aios.predict import PredictorSpec

        where = Where(key="--{kind}", option="--{kind}-option {option}")
        spec = PredictorSpec(predictor, dict(predictor_option), embedder, dict(embedder_option), where)
        if spec != PredictorSpec():
            spec.make()
        return command(*args, spec=spec, **others)

    return with_spec
