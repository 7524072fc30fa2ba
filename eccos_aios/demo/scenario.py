"""The input of the demo: cores, past records, and records to ask."""

from __future__ import annotations

import random
from dataclasses import dataclass

from eccos_aios.collect.generated import make_questions
from eccos_aios.core import Core
from eccos_aios.demo.made_up_cores import MADE_UP_CORES, record
from eccos_aios.history import Record

DEFAULT_QUESTIONS = 108
DEFAULT_RECORDS = 480  # twenty of each kind of question
DEFAULT_QUALITY_TARGET = 0.85  # of the generated questions


@dataclass(frozen=True)
class Scenario:
    """Cores and records.

    Attributes
    ----------
    cores : tuple of Core
        In AIOS's order of models: AIOS's FIFO sends every call to the first.
    past : list of Record
        ECCOS learns from these.
    asked : list of Record
        Disjoint from `past`; each has an outcome of every core, with tokens and latency.
    quality_target : float
    time_scale : float
        Factor on every latency, on AIOS's pauses and on ECCOS's waits.
    notes : tuple of str
        Remarks for the reader of the figures.
    """

    cores: tuple[Core, ...]
    past: list[Record]
    asked: list[Record]
    quality_target: float
    time_scale: float = 1.0
    notes: tuple[str, ...] = ()


def generated_scenario(
    questions: int = DEFAULT_QUESTIONS,
    records: int = DEFAULT_RECORDS,
    seed: int = 0,
    quality_target: float | None = None,
) -> Scenario:
    """Generated questions, and the made-up cores that answer them.

    Parameters
    ----------
    questions : int
        Number to ask, at least 1.
    records : int
        Number to learn from.
    seed : int
        Of questions, answers and latencies.
    quality_target : float, optional
        Default: `DEFAULT_QUALITY_TARGET`.
    """
    every = make_questions(questions + records, seed)
    # Shuffled within each part, so that the asked questions are of all kinds in equal number.
    rng = random.Random(f"order {seed}")
    every = rng.sample(every[:questions], questions) + rng.sample(every[questions:], records)
    recorded = [record(question, position, seed) for position, question in enumerate(every)]
    return Scenario(
        cores=tuple(made_up.core for made_up in MADE_UP_CORES),
        past=recorded[questions:],
        asked=recorded[:questions],
        quality_target=DEFAULT_QUALITY_TARGET if quality_target is None else quality_target,
    )
