"""One form for values that mean the same: numbers, case and punctuation of strings, lists, mappings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

DECIMALS = 6  # to which two cores must agree on a number
MOST_DEPTH = 50  # of nested values; deeper ones are compared as text

_IGNORED = re.compile(r"[\s\W_]+")
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def normalised(value: Any, depth: int = 0) -> str:
    """The value as text that is equal for values that mean the same.

    Strings lose case, spaces and punctuation, unless nothing else is in them; a string that is a number is
    one. Mappings lose their order and their empty entries; lists keep their order.
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (int, float)):
        return number_text(float(value)) if abs(value) < 1e300 else str(value)
    if isinstance(value, str):
        return _string(value)
    if depth >= MOST_DEPTH:
        return repr(value)
    if isinstance(value, Mapping):
        entries = sorted(
            (str(key), normalised(inner, depth + 1)) for key, inner in value.items() if inner not in _EMPTY
        )
        return "{" + ",".join(f"{key}:{inner}" for key, inner in entries) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(normalised(inner, depth + 1) for inner in value) + "]"
    return str(value)


def number_text(number: float) -> str:
    """A number to `DECIMALS` decimals, or to as many digits where it is small."""
    if not math.isfinite(number) or number == 0:
        return repr(number + 0.0)
    if abs(number) < 1:
        return f"{number:.{DECIMALS - 1}e}"
    return repr(round(number, DECIMALS))


def _string(text: str) -> str:
    lowered = text.lower()
    try:
        # not float("1_000") or "infinity", which are words in an answer
        if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,2})?\s*", lowered):
            return number_text(float(lowered))
    except (ValueError, OverflowError):
        pass
    return _IGNORED.sub("", lowered) or lowered.strip()
