"""Runs inside the kernel of the `predictors` drill, imported at its start: makes its predictor and its threads fail.

What is to fail stands in the file that ECCOS_DRILL names: the name of a wrong predictor, ``threads``, or
nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import wrapt

FAULT_FILE = Path(os.environ["ECCOS_DRILL"])
THREADS = "threads"


def _exit(_: Any) -> Any:
    raise SystemExit("a predictor of the drill")


def _each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make the change to every array of the estimates."""
    return lambda right: replace(
        right, **{each.name: change(getattr(right, each.name)) for each in fields(right)}
    )


WRONG: dict[str, Callable[[Any], Any]] = {
    "none": lambda _: None,
    "transposed": _each(np.transpose),
    "one-dimensional": _each(np.ravel),
    "empty": _each(lambda array: array[:0]),
    "object": _each(lambda array: np.array([["?"] * array.shape[1]] * len(array), dtype=object)),
    "exit": _exit,
    "nan": lambda right: replace(right, quality=np.full_like(right.quality, np.nan)),
    "seven": lambda right: replace(right, quality=np.full_like(right.quality, 7.0)),
}


def _fault() -> str:
    return FAULT_FILE.read_text(encoding="utf-8")


def _hook_predictor(module: ModuleType) -> None:
    def predict(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        right, fault = wrapped(*args, **kwargs), _fault()
        return WRONG[fault](right) if fault in WRONG else right

    wrapt.wrap_function_wrapper(module, "OnlinePredictor.predict", predict)


def _start(wrapped: Any, thread: threading.Thread, args: Any, kwargs: Any) -> Any:
    if thread.name.startswith("eccos-") and _fault() == THREADS:
        raise RuntimeError("can't start new thread")
    return wrapped(*args, **kwargs)


wrapt.register_post_import_hook(_hook_predictor, "eccos_aios.predict.online")
wrapt.wrap_function_wrapper(threading, "Thread.start", _start)
