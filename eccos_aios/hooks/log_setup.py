"""The log of a kernel: where ECCOS's lines go, as text or JSON, and the line at its start."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Literal

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.predict import Predictor, experience_of
from eccos_aios.version import __version__

PACKAGE = "eccos_aios"
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """An object a line: ``time`` (UTC), ``level``, ``logger``, ``message``; ``error`` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class EccosHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler that `set_up_log` adds, on stderr; at most one."""


def set_up_log(form: Literal["text", "json"]) -> None:
    """Log what ECCOS does, from level INFO on, in this form; may be repeated.

    With ``text``, handlers that the process has set up already get the lines; without any, they go to stderr.
    With ``json`` they always go to stderr, and nowhere else.
    """
    package = logging.getLogger(PACKAGE)
    for handler in [each for each in package.handlers if isinstance(each, EccosHandler)]:
        package.removeHandler(handler)
    package.propagate = form == "text"
    if package.level == logging.NOTSET:
        package.setLevel(logging.INFO)
    if form == "text" and package.hasHandlers():
        return
    added = EccosHandler(sys.stderr)
    added.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    package.addHandler(added)


def start_line(config: EccosConfig, cores: Sequence[Core], predictor: Predictor) -> str:
    """Version, cores with quotas, target, history and predictor, in one line."""
    slots = ", ".join(f"{core.name} {core.slots}" for core in cores)
    return (
        f"ECCOS {__version__} schedules {len(cores)} cores (quota: {slots}); "
        f"quality target {config.quality_target:g}; history: {_history(config, cores, predictor)}; "
        f"predictor {config.predictor}"
    )


def _history(config: EccosConfig, cores: Sequence[Core], predictor: Predictor) -> str:
    if config.history is None:
        return "none"
    experience = experience_of(predictor, [core.name for core in cores])
    if experience is None:
        return str(config.history)
    records = experience.records.tolist()
    covered = sum(number > 0 for number in records)
    return f"{config.history}, {max(records, default=0):.0f} records, {covered} of {len(cores)} cores covered"
