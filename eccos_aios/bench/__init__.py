"""Benchmarks for users: recorded outcomes replayed under every policy, and a kernel measured under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_aios.lazy import lazy_names

# The replay imports scikit-learn and FAISS, which the command line does not wait for.
if TYPE_CHECKING:
    from eccos_aios.bench.replay import PolicyOutcome as PolicyOutcome
    from eccos_aios.bench.replay import Replay as Replay
    from eccos_aios.bench.replay import replay_history as replay_history
    from eccos_aios.bench.report import results_of as results_of
    from eccos_aios.bench.report import write_report as write_report
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "replay": "PolicyOutcome Replay replay_history",
            "report": "results_of write_report",
        },
    )
