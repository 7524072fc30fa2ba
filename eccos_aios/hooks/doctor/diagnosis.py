"""``eccos-aios doctor``: checks whether ECCOS can schedule this AIOS, and says what to fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from eccos_aios.config import EccosConfig, eccos_config
from eccos_aios.core import DEFAULT_QUOTA, Core, Manifest
from eccos_aios.errors import AiosError, ConfigError, EccosError, HistoryError, InputError, MissingExtraError
from eccos_aios.hooks.checkout import read_checkout_config, require_checkout
from eccos_aios.hooks.doctor.finding import Finding
from eccos_aios.hooks.doctor.history import check_history
from eccos_aios.hooks.doctor.installation import CLONE, check_environment, check_shape
from eccos_aios.hooks.doctor.reach import check_core
from eccos_aios.hooks.doctor.spelling import check_spelling
from eccos_aios.hooks.kernel_config import Model, check, models_of, never_served
from eccos_aios.hooks.switch import CONFIG_IN_CHECKOUT, asks_for_router, asks_for_scheduler
from eccos_aios.hooks.syscall import DEFAULT_ANSWER_TOKENS
from eccos_aios.runtime.configuration import predictor_spec
from eccos_aios.schedule.settings import load_passes

MOST_CALLS = 1024  # of one core; vLLM's largest default of --max-num-seqs


def diagnose(aios: Path) -> list[Finding]:
    """Check the checkout, its config, manifest and history, this environment, and the cores.

    Changes nothing; of a core only its list of models is requested.
    """
    try:
        aios = require_checkout(aios)
        content = read_checkout_config(aios)
    except EccosError as error:
        return [Finding("fail", "AIOS", str(error), _remedy(error, aios))]
    findings = [Finding("ok", "AIOS", f"checkout at {aios}")]
    findings += check_shape(aios, content)
    findings += check_environment(aios)
    findings += check_spelling(content)
    findings += _section(aios, content)
    findings += _llms(content)
    findings += _namesakes(models_of(_models(content)))
    findings += [check_core(model, content) for model in _models(content)]
    return findings


def _section(aios: Path, content: Mapping[str, Any]) -> Iterator[Finding]:
    config_file = aios / CONFIG_IN_CHECKOUT
    scheduler = content.get("scheduler") or {}
    try:
        if not isinstance(scheduler, dict):
            raise ConfigError(str(config_file), "scheduler", scheduler, "must be a mapping of keys to values")
        scheduling = asks_for_scheduler(scheduler, config_file)
        if not scheduling and not asks_for_router(content.get("llms")):
            yield Finding(
                "warn",
                "config",
                f"{config_file}: scheduler_type is {scheduler.get('scheduler_type')!r}, so ECCOS is off",
                f"set scheduler.scheduler_type: eccos, or run {_init(aios)}",
            )
            if "eccos" not in scheduler:
                return
        config = eccos_config(scheduler.get("eccos"), config_file)
        predictor_spec(config, str(config_file)).make()
        load_passes(config, str(config_file))
        yield Finding("ok", "config", f"quality target {config.quality_target}")
        models = models_of(_models(content))
        manifest = check(config, [model.name for model in models])
        yield Finding("ok", "manifest", f"{len(manifest.cores)} cores: {', '.join(manifest.names)}")
        backends = {model.name: model.backend for model in reversed(models)}
        cores = [core.at_backend(backends.get(core.name)) for core in manifest.cores]
        yield from _cores(cores)
        yield from _left_out(manifest, models)
        yield from _shared(config)
        yield from check_history(config, manifest, cores, scheduling)
    except HistoryError as error:
        yield Finding("fail", "history", str(error), _remedy(error, aios))
    except EccosError as error:
        yield Finding("fail", "config", str(error), _remedy(error, aios))


def _remedy(error: EccosError, aios: Path) -> str:
    """What to do about an error that would stop the kernel at its start."""
    said = error.allowed if isinstance(error, InputError) else ""
    at = quote(error.source) if isinstance(error, InputError) else ""
    if said.startswith("is not an AIOS checkout"):
        return f"pass the checkout of AIOS with --aios DIR ({CLONE})"
    if isinstance(error, AiosError) and "config.yaml.example" in said:
        return f"cp {at}.example {at}, and name your cores at llms.models"
    if isinstance(error, HistoryError):
        return "correct that record; a store can leave it out: eccos-aios history import --skip-bad-records"
    if said.startswith("is not YAML"):
        return f"correct the YAML of {at} there; the kernel would stop at start"
    if "there is no such file" in said and isinstance(error, InputError) and error.key.endswith("manifest"):
        return f"name your manifest there, or have one written: {_init(aios)}"
    if said.startswith("required by scheduler_type"):
        return f"have it written: {_init(aios)}"
    if "llms.models[].name" in said:
        return "name that core in AIOS's config, or take it out of the manifest"
    return "fix that value; the kernel would stop at start with this message"


def _init(aios: Path) -> str:
    return f"eccos-aios init --aios {quote(str(aios))}"


def _llms(content: Mapping[str, Any]) -> Iterator[Finding]:
    """What makes calls fail under any scheduler."""
    llms = content.get("llms")
    llms = llms if isinstance(llms, dict) else {}
    if llms.get("use_context_manager"):
        yield Finding(
            "fail",
            "context manager",
            "llms.use_context_manager is on: with it every LLM call of AIOS fails",
            "set llms.use_context_manager: false",
        )
    if not _models(content):
        yield Finding("fail", "cores", "llms.models of AIOS's config lists none", "name your cores there")


def _cores(cores: Sequence[Core]) -> Iterator[Finding]:
    """Quotas, prices and context windows as the kernel would use them."""
    unstated = [core.name for core in cores if core.quota is None]
    if unstated:
        yield Finding(
            "warn",
            "quotas",
            f"{', '.join(unstated)}: no quota in the manifest, so each gets {DEFAULT_QUOTA} calls at once",
            "state how many calls each can hold: quota: N",
        )
    for core in cores:
        if core.slots > MOST_CALLS:
            yield Finding(
                "warn",
                "quotas",
                f"{core.name}: no server holds {core.slots} calls at once; those beyond its own limit queue "
                "there, where they cannot be moved",
                "state what the server holds (vLLM: --max-num-seqs; Ollama: OLLAMA_NUM_PARALLEL)",
            )
    unpriced = [core.name for core in cores if core.known_price is None]
    if unpriced:
        yield Finding(
            "warn",
            "prices",
            f"{', '.join(unpriced)}: no price in the manifest and none known to litellm, so the highest "
            "price of the other cores is assumed",
            "give each a price in the manifest (0 is fine for your own hardware)",
        )
    for core in cores:
        yield from _window(core)


def _window(core: Core) -> Iterator[Finding]:
    left = None if core.context_window is None else core.context_window - DEFAULT_ANSWER_TOKENS
    if left is not None and left < DEFAULT_ANSWER_TOKENS:
        yield Finding(
            "warn",
            "windows",
            f"{core.name}: an agent that does not set max_new_tokens asks for {DEFAULT_ANSWER_TOKENS}, which "
            f"leaves {max(0, left)} of its context window of {core.context_window} for the prompt",
            "serve it with a larger context, or let agents set max_new_tokens",
        )


def _left_out(manifest: Manifest, models: Sequence[Model]) -> Iterator[Finding]:
    missing = sorted({model.name for model in models} - set(manifest.names))
    if missing:
        yield Finding(
            "warn",
            "manifest",
            f"it lacks {', '.join(missing)} of AIOS's config: such a core gets only the calls that name it",
            "add each to the manifest",
        )


def _namesakes(models: Sequence[Model]) -> Iterator[Finding]:
    for later, first in never_served(models):
        yield Finding(
            "warn",
            "names",
            f"AIOS's config lists core {later.name} at {first.hostname or first.backend} and again at "
            f"{later.hostname or later.backend}: AIOS identifies cores by name alone and uses the first",
            "give one another name (vLLM: --served-model-name; Ollama: ollama cp), in the manifest too",
        )


def _shared(config: EccosConfig) -> Iterator[Finding]:
    """The Redis over which kernels share their cores."""
    if config.shared is None:
        return
    from eccos_aios.shared import SharedUnavailableError, inspect_redis, without_password

    url = config.shared.get_secret_value()
    place = without_password(url)
    try:
        facts = inspect_redis(url, config.shared_name)
    except MissingExtraError as error:
        yield Finding("fail", "shared", str(error), "install it into AIOS's environment")
        return
    except SharedUnavailableError as error:
        remedy = "start it, or correct scheduler.eccos.shared; until then no call gets a slot"
        yield Finding("fail", "shared", f"{place} cannot be used: {error}", remedy)
        return
    for problem, remedy in facts.problems():
        yield Finding("warn", "shared", f"{place} {problem}", remedy)
    if not facts.problems():
        version = ".".join(map(str, facts.version))
        kernels = f"kernels named {config.shared_name!r} share their cores"
        yield Finding("ok", "shared", f"{place}, Redis {version}: {kernels}")


def _models(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    llms = content.get("llms")
    models = llms.get("models") if isinstance(llms, dict) else None
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
