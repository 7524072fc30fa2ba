"""Setup: what the clockwork needs from the config, the manifest, the history and AIOS's cores."""

from __future__ import annotations

import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eccos_aios.config import SECTION, EccosConfig, eccos_config
from eccos_aios.core import Core, Manifest
from eccos_aios.errors import ConfigError
from eccos_aios.history.schema import is_store
from eccos_aios.plugins import Where
from eccos_aios.predict import PredictorSpec, online_predictor, use_tokenizer
from eccos_aios.predict.tokens import Encode
from eccos_aios.runtime.learner import Learner, learner_of
from eccos_aios.schedule import RetryPolicy, SchedulerSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """An entry of ``llms.models`` in AIOS's config; backend and host are None where it has none."""

    name: str
    backend: str | None = None
    hostname: str | None = None


@dataclass(frozen=True)
class Setup:
    """What one scheduler runs on.

    Attributes
    ----------
    cores : tuple of Core
        The manifest's cores that AIOS initialised, with the prices that are known under their backends.
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
    file = Path(config.config_path)
    section = eccos_config(scheduler.get("eccos"), file)
    predictor_spec(section, str(file)).make()
    return section


def predictor_spec(config: EccosConfig, file: str = "") -> PredictorSpec:
    """The predictor and the embedder that the config names; errors of `PredictorSpec.make` name `file`."""
    where = Where(file, f"{SECTION}.{{kind}}", f"{SECTION}.{{kind}}_options.{{option}}")
    return PredictorSpec(
        config.predictor, config.predictor_options, config.embedder, config.embedder_options, where
    )


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


def models_of(llm_configs: Iterable[Any]) -> list[Model]:
    """AIOS's models, from the ``llm_configs`` of its adapter or from the entries of its config."""
    return [
        Model(str(_entry(each, "name")), _entry(each, "backend"), _entry(each, "hostname"))
        for each in llm_configs
    ]


def _entry(llm_config: Any, name: str) -> Any:
    return llm_config.get(name) if isinstance(llm_config, Mapping) else getattr(llm_config, name, None)


def never_served(models: Sequence[Model]) -> list[tuple[Model, Model]]:
    """Models that no call reaches, each with the one before it that has its name.

    AIOS tells its models apart by name alone and takes the first.
    """
    by_name: defaultdict[str, list[Model]] = defaultdict(list)
    for model in models:
        by_name[model.name].append(model)
    return [(later, alike[0]) for alike in by_name.values() for later in alike[1:]]


def prepare(config: EccosConfig, llm_configs: Sequence[Any], learner: Learner | None = None) -> Setup:
    """Read what the config names and fit the predictor; log what an operator should know of the cores.

    Parameters
    ----------
    config : EccosConfig
    llm_configs : sequence
        The models that AIOS initialised, each with a ``name`` and, where AIOS knows them, ``backend`` and
        ``hostname``.
    learner : Learner, optional
        One that learns from this history already; it is reused if the config names its predictor. Default:
        the history is read.

    Raises
    ------
    ConfigError
        The manifest or the predictor is wrong, or AIOS has none of the cores.
    HistoryError
        A record is wrong.
    """
    manifest, models = config.read_manifest(), models_of(llm_configs)
    backends = {model.name: model.backend for model in reversed(models)}  # of several of a name the first
    cores = tuple(core.at_backend(backends[core.name]) for core in manifest.cores if core.name in backends)
    if not cores:
        raise ConfigError(
            str(config.manifest),
            "cores",
            list(manifest.names),
            f"AIOS initialised none of these, only {list(backends)}",
        )
    _warn(config, manifest, cores, models)
    use_tokenizer(_litellm_encode())
    spec = predictor_spec(config)
    return Setup(
        cores=cores,
        learner=learner if learner is not None and learner.spec == spec else _learner(config, spec),
        settings=settings_of(config),
    )


def _warn(config: EccosConfig, manifest: Manifest, cores: Sequence[Core], models: Sequence[Model]) -> None:
    names = {model.name for model in models}
    for name in manifest.names:
        if name not in names:
            logger.warning(
                "core %r is in the manifest, but AIOS could not initialise it: it gets no calls", name
            )
    for name in sorted(names.difference(manifest.names)):
        logger.warning("core %r is not in the manifest: it gets only the calls that name it", name)
    for core in cores:
        if core.known_price is None:
            logger.warning(
                "core %r has no price: %s gives none and litellm knows none, so it is taken to be as dear as "
                "the dearest other core; set its price there, {input: 0, output: 0} for your own hardware",
                core.name,
                config.manifest,
            )
    for later, first in never_served(models):
        logger.warning(
            "core %r at %s never serves: AIOS's config lists that name before, at %s, and AIOS tells cores "
            "apart by name alone; rename one of them",
            later.name,
            later.hostname or later.backend,
            first.hostname or first.backend,
        )


def _litellm_encode() -> Encode | None:
    """The tokenizer (cl100k) that litellm ships and uses itself, where litellm is loaded; else None.

    Where litellm is told to keep its tokenizer elsewhere, it may have to fetch it first: that is left to it.
    """
    litellm = sys.modules.get("litellm")
    if litellm is None or os.environ.get("CUSTOM_TIKTOKEN_CACHE_DIR"):
        return None
    try:
        encode: Encode = litellm.encoding.encode_ordinary
    except Exception as error:  # noqa: BLE001 - whatever litellm's loading raises, calls are counted without
        logger.info("litellm's tokenizer cannot be used, tokens are estimated: %s", type(error).__name__)
        return None
    return encode


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


def _learner(config: EccosConfig, spec: PredictorSpec) -> Learner:
    history = config.history
    if history is None:
        logger.warning("no %s.history: every core starts from the same prior", SECTION)
        return Learner(online_predictor(spec.make().fit([])), spec=spec)
    if not is_store(history):
        logger.info("%s is only read: this kernel's outcomes are not stored; use a .db store", history)
    elif not history.exists():
        logger.info("%s does not exist yet: every core starts from the same prior", history)
        return Learner(online_predictor(spec.make().fit([])), history, spec=spec)
    else:
        logger.info("learning from %s; the fitted predictor is saved beside it for the next start", history)
    return learner_of(history, spec)
