"""Benchmarks for users: recorded outcomes replayed under every policy, and a kernel measured under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_aios.lazy import lazy_names

# The replay imports scikit-learn and FAISS, which the command line does not wait for.
if TYPE_CHECKING:
    from eccos_aios.bench.replay import Options as Options
    from eccos_aios.bench.replay import PolicyOutcome as PolicyOutcome
    from eccos_aios.bench.replay import Replay as Replay
    from eccos_aios.bench.replay import replay_history as replay_history
    from eccos_aios.bench.replay import replay_test as replay_test
    from eccos_aios.bench.report import results_of as results_of
    from eccos_aios.bench.report import write_report as write_report
    from eccos_aios.bench.splits import SplitReplay as SplitReplay
    from eccos_aios.bench.splits import replay_splits as replay_splits
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "replay": "Options PolicyOutcome Replay replay_history replay_test",
            "report": "results_of write_report",
            "splits": "SplitReplay replay_splits",
        },
    )
