"""Tokens and latencies that a history lacks, and the values that a replay uses instead."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from eccos_aios.core import Core
from eccos_aios.history import Outcome, Record
from eccos_aios.plans.answers import UNRECORDED_OUTPUT_TOKENS
from eccos_aios.predict import record_text
from eccos_aios.sandbox.reply import CHARACTERS_PER_TOKEN

UNRECORDED_LATENCY_S = 0.5  # where the history has no latency at all

Figure = Literal["latency_s", "output_token_length"]


def fill_gaps(
    asked: Sequence[Record], cores: Sequence[Core], history: Sequence[Record]
) -> tuple[list[Record], tuple[str, ...]]:
    """Records with the outcomes of `cores` only, in their order, with all token counts and latencies.

    Latency: the core's mean, else that of all cores, else `UNRECORDED_LATENCY_S`. Output tokens: those of
    the recorded answer, four characters each; without one the core's mean, else that of all cores, else
    `UNRECORDED_OUTPUT_TOKENS`. Input tokens: those of the record, else of its text.

    Parameters
    ----------
    asked : sequence of Record
        Each with an outcome of every core.
    cores : sequence of Core
    history : sequence of Record
        The records that the means are taken over.

    Returns
    -------
    tuple
        The records, and a note for each figure that was missing somewhere.
    """
    names = [core.name for core in cores]
    latency_s = _means(history, names, "latency_s", UNRECORDED_LATENCY_S)
    tokens = _means(history, names, "output_token_length", UNRECORDED_OUTPUT_TOKENS)
    missing: Counter[str] = Counter()

    def fill(record: Record, outcome: Outcome) -> Outcome:
        name = outcome.model_name
        known = {
            "latency_s": latency_s[name],
            "output_token_length": _answer_tokens(outcome) or round(tokens[name]),
            "input_token_length": round(record_text(record).input_tokens),
        }
        absent = {key: value for key, value in known.items() if getattr(outcome, key) is None}
        missing.update(list(absent))
        return outcome.model_copy(update=absent)

    records = []
    for record in asked:
        by_name = {outcome.model_name: outcome for outcome in record.outputs}
        outputs = tuple(fill(record, by_name[name]) for name in names)
        records.append(record.model_copy(update={"outputs": outputs}))
    return records, tuple(_notes(missing, len(asked) * len(cores)))


def _means(
    history: Sequence[Record], names: Sequence[str], figure: Figure, otherwise: float
) -> dict[str, float]:
    """Mean of a figure by core."""
    known: dict[str, list[float]] = {name: [] for name in names}
    for record in history:
        for outcome in record.outputs:
            value = getattr(outcome, figure)
            if value is not None and outcome.model_name in known:
                known[outcome.model_name].append(value)
    every = [value for of_core in known.values() for value in of_core]
    overall = fmean(every) if every else otherwise
    return {name: fmean(of_core) if of_core else overall for name, of_core in known.items()}


def _answer_tokens(outcome: Outcome) -> int:
    """Tokens of the recorded answer; 0 if there is none."""
    if outcome.prediction is None:
        return 0
    text = outcome.prediction if isinstance(outcome.prediction, str) else json.dumps(outcome.prediction)
    return max(1, len(text) // CHARACTERS_PER_TOKEN)


def _notes(missing: Counter[str], outcomes: int) -> list[str]:
    in_place = {
        "latency_s": ("latency", f"the core's mean, or {UNRECORDED_LATENCY_S:g} s"),
        "output_token_length": (
            "output tokens",
            f"counted from the answer, or the core's mean, or {UNRECORDED_OUTPUT_TOKENS:g}",
        ),
        "input_token_length": ("input tokens", "the record's own count, or counted from its text"),
    }
    return [
        f"{what} not recorded in {missing[key]} of {outcomes} outcomes; in their place: {taken}"
        for key, (what, taken) in in_place.items()
        if missing[key]
    ]
