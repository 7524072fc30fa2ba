"""Where AIOS meets the clockwork: the only folder that imports AIOS, once AIOS itself is imported."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant; the import of typing is left to who needs it
if TYPE_CHECKING:
    from eccos_aios.hooks.activate import activate
    from eccos_aios.hooks.llm_core import EccosRouting
    from eccos_aios.hooks.modules import eccos_scheduler_nonblock, useEccosScheduler
    from eccos_aios.hooks.scheduler import EccosScheduler

# NumPy, SciPy, scikit-learn and FAISS take seconds to import: each name brings only what it needs.
_HOMES = {
    "EccosRouting": "llm_core",
    "EccosScheduler": "scheduler",
    "activate": "activate",
    "eccos_scheduler_nonblock": "modules",
    "useEccosScheduler": "modules",
}

__all__ = ["EccosRouting", "EccosScheduler", "activate", "eccos_scheduler_nonblock", "useEccosScheduler"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"eccos_aios.hooks.{_HOMES[name]}"), name)
