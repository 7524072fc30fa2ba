"""What AIOS's config says: the ``scheduler.eccos`` section, and the models that become cores."""

from __future__ import annotations

import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eccos_aios.config import EccosConfig, eccos_config
from eccos_aios.core import Core, Manifest
from eccos_aios.errors import ConfigError
from eccos_aios.predict import use_tokenizer
from eccos_aios.predict.tokens import Encode
from eccos_aios.runtime.configuration import predictor_spec
from eccos_aios.schedule.settings import load_passes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """An entry of ``llms.models`` in AIOS's config; backend and host are None if it has none."""

    name: str
    backend: str | None = None
    hostname: str | None = None


def kernel_config() -> EccosConfig:
    """The ``scheduler.eccos`` section as this process's AIOS has loaded it.

    Raises
    ------
    ConfigError
        The section, a file or a predictor that it names is wrong.
    """
    from aios.config.config_manager import config

    scheduler = config.get_scheduler_config() or {}
    file = Path(config.config_path)
    section = eccos_config(scheduler.get("eccos"), file)
    predictor_spec(section, str(file)).make()
    load_passes(section, str(file))
    return section


def kernel_model_names() -> list[str]:
    """``llms.models[].name`` of this process's AIOS."""
    from aios.config.config_manager import config

    return [model.get("name") for model in config.get_llms_config().get("models") or []]


def check(config: EccosConfig, model_names: list[str]) -> Manifest:
    """Check the manifest against the models that AIOS's config lists.

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
    """Models that no call reaches, each with the earlier one of the same name.

    AIOS identifies models by name only and takes the first.
    """
    by_name: defaultdict[str, list[Model]] = defaultdict(list)
    for model in models:
        by_name[model.name].append(model)
    return [(later, alike[0]) for alike in by_name.values() for later in alike[1:]]


def kernel_cores(config: EccosConfig, llm_configs: Sequence[Any]) -> tuple[Core, ...]:
    """The manifest's cores that AIOS initialised, priced by their backends; logs what needs attention.

    Also lets tokens be counted by litellm's tokenizer, where it is loaded.

    Parameters
    ----------
    config : EccosConfig
    llm_configs : sequence
        The models that AIOS initialised, each with a ``name`` and, where AIOS knows them, ``backend`` and
        ``hostname``.

    Raises
    ------
    ConfigError
        The manifest is wrong, or AIOS has none of its cores.
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
    return cores


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
                "core %r has no price: %s gives none and litellm knows none, so the highest price of the "
                "others is assumed; set its price there, {input: 0, output: 0} for your own hardware",
                core.name,
                config.manifest,
            )
    for later, first in never_served(models):
        logger.warning(
            "core %r at %s never serves: AIOS's config lists that name earlier, at %s, and AIOS identifies "
            "cores by name alone; rename one of them",
            later.name,
            later.hostname or later.backend,
            first.hostname or first.backend,
        )


def _litellm_encode() -> Encode | None:
    """The tokenizer (cl100k) that litellm ships, where litellm is loaded; else None.

    Not where litellm is configured to cache its tokenizer elsewhere, as it may have to download it first.
    """
    litellm = sys.modules.get("litellm")
    if litellm is None or os.environ.get("CUSTOM_TIKTOKEN_CACHE_DIR"):
        return None
    try:
        encode: Encode = litellm.encoding.encode_ordinary
    except Exception as error:  # noqa: BLE001 - tokens are estimated whatever litellm raises
        logger.info("litellm's tokenizer cannot be used, tokens are estimated: %s", type(error).__name__)
        return None
    return encode
