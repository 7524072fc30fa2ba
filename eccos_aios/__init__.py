"""ECCOS for AIOS: each LLM call to the cheapest core that answers well enough."""

from __future__ import annotations

from eccos_aios.lazy import lazy_names
from eccos_aios.version import __version__ as __version__

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without the import: this runs at every start of AIOS
# NumPy, SciPy, scikit-learn and FAISS take seconds to import: each name brings only what it needs.
if TYPE_CHECKING:
    from eccos_aios.assign import Assignment as Assignment
    from eccos_aios.assign import AssignmentProblem as AssignmentProblem
    from eccos_aios.assign import solve as solve
    from eccos_aios.config import EccosConfig as EccosConfig
    from eccos_aios.config import read_eccos_config as read_eccos_config
    from eccos_aios.core import Core as Core
    from eccos_aios.core import Manifest as Manifest
    from eccos_aios.core import Price as Price
    from eccos_aios.core import read_manifest as read_manifest
    from eccos_aios.errors import ConfigError as ConfigError
    from eccos_aios.errors import EccosError as EccosError
    from eccos_aios.errors import HistoryError as HistoryError
    from eccos_aios.errors import UnknownCallError as UnknownCallError
    from eccos_aios.history import CallOutcome as CallOutcome
    from eccos_aios.history import HistoryStore as HistoryStore
    from eccos_aios.history import Outcome as Outcome
    from eccos_aios.history import OutcomeRecorder as OutcomeRecorder
    from eccos_aios.history import Record as Record
    from eccos_aios.history import read_history as read_history
    from eccos_aios.hooks import EccosRouting as EccosRouting
    from eccos_aios.hooks import EccosScheduler as EccosScheduler
    from eccos_aios.hooks import eccos_scheduler_nonblock as eccos_scheduler_nonblock
    from eccos_aios.hooks import useEccosScheduler as useEccosScheduler
    from eccos_aios.predict import CallText as CallText
    from eccos_aios.predict import Estimates as Estimates
    from eccos_aios.predict import HybridPredictor as HybridPredictor
    from eccos_aios.predict import Predictor as Predictor
    from eccos_aios.predict import RetrievalPredictor as RetrievalPredictor
    from eccos_aios.router import Router as Router
    from eccos_aios.router import Routing as Routing
    from eccos_aios.schedule import Call as Call
    from eccos_aios.schedule import CallResult as CallResult
    from eccos_aios.schedule import Scheduler as Scheduler
    from eccos_aios.schedule import SchedulerSettings as SchedulerSettings
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "assign": "Assignment AssignmentProblem solve",
            "config": "EccosConfig read_eccos_config",
            "core": "Core Manifest Price read_manifest",
            "errors": "ConfigError EccosError HistoryError UnknownCallError",
            "history": "CallOutcome HistoryStore Outcome OutcomeRecorder Record read_history",
            "hooks": "EccosRouting EccosScheduler eccos_scheduler_nonblock useEccosScheduler",
            "predict": "CallText Estimates HybridPredictor Predictor RetrievalPredictor",
            "router": "Router Routing",
            "schedule": "Call CallResult Scheduler SchedulerSettings",
        },
    )
    __all__.append("__version__")
