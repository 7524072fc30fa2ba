"""The experiment: recorded outcomes replayed under every policy, and a kernel measured under load."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eccos_aios.bench.replay import PolicyOutcome, Replay, replay_history
    from eccos_aios.bench.report import headline_table, policy_table, results_of, write_report

# the replay needs scikit-learn and FAISS, which the command line does not wait for
_LAZY = {
    "PolicyOutcome": "replay",
    "Replay": "replay",
    "headline_table": "report",
    "policy_table": "report",
    "replay_history": "replay",
    "results_of": "report",
    "write_report": "report",
}

__all__ = [
    "PolicyOutcome",
    "Replay",
    "headline_table",
    "policy_table",
    "replay_history",
    "results_of",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
