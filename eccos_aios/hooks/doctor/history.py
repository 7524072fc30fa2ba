"""Checks of the history: what it knows of each core, what target it makes attainable, who adds to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from eccos_aios.attainable import MIN_RECORDS, attainable_targets
from eccos_aios.config import STORE_SUFFIX, EccosConfig
from eccos_aios.core import Core, Manifest
from eccos_aios.history import Record, read_history
from eccos_aios.history.schema import is_store
from eccos_aios.hooks.doctor.finding import Finding
from eccos_aios.predict.core_prior import NEWCOMER_RECORDS
from eccos_aios.runtime.configuration import predictor_spec


def check_history(
    config: EccosConfig, manifest: Manifest, cores: Sequence[Core], scheduling: bool
) -> Iterator[Finding]:
    """The history of a config.

    Parameters
    ----------
    config : EccosConfig
    manifest : Manifest
    cores : sequence of Core
        The manifest's, priced as the kernel prices them.
    scheduling : bool
        Whether ECCOS is AIOS's scheduler.
    """
    if config.history is None:
        yield Finding(
            "warn",
            "history",
            "none: nothing is known of any core, so calls go by the manifest's quality or by price",
            "name one at scheduler.eccos.history: a .db is made at start and stores the outcomes of calls",
        )
        return
    yield _recording(config.history, scheduling and config.mode == "schedule")
    if not config.history.exists():
        return
    records = read_history(config.history)
    yield Finding("ok", "history", f"{len(records)} records in {config.history}")
    counts = _outcomes(records, manifest)
    unknown = [core.name for core in manifest.cores if not counts[core.name]]
    if unknown:
        yield Finding(
            "warn",
            "history",
            f"no outcome of {', '.join(unknown)}: what is believed of them is the manifest's quality, or a "
            "cautious guess by price, and no quality target counts as met there",
            "record outcomes (eccos-aios collect), or state quality: in the manifest",
        )
    for name, known in counts.items():
        if 0 < known < NEWCOMER_RECORDS:
            yield Finding(
                "warn",
                "history",
                f"{known} outcomes of core {name!r}: its estimates lean on what is believed of it",
                f"record at least {NEWCOMER_RECORDS} outcomes of it",
            )
    yield _target(config, records, [core for core in cores if counts[core.name]])


def _target(config: EccosConfig, records: list[Record], cores: Sequence[Core]) -> Finding:
    """What the quality target costs with this history, and whether it can be reached."""
    attainable = attainable_targets(records, cores, predictor_spec(config).make())
    wanted = config.quality_target
    if attainable is None:
        return Finding(
            "warn",
            "target",
            f"there is too little history to tell whether {wanted:g} can be reached: at least {MIN_RECORDS} "
            "questions that all cores have answered are needed",
            "ask more (eccos-aios collect)",
        )
    best = f"{attainable.best_core}, the best core, gives {attainable.best_quality:.2f}"
    measured = f"measured on {attainable.asked} past calls held out, ± {attainable.error:.2f}"
    highest, suggested, given = attainable.highest, attainable.suggested, attainable.at(wanted)
    if given is None:
        return Finding(
            "warn",
            "target",
            f"{wanted:g} is out of reach with this history: {highest.target:.2f} is the highest that the "
            f"estimates reach ({best}; {measured})",
            f"set quality_target: {suggested.target:.2f}, which {_cost(suggested.cost_share)}; or add a "
            "better core",
        )
    message = (
        f"{wanted:g} can be reached, and {_cost(given.cost_share)}; the highest is {highest.target:.2f} "
        f"({best}; {measured})"
    )
    if f"{suggested.target:.2f}" != f"{wanted:.2f}":
        message += f"; suggested: {suggested.target:.2f}, which {_cost(suggested.cost_share)}"
    return Finding("ok", "target", message)


def _cost(share: float | None) -> str:
    return "costs nothing, as the best core does" if share is None else f"costs {share:.0%} of the best core"


def _recording(history: Path, scheduling: bool) -> Finding:
    """Whether outcomes of calls will be stored."""
    if not scheduling:
        return Finding(
            "warn",
            "outcomes",
            "not stored: AIOS's own scheduler executes the calls",
            "set scheduler.scheduler_type: eccos, and scheduler.eccos.mode: schedule",
        )
    if not is_store(history):
        store = history.with_name(history.name.split(".")[0] + STORE_SUFFIX)
        return Finding(
            "warn",
            "outcomes",
            f"{history} is only read: outcomes of calls are not stored",
            f"eccos-aios history import {quote(str(store))} {quote(str(history))}, and name {store.name} at "
            "scheduler.eccos.history",
        )
    closed = [
        place for place in (history, history.parent) if place.exists() and not os.access(place, os.W_OK)
    ]
    if closed:
        return Finding(
            "fail",
            "outcomes",
            f"{closed[0]} cannot be written by this user: the kernel would stop at start",
            f"let the kernel's user write the folder {history.parent} and the store in it",
        )
    made = "" if history.exists() else " does not exist yet: the kernel makes it at start, and"
    return Finding("ok", "outcomes", f"{history}{made} stores the outcomes of calls")


def _outcomes(records: list[Record], manifest: Manifest) -> dict[str, int]:
    counts = dict.fromkeys(manifest.names, 0)
    for record in records:
        for outcome in record.outputs:
            if outcome.model_name in counts:
                counts[outcome.model_name] += 1
    return counts
