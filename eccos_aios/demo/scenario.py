"""What the demo runs on: cores, what is learned from, what is asked."""

from __future__ import annotations

import random
from dataclasses import dataclass

from eccos_aios.collect.generated import make_questions
from eccos_aios.core import Core
from eccos_aios.demo.cast import PLAYERS, record
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
        In AIOS's order of models: the first is the one that AIOS sends every call to today.
    past : list of Record
        What ECCOS learns from.
    asked : list of Record
        None of them among `past`; each with an outcome of every core, whose tokens and latency are known.
    quality_target : float
    time_scale : float
        Factor on every latency, on AIOS's pauses and on ECCOS's waits.
    notes : tuple of str
        What a reader of the figures has to know.
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
    """Generated questions, and three cores that answer them each as well as it can.

    Parameters
    ----------
    questions : int
        To ask, at least 1.
    records : int
        To learn from.
    seed : int
        Of questions, answers and latencies.
    quality_target : float, optional
        Default: `DEFAULT_QUALITY_TARGET`.
    """
    every = make_questions(questions + records, seed)
    # In random order, but the first stay the first, so that those that are asked are of all kinds alike.
    rng = random.Random(f"order {seed}")
    every = rng.sample(every[:questions], questions) + rng.sample(every[questions:], records)
    recorded = [record(question, position, seed) for position, question in enumerate(every)]
    return Scenario(
        cores=tuple(player.core for player in PLAYERS),
        past=recorded[questions:],
        asked=recorded[:questions],
        quality_target=DEFAULT_QUALITY_TARGET if quality_target is None else quality_target,
    )
