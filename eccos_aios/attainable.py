"""Which quality targets a history makes attainable, and at what cost, measured on past calls held out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eccos_aios.assign import WAITS
from eccos_aios.candidates import FloatArray
from eccos_aios.core import Core
from eccos_aios.history import Record
from eccos_aios.predict import HybridPredictor, Predictor, record_text
from eccos_aios.predict.dataset import query_key
from eccos_aios.router import EstimatedBatch, Router

MAX_LEARNED, MAX_ASKED = 1_000, 500  # records; enough for two digits, and a fit of seconds
MIN_RECORDS = 60  # fewer leave less than twenty to measure on
ASKED_SHARE = 1 / 3
NEAR_BEST = 0.98  # of the best core's quality: the suggested target
TOLERATED_ERRORS = 2.0  # standard errors that the quality given may miss a target by and still attain it
STEPS = 100  # targets from 0 to 1


@dataclass(frozen=True)
class AttainedTarget:
    """What a quality target gave on the calls held out.

    Attributes
    ----------
    target : float
        0 to 1.
    quality : float
        Mean recorded quality of the chosen cores.
    cost_share : float or None
        Expected cost, divided by that of the best core for every call; None if that is free.
    """

    target: float
    quality: float
    cost_share: float | None


@dataclass(frozen=True)
class Attainable:
    """What quality targets are worth with a history.

    Attributes
    ----------
    learned, asked : int
        Records learned from, and held out to measure on.
    best_core : str
        Of the highest mean quality on those held out.
    best_quality, error : float
        That quality, and its standard error.
    targets : tuple of AttainedTarget
        Ascending: those that the estimates reach, and that are attained within two standard errors.
    suggested : AttainedTarget
        The lowest that gives 98 % of the best core's quality, else the highest.
    """

    learned: int
    asked: int
    best_core: str
    best_quality: float
    error: float
    targets: tuple[AttainedTarget, ...]
    suggested: AttainedTarget

    @property
    def highest(self) -> AttainedTarget:
        """The highest target that is attained."""
        return self.targets[-1]

    def at(self, target: float) -> AttainedTarget | None:
        """What a target gives; None where it is not attained."""
        return next((each for each in self.targets if each.target >= target - 1e-9), None)


def attainable_targets(
    history: Sequence[Record], cores: Sequence[Core], predictor: Predictor | None = None, seed: int = 0
) -> Attainable | None:
    """Learn from two thirds of a history's records, and route the others at every target.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
        With a record at least; of others nothing can be measured.
    predictor : Predictor, optional
        Not fitted. Default: the hybrid predictor.
    seed : int
        Of the choice of records.

    Returns
    -------
    Attainable or None
        None where there are fewer than 60 records that all the cores have answered.
    """
    names = [core.name for core in cores]
    complete = [record for record in history if _answered(record).issuperset(names)]
    if len(complete) < MIN_RECORDS or not names:
        return None
    chance = random.Random(seed)
    learned, asked = _split(_some(complete, MAX_LEARNED + MAX_ASKED, chance), chance)
    if not asked or not learned:
        return None
    fitted = (predictor or HybridPredictor()).fit(learned)
    batch = Router(cores, fitted).estimate([record_text(record) for record in asked])
    quality = np.array([[_quality(record, name) for name in names] for record in asked])
    return _measured(batch, quality, len(learned))


def _measured(batch: EstimatedBatch, quality: FloatArray, learned: int) -> Attainable | None:
    means = quality.mean(axis=0)
    best = int(means.argmax())
    error = float(quality[:, best].std() / math.sqrt(len(quality)))
    best_cost = float(batch.candidates.cost[:, best].sum())
    rows = np.arange(len(quality))
    targets = []
    for step in range(STEPS + 1):
        routing = batch.route(
            quality_target=step / STEPS, quotas={core.name: len(rows) for core in batch.cores}
        )
        chosen = routing.assignment.core
        if not routing.assignment.met or (chosen == WAITS).any():
            break
        given = quality[rows, chosen]
        spread = TOLERATED_ERRORS * float(given.std() / math.sqrt(len(given)))
        # Where the estimates promise too much at one target, they may hold again at a higher one.
        if given.mean() >= step / STEPS - spread:
            share = routing.predicted_cost / best_cost if best_cost else None
            targets.append(AttainedTarget(step / STEPS, float(given.mean()), share))
    if not targets:
        return None
    near = NEAR_BEST * float(means[best])
    suggested = next(
        (each for each in targets if each.quality >= near and each.target >= near - error), targets[-1]
    )
    return Attainable(
        learned, len(rows), batch.cores[best].name, float(means[best]), error, tuple(targets), suggested
    )


def _split(records: Sequence[Record], chance: random.Random) -> tuple[list[Record], list[Record]]:
    """Records to learn from, and others, of other queries, to measure on."""
    keys = [query_key(record_text(record)) or str(row) for row, record in enumerate(records)]
    queries = sorted(set(keys))
    chance.shuffle(queries)
    held_out = set(queries[: max(1, int(len(queries) * ASKED_SHARE))])
    learned: list[Record] = []
    asked: list[Record] = []
    for key, record in zip(keys, records, strict=True):
        (asked if key in held_out else learned).append(record)
    return learned, asked


def _some(records: list[Record], most: int, chance: random.Random) -> list[Record]:
    return records if len(records) <= most else chance.sample(records, most)


def _answered(record: Record) -> set[str]:
    return {outcome.model_name for outcome in record.outputs}


def _quality(record: Record, name: str) -> float:
    return next(each.graded_quality for each in record.outputs if each.model_name == name)
