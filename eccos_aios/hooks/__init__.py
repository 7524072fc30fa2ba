"""Where AIOS meets the clockwork: the only folder that imports AIOS, once AIOS itself is imported."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant; the import of typing is left to who needs it
if TYPE_CHECKING:
    from eccos_aios.hooks.activate import activate
    from eccos_aios.hooks.factories import eccos_scheduler_nonblock, useEccosScheduler
    from eccos_aios.hooks.routing import EccosRouting
    from eccos_aios.hooks.scheduler import EccosScheduler

# NumPy, SciPy, scikit-learn and FAISS take seconds to import: each name brings only what it needs.
_HOMES = {
    "EccosRouting": "routing",
    "EccosScheduler": "scheduler",
    "activate": "activate",
    "eccos_scheduler_nonblock": "factories",
    "useEccosScheduler": "factories",
}

__all__ = ["EccosRouting", "EccosScheduler", "activate", "eccos_scheduler_nonblock", "useEccosScheduler"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"eccos_aios.hooks.{_HOMES[name]}"), name)
