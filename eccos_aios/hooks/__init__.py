"""Where AIOS meets the clockwork; the only folder that imports AIOS, and only once AIOS itself is imported."""

from __future__ import annotations

import importlib
from typing import Any

# The start-up hook imports this package in every Python process, so it must cost nothing.
_HOMES = {
    "EccosRouting": "llm_core",
    "EccosScheduler": "scheduler",
    "activate": "activate",
    "eccos_scheduler_nonblock": "modules",
    "useEccosScheduler": "modules",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"eccos_aios.hooks.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
