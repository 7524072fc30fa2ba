"""Setup: what the clockwork needs from the config, the manifest, the history and AIOS's cores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eccos_aios.config import SECTION, EccosConfig, eccos_config
from eccos_aios.core import Core, Manifest
from eccos_aios.errors import ConfigError
from eccos_aios.history.schema import is_store
from eccos_aios.hooks.learner import Learner, learner_of
from eccos_aios.predict import HybridPredictor, LearningPredictor, fitted_predictor
from eccos_aios.schedule import RetryPolicy, SchedulerSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """What one scheduler runs on.

    Attributes
    ----------
    cores : tuple of Core
        The manifest's cores that AIOS initialised.
    learner : Learner
        Holds the predictor, fitted on the history; not started.
    settings : SchedulerSettings
    """

    cores: tuple[Core, ...]
    learner: Learner
    settings: SchedulerSettings


def kernel_config() -> EccosConfig:
    """The ``scheduler.eccos`` section as the AIOS of this process has loaded it.

    Raises
    ------
    ConfigError
        The section, or a file that it names, is wrong.
    """
    from aios.config.config_manager import config

    scheduler = config.get_scheduler_config() or {}
    return eccos_config(scheduler.get("eccos"), Path(config.config_path))


def kernel_model_names() -> list[str]:
    """``llms.models[].name`` of the AIOS of this process."""
    from aios.config.config_manager import config

    return [model.get("name") for model in config.get_llms_config().get("models") or []]


def check(config: EccosConfig, model_names: list[str]) -> Manifest:
    """Hold the manifest against the models that AIOS's config lists.

    Raises
    ------
    ConfigError
        The manifest is wrong, or names a core that AIOS's config does not list.
    """
    manifest = config.read_manifest()
    for position, core in enumerate(manifest.cores):
        if core.name not in model_names:
            allowed = ", ".join(map(repr, model_names)) or "nothing"
            raise ConfigError(
                str(config.manifest),
                f"cores[{position}].name",
                core.name,
                f"must equal one of llms.models[].name in AIOS's config: {allowed}",
            )
    return manifest


def prepare(config: EccosConfig, available: Sequence[str], learner: Learner | None = None) -> Setup:
    """Read what the config names and fit the predictor.

    Parameters
    ----------
    config : EccosConfig
    available : sequence of str
        Names of the cores that AIOS initialised.
    learner : Learner, optional
        One that learns from this history already. Default: the history is read.

    Raises
    ------
    ConfigError
        The manifest is wrong, or AIOS has none of its cores.
    HistoryError
        A record is wrong.
    """
    manifest = config.read_manifest()
    cores = tuple(core for core in manifest.cores if core.name in available)
    if not cores:
        raise ConfigError(
            str(config.manifest),
            "cores",
            list(manifest.names),
            f"AIOS initialised none of these, only {list(available)}",
        )
    for name in manifest.names:
        if name not in available:
            logger.warning(
                "core %r is in the manifest, but AIOS could not initialise it: it gets no calls", name
            )
    for name in available:
        if name not in manifest.names:
            logger.warning("core %r is not in the manifest: it gets only the calls that name it", name)
    return Setup(
        cores=cores,
        learner=learner or _learner(config),
        settings=settings_of(config),
    )


def settings_of(config: EccosConfig) -> SchedulerSettings:
    """The clockwork's knobs as the config sets them."""
    targets = {name: agent.quality_target for name, agent in config.agents.items()}
    return SchedulerSettings(
        quality_target=config.quality_target,
        max_wait_s=config.max_wait_s,
        max_quality_wait_s=config.max_quality_wait_s,
        price_per_second=config.price_per_second,
        gather_s=config.gather_ms / 1000,
        call_timeout_s=config.call_timeout_s,
        attempt_timeout_s=config.attempt_timeout_s,
        unavailable_after_s=config.unavailable_after_s,
        max_pending=config.max_pending,
        grace_s=config.grace_s,
        max_age_s=config.max_age_s,
        agent_weights={name: agent.weight for name, agent in config.agents.items()},
        agent_targets={name: target for name, target in targets.items() if target is not None},
        retry=RetryPolicy(max_attempts=config.max_attempts),
        affinity=config.affinity,
        exploration=config.exploration,
        log_text=config.log_text,
    )


def _learner(config: EccosConfig) -> Learner:
    history = config.history
    if history is None:
        logger.warning("no %s.history: every core starts from the same prior", SECTION)
        return Learner(LearningPredictor(HybridPredictor().fit([])))
    if not is_store(history):
        logger.info("%s is only read: what this kernel sees is not kept; a .db store would", history)
    elif not history.exists():
        logger.info("%s does not exist yet: every core starts from the same prior", history)
        return Learner(LearningPredictor(HybridPredictor().fit([])), history)
    logger.info("learning from %s; what is learned is kept beside it for the next start", history)
    return learner_of(history, fitted_predictor(history))
