"""Repeated splits: every policy replayed on each of many random splits, in parallel processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eccos_aios.bench.curves import Curves, curves_of, stacked
from eccos_aios.bench.fold import Fold, recorded_truth, splits
from eccos_aios.bench.replay import OnStep, Options, replay_fold
from eccos_aios.core import Core
from eccos_aios.history import Record

if TYPE_CHECKING:
    import pandas

# what the figures compare; the other policies can be named
DEFAULT_POLICIES = ("eccos", "smart", "mix", "best-single", "oracle")


@dataclass(frozen=True)
class SplitReplay:
    """The results of repeated splits; a draw of the curves is a split.

    Attributes
    ----------
    learned, tested : int
        Records that a split learns from and that it measures, means over the splits.
    """

    cores: tuple[Core, ...]
    learned: int
    tested: int
    seed: int
    curves: Curves

    def to_frame(self) -> pandas.DataFrame:
        """A pandas DataFrame with a row per policy and level: means over the splits, with their errors.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        from eccos_aios.bench.report import points_frame

        return points_frame(self)


def replay_splits(
    history: Sequence[Record],
    cores: Sequence[Core],
    count: int,
    options: Options | None = None,
    *,
    train_records: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    on_step: OnStep = lambda step, done, total: None,
) -> SplitReplay:
    """Replay policies without quotas on repeated random splits by query.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
    count : int
        Splits, at least 2.
    options : Options, optional
        Default policies: `DEFAULT_POLICIES`, and plans where they are asked for.
    train_records : int, optional
        Records that each split learns from. Default: half of the queries.
    seed : int
        Of the splits; the results depend on nothing else.
    jobs : int, optional
        Processes. Default: one per CPU, as many as there are splits at most.
    on_step : callable
        Called with the step, the number of splits done, and their total.

    Raises
    ------
    ValueError
        As `replay_history`; or there are too few splits, queries or records.
    """
    from joblib import Parallel, delayed

    options = options or Options()
    names = DEFAULT_POLICIES if options.names is None else options.names
    options = replace(options, names=tuple(names), quotas=(False,))
    options.policies()
    if np.isnan(recorded_truth(history, cores).quality).all():
        raise ValueError("history: no outcome of any core of the manifest")
    made = splits(history, cores, count, seed, train_records)
    workers = min(count, jobs or os.cpu_count() or 1)
    on_step("splits", 0, count)
    found = []
    run = Parallel(n_jobs=workers, return_as="generator")
    for curves in run(delayed(_curves)(fold, options, seed) for fold in made):
        found.append(curves)
        on_step("splits", len(found), count)
    learned, tested = (
        round(float(np.mean([len(each) for each in part])))
        for part in ([fold.history for fold in made], [fold.calls for fold in made])
    )
    return SplitReplay(tuple(cores), learned, tested, seed, stacked(found))


def _curves(fold: Fold, options: Options, seed: int) -> Curves:
    own = replace(fold, rows=np.arange(len(fold.calls)))
    return curves_of(replay_fold(own, own.truth, options.policies(), options, seed), resamples=0)
