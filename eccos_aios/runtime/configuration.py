"""ServiceConfiguration: the parts of a service by its config, made and checked before anything changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eccos_aios.config import SECTION, EccosConfig
from eccos_aios.core import Core
from eccos_aios.errors import HistoryError
from eccos_aios.history import HistoryStore, Record, indexed_history
from eccos_aios.history.schema import is_store
from eccos_aios.plugins import Where
from eccos_aios.predict import (
    CallText,
    Predictor,
    PredictorSpec,
    experience_of,
    online_predictor,
    prior_shift,
    record_text,
)
from eccos_aios.runtime.budget_file import budget_path
from eccos_aios.runtime.learner import Learner, learner_of
from eccos_aios.runtime.outcome_log import open_store
from eccos_aios.runtime.planner import Planner, records_of
from eccos_aios.runtime.sharing import SharedCores, shared_cores
from eccos_aios.runtime.telemetry import Mode, check_installed
from eccos_aios.schedule import SchedulerSettings

logger = logging.getLogger(__name__)

PAST_CALLS = 256  # a mean over them errs by three points at most; a start waits for their estimates


@dataclass(frozen=True)
class ServiceConfiguration:
    """What a `SchedulingService` runs on; made by `prepare`.

    Attributes
    ----------
    cores : tuple of Core
    settings : SchedulerSettings
    learner : Learner
        Holds the predictor, fitted.
    store : HistoryStore or None
        Where outcomes are written; None: nowhere. The service that gets the configuration owns it.
    planner : Planner or None
        Knows plans of several cores; None: `EccosConfig.plans` is ``off``.
    budgets : Path or None
        Where it is kept what is spent of the budgets; None: there are none.
    shared : SharedCores or None
        Where cores are shared with other kernels; None: they are not.
    telemetry : {"auto", "on", "off"}
        As in `EccosConfig`.
    past : tuple of CallText
        Calls of the history, by which quality gets its price before the first call.
    """

    cores: tuple[Core, ...]
    settings: SchedulerSettings
    learner: Learner
    store: HistoryStore | None = None
    budgets: Path | None = None
    planner: Planner | None = None
    shared: SharedCores | None = None
    telemetry: Mode = "auto"
    past: tuple[CallText, ...] = ()

    def discard(self) -> None:
        """Release what no service has taken over."""
        if self.store is not None:
            self.store.close()


def prepare(
    config: EccosConfig, cores: Sequence[Core], learner: Learner | None = None
) -> ServiceConfiguration:
    """Read the history of a config, fit the predictor, and open the store.

    Parameters
    ----------
    config : EccosConfig
    cores : sequence of Core
    learner : Learner, optional
        One that already learns from this history by this predictor (`SchedulingService.learner_for`).
        Default: one is made.

    Raises
    ------
    ConfigError
        The predictor or its embedder is wrong.
    HistoryError
        The history cannot be read, or its store cannot be opened.
    MissingExtraError
        An option needs a package that is not installed.
    """
    check_installed(config.telemetry)
    learner = learner or make_learner(config)
    _warn_of_unrecorded(cores, learner.predictor, config)
    settings = SchedulerSettings.of(config)
    planner = None if config.plans == "off" else make_planner(config, cores)
    store = open_store(config)
    shared = shared_cores(config, store)
    budgets = budget_path(config)
    return ServiceConfiguration(
        tuple(cores),
        settings,
        learner,
        store,
        budgets,
        planner,
        shared,
        config.telemetry,
        past_calls(config.history),
    )


def past_calls(history: Path | None) -> tuple[CallText, ...]:
    """Calls of a history, spread evenly over it; none where they cannot be read."""
    if history is None or not history.exists():
        return ()
    try:
        with records_of(history, None, indexed_history) as (records, _):
            return tuple(record_text(record) for record in past_records(records))
    except HistoryError as error:
        logger.warning("the first calls set the price of quality, as past ones cannot be read: %s", error)
        return ()


def past_records(records: Sequence[Record]) -> list[Record]:
    """At most `PAST_CALLS` of a history's records, spread evenly over it."""
    places = np.linspace(0, len(records) - 1, min(PAST_CALLS, len(records)))
    return [records[int(place)] for place in places]


def _warn_of_unrecorded(cores: Sequence[Core], predictor: Predictor, config: EccosConfig) -> None:
    """One line for all cores without a record, with what is believed of them instead."""
    experience = experience_of(predictor, [core.name for core in cores])
    if experience is None or experience.records.all() or len(cores) < 2:
        return
    shift = prior_shift(cores, experience)
    quality = experience.quality if shift is None else experience.quality + shift
    believed = [
        f"{core.name} {mean:.2f} ({'stated' if core.quality else 'guessed by its price'})"
        for core, records, mean in zip(cores, experience.records.tolist(), quality.tolist(), strict=True)
        if not records
    ]
    logger.warning(
        "no records of %d of %d cores; their mean quality is believed to be: %s. Record outcomes (eccos-aios "
        "collect, history import), or state quality: in %s; until then no quality target counts as met there",
        len(believed),
        len(cores),
        ", ".join(believed),
        config.manifest,
    )


def predictor_spec(config: EccosConfig, file: str = "") -> PredictorSpec:
    """The predictor and the embedder that the config names; errors of `PredictorSpec.make` name `file`."""
    where = Where(file, f"{SECTION}.{{kind}}", f"{SECTION}.{{kind}}_options.{{option}}")
    return PredictorSpec(
        config.predictor, config.predictor_options, config.embedder, config.embedder_options, where
    )


def make_planner(config: EccosConfig, cores: Sequence[Core]) -> Planner:
    """The plans that the config's history teaches.

    Raises
    ------
    ConfigError, HistoryError
        As `prepare`.
    """
    planner = Planner(cores, config.plans, predictor_spec(config))
    if config.history is not None:
        planner.fit(config.history)
    return planner


def make_learner(config: EccosConfig) -> Learner:
    """A learner of the config's history, its predictor fitted; not started.

    Raises
    ------
    ConfigError, HistoryError
        As `prepare`.
    """
    spec, history = predictor_spec(config), config.history
    if history is None:
        logger.warning("no %s.history: nothing is learned, and cores are chosen by what is believed", SECTION)
        return Learner(online_predictor(spec.make().fit([])), spec=spec)
    if not is_store(history):
        logger.info("%s is only read: this kernel's outcomes are not stored; use a .db store", history)
    elif not history.exists():
        logger.info("%s does not exist yet: it is made, and outcomes are stored there", history)
        return Learner(online_predictor(spec.make().fit([])), history, spec=spec)
    else:
        logger.info("learning from %s; the fitted predictor is saved beside it for the next start", history)
    return learner_of(history, spec)
