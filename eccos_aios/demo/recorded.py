"""A scenario from a history: some of its records are asked, the others are learned from."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eccos_aios.core import Core, read_manifest
from eccos_aios.demo.gaps import fill_gaps
from eccos_aios.demo.load import CALLERS, Key, record_key
from eccos_aios.demo.scenario import DEFAULT_QUESTIONS, Scenario
from eccos_aios.errors import ABSENT, HistoryError, InputError
from eccos_aios.history import Record, read_history
from eccos_aios.sandbox.fifo import BATCH_INTERVAL_S
from eccos_aios.sandbox.kernel import DEFAULT_QUERY_THREADS
from eccos_aios.sandbox.syscall import GET_TIMEOUT_S

MIN_RECORDS = 12  # with an outcome of every core; fewer show no difference
ASKED_SHARE = 1 / 3  # upper bound, of the records that can be asked
TARGET_SHARE = 0.95  # of the best core's mean quality: the default target
RUNS_S = 55.0  # expected seconds of all runs together, at most


def recorded_scenario(
    history: Path,
    cores: Path,
    *,
    questions: int | None = None,
    seed: int = 0,
    quality_target: float | None = None,
) -> Scenario:
    """Read a history and a manifest, and split the records.

    Only records with text and an outcome of every core can be asked: without an outcome a core has nothing
    to replay. All records that are not asked are learned from, but for those with the query of an asked one.

    Parameters
    ----------
    history : Path
        A file that `read_history` reads.
    cores : Path
        The manifest; a core without outcomes in the history is left out.
    questions : int, optional
        Number to ask. Default: a third of the records that can be asked, at most `DEFAULT_QUESTIONS`.
    seed : int
        Of the sample.
    quality_target : float, optional
        Default: `TARGET_SHARE` of the best core's mean quality in the records learned from.

    Raises
    ------
    ConfigError
        The manifest is wrong.
    HistoryError
        The history is wrong, has no core of the manifest, or too few records can be asked.
    InputError
        There are fewer records than `questions`.
    """
    manifest = read_manifest(cores).cores
    records = read_history(history)
    known = Counter(outcome.model_name for record in records for outcome in record.outputs)
    played = tuple(core for core in manifest if known[core.name])
    if not played:
        found = f"its cores are {_listed(sorted(known))}" if known else "it holds no outcomes"
        raise HistoryError(str(history), "", ABSENT, f"has no core of {cores}; {found}")
    askable = _askable(records, played)
    if len(askable) < MIN_RECORDS:
        raise HistoryError(str(history), "", ABSENT, _too_few(len(askable), len(records), played, known))
    count = _count(len(askable), questions)
    chosen = random.Random(f"asked {seed}").sample(list(askable.values()), count)
    queries = {record.query.strip() for record in chosen}
    past = [record for record in records if record.query.strip() not in queries]
    if not past:
        raise HistoryError(
            str(history), "", ABSENT, "holds one query only: nothing would be left to learn from"
        )
    asked, notes = fill_gaps(chosen, played, records)
    time_scale = _time_scale(asked, len(played), sum(core.slots for core in played))
    if len(played) < len(manifest):
        unknown = [core.name for core in manifest if core not in played]
        notes = (f"left out, without outcomes in the history: {_listed(unknown)}", *notes)
    if incomplete := len(records) - sum(_is_askable(record, played) for record in records):
        notes = (
            f"{incomplete} records without text or the outcome of a core: learned from, never asked",
            *notes,
        )
    return Scenario(
        cores=played,
        past=past,
        asked=asked,
        quality_target=_default_target(past, played) if quality_target is None else quality_target,
        time_scale=time_scale,
        notes=notes,
    )


def _askable(records: Sequence[Record], cores: Sequence[Core]) -> dict[Key, Record]:
    """By request; of records with the same request, which a core cannot distinguish, the first."""
    askable: dict[Key, Record] = {}
    for record in records:
        if _is_askable(record, cores):
            askable.setdefault(record_key(record), record)
    return askable


def _is_askable(record: Record, cores: Sequence[Core]) -> bool:
    names = {outcome.model_name for outcome in record.outputs}
    return bool(record.query.strip()) and all(core.name in names for core in cores)


def _too_few(askable: int, records: int, cores: Sequence[Core], known: Counter[str]) -> str:
    fewest = min(cores, key=lambda core: known[core.name])
    hint = (
        f"; the core with the fewest outcomes is {fewest.name!r} ({known[fewest.name]}): "
        "collect more, or leave it out of the manifest"
        if known[fewest.name] < records
        else ""
    )
    of_all = f"an outcome of all {len(cores)} cores" if len(cores) > 1 else f"an outcome of {cores[0].name!r}"
    return (
        f"has {askable} different queries with {of_all}, of {records} records; "
        f"the demo needs {MIN_RECORDS} at least{hint}"
    )


def _count(askable: int, questions: int | None) -> int:
    if questions is None:
        return min(DEFAULT_QUESTIONS, int(askable * ASKED_SHARE))
    most = askable - 1
    if questions > most:
        raise InputError(
            "--questions",
            "",
            questions,
            f"must be {most} at most: {askable} records can be asked, and something "
            "has to be left to learn from",
        )
    return questions


def _default_target(past: Sequence[Record], cores: Sequence[Core]) -> float:
    qualities: dict[str, list[float]] = {core.name: [] for core in cores}
    for record in past:
        for outcome in record.outputs:
            if outcome.model_name in qualities:
                qualities[outcome.model_name].append(outcome.graded_quality)
    best = max(sum(of_core) / len(of_core) for of_core in qualities.values() if of_core)
    return round(TARGET_SHARE * best, 2)


def _time_scale(asked: Sequence[Record], cores: int, slots: int) -> float:
    """1, or the reciprocal of an integer with which the runs end in about `RUNS_S`."""
    first = [record.outputs[0].latency_s or 0.0 for record in asked]
    width = min(CALLERS, DEFAULT_QUERY_THREADS)
    batches = [first[start : start + width] for start in range(0, len(first), width)]
    fifo_s = sum(BATCH_INTERVAL_S + GET_TIMEOUT_S + max(batch) for batch in batches)
    mean_s = sum(outcome.latency_s or 0.0 for record in asked for outcome in record.outputs) / cores
    eccos_s = mean_s / min(CALLERS, slots)
    alone_s = 2 * mean_s / min(CALLERS, max(1, slots // cores))  # of two cores, one after the other
    return 1 / max(1, math.ceil((fifo_s + eccos_s + alone_s) / RUNS_S))


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
