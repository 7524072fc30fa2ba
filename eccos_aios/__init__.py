"""ECCOS for AIOS: each LLM call to the cheapest core that answers well enough."""

from __future__ import annotations

import importlib
from typing import Any

from eccos_aios.version import __version__

# Importing this package must cost nothing: the start-up hook does so in every Python process.
_HOMES = {
    "Assignment": "assign",
    "AssignmentProblem": "assign",
    "solve": "assign",
    "EccosConfig": "config",
    "read_eccos_config": "config",
    "Core": "core",
    "Manifest": "core",
    "Price": "core",
    "read_manifest": "core",
    "ConfigError": "errors",
    "EccosError": "errors",
    "HistoryError": "errors",
    "Outcome": "history",
    "Record": "history",
    "read_history": "history",
    "EccosRouting": "hooks",
    "EccosScheduler": "hooks",
    "eccos_scheduler_nonblock": "hooks",
    "useEccosScheduler": "hooks",
    "CallText": "predict",
    "Estimates": "predict",
    "Predictor": "predict",
    "RetrievalPredictor": "predict",
    "Call": "schedule",
    "CallResult": "schedule",
    "Scheduler": "schedule",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"eccos_aios.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
