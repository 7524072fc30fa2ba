"""Finding: the result of one check of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    level : {"ok", "warn", "fail"}
    subject : str
        What was checked.
    message : str
        What was found.
    remedy : str
        What to do about it; empty if there is nothing to do.
    """

    level: Literal["ok", "warn", "fail"]
    subject: str
    message: str
    remedy: str = ""
