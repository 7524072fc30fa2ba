"""ECCOS for AIOS: each LLM call to the cheapest core that answers well enough."""

from __future__ import annotations

from eccos_aios.version import __version__

TYPE_CHECKING = False  # typing's own constant; the import of typing is left to who needs it
if TYPE_CHECKING:
    from eccos_aios.assign import Assignment, AssignmentProblem, solve
    from eccos_aios.config import EccosConfig, read_eccos_config
    from eccos_aios.core import Core, Manifest, Price, read_manifest
    from eccos_aios.errors import ConfigError, EccosError, HistoryError, UnknownCallError
    from eccos_aios.history import (
        CallOutcome,
        HistoryStore,
        Outcome,
        OutcomeRecorder,
        Record,
        read_history,
    )
    from eccos_aios.hooks import EccosRouting, EccosScheduler, eccos_scheduler_nonblock, useEccosScheduler
    from eccos_aios.predict import CallText, Estimates, Predictor, RetrievalPredictor
    from eccos_aios.router import Router, Routing
    from eccos_aios.schedule import Call, CallResult, Scheduler

# NumPy, SciPy, scikit-learn and FAISS take seconds to import: each name brings only what it needs.
_HOMES = {
    "Assignment": "assign",
    "AssignmentProblem": "assign",
    "Call": "schedule",
    "CallOutcome": "history",
    "CallResult": "schedule",
    "CallText": "predict",
    "ConfigError": "errors",
    "Core": "core",
    "EccosConfig": "config",
    "EccosError": "errors",
    "EccosRouting": "hooks",
    "EccosScheduler": "hooks",
    "Estimates": "predict",
    "HistoryError": "errors",
    "HistoryStore": "history",
    "Manifest": "core",
    "Outcome": "history",
    "OutcomeRecorder": "history",
    "Predictor": "predict",
    "Price": "core",
    "Record": "history",
    "RetrievalPredictor": "predict",
    "Router": "router",
    "Routing": "router",
    "Scheduler": "schedule",
    "UnknownCallError": "errors",
    "eccos_scheduler_nonblock": "hooks",
    "read_eccos_config": "config",
    "read_history": "history",
    "read_manifest": "core",
    "solve": "assign",
    "useEccosScheduler": "hooks",
}

__all__ = [  # noqa: RUF022 - in the order of the dictionary
    "__version__",
    "Assignment",
    "AssignmentProblem",
    "Call",
    "CallOutcome",
    "CallResult",
    "CallText",
    "ConfigError",
    "Core",
    "EccosConfig",
    "EccosError",
    "EccosRouting",
    "EccosScheduler",
    "Estimates",
    "HistoryError",
    "HistoryStore",
    "Manifest",
    "Outcome",
    "OutcomeRecorder",
    "Predictor",
    "Price",
    "Record",
    "RetrievalPredictor",
    "Router",
    "Routing",
    "Scheduler",
    "UnknownCallError",
    "eccos_scheduler_nonblock",
    "read_eccos_config",
    "read_history",
    "read_manifest",
    "solve",
    "useEccosScheduler",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"eccos_aios.{_HOMES[name]}"), name)
