"""``eccos-aios doctor``: checks whether ECCOS can schedule this AIOS, and says what to fix."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from eccos_aios.config import STORE_SUFFIX, EccosConfig, eccos_config
from eccos_aios.core import Core, Manifest
from eccos_aios.errors import ConfigError, EccosError, MissingExtraError, without_secrets
from eccos_aios.history import Record, read_history
from eccos_aios.history.schema import is_store
from eccos_aios.hooks.checkout import read_checkout_config, require_checkout, revision_of
from eccos_aios.hooks.kernel_config import Model, check, models_of, never_served
from eccos_aios.hooks.serve import NEEDED
from eccos_aios.hooks.shape import faults_on_disk
from eccos_aios.hooks.switch import CONFIG_IN_CHECKOUT, asks_for_router, asks_for_scheduler, needs_of
from eccos_aios.hooks.syscall import DEFAULT_ANSWER_TOKENS
from eccos_aios.hooks.targets import ANY_NEED, TARGETS, WRITTEN_FOR
from eccos_aios.http_client import HttpClient, NoResponseError, NotSentError
from eccos_aios.predict.core_prior import NEWCOMER_RECORDS
from eccos_aios.runtime.configuration import predictor_spec
from eccos_aios.schedule.settings import load_passes

REACH_TIMEOUT_S = 3.0  # seconds; a core that needs longer to list its models will not serve calls well either
HTTP_ERROR = 400  # the first status that is an error
DEFAULT_OLLAMA = "http://localhost:11434"
KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "novita": "NOVITA_API_KEY",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    level : {"ok", "warn", "fail"}
    subject : str
        What was checked.
    message : str
        What was found.
    remedy : str
        What to do about it; empty if there is nothing to do.
    """

    level: Literal["ok", "warn", "fail"]
    subject: str
    message: str
    remedy: str = ""


def diagnose(aios: Path) -> list[Finding]:
    """Check the checkout, its config, manifest and history, this environment, and the cores.

    Changes nothing; of a core only its list of models is requested.
    """
    try:
        aios = require_checkout(aios)
        content = read_checkout_config(aios)
    except EccosError as error:
        return [Finding("fail", "AIOS", str(error), "pass the AIOS checkout with --aios DIR")]
    findings = [Finding("ok", "AIOS", f"checkout at {aios}")]
    findings += _shape(aios, content)
    findings += _environment()
    findings += _section(aios / CONFIG_IN_CHECKOUT, content)
    findings += _namesakes(models_of(_models(content)))
    findings += [_reach(model, content) for model in _models(content)]
    return findings


def _shape(aios: Path, content: Mapping[str, Any]) -> Iterator[Finding]:
    """AIOS's revision, and the places that ECCOS hooks into, by its source."""
    revision = revision_of(aios)
    if revision is not None and revision != WRITTEN_FOR:
        yield Finding(
            "warn",
            "revision",
            f"AIOS is at {revision}, ECCOS was written for {WRITTEN_FOR}",
            f"if something does not work, try git -C {quote(str(aios))} checkout {WRITTEN_FOR}",
        )
    if not (aios / "aios" / "hooks").is_dir():
        yield Finding("warn", "hooks", "not checked: the checkout has no aios/hooks", "clone AIOS again")
        return
    faults = faults_on_disk(aios, TARGETS)
    needs = _needs(aios, content)
    for fault in faults:
        asked = needs.intersection(fault.target.needed_for)
        yield Finding(
            "fail" if asked else "warn",
            "hooks",
            f"{fault}: needed for "
            f"{', '.join(sorted(asked) or fault.target.needed_for) or 'a check at start'}",
            f"check out AIOS at {WRITTEN_FOR}, or update eccos-aios",
        )
    if not faults:
        yield Finding("ok", "hooks", f"AIOS has all {len(TARGETS)} places that ECCOS relies on")


def _needs(aios: Path, content: Mapping[str, Any]) -> frozenset[str]:
    try:
        return needs_of(content.get("scheduler"), content.get("llms"), aios / CONFIG_IN_CHECKOUT)
    except EccosError:
        return frozenset(ANY_NEED)  # it asks for ECCOS with an error, which the check of the config reports


def _environment() -> Iterator[Finding]:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(
            "warn",
            "environment",
            f"{sys.executable} lacks {', '.join(missing)}, so this is not AIOS's environment",
            "install eccos-aios into the environment that runs AIOS, and run doctor there",
        )
    pth = Path(sysconfig.get_paths()["purelib"]) / "eccos-aios.pth"
    if pth.is_file():
        yield Finding("ok", "activation", f"start-up hook at {pth}")
    else:
        yield Finding(
            "warn",
            "activation",
            f"there is no {pth}",
            "reinstall eccos-aios, or start AIOS with eccos-aios serve",
        )


def _section(config_file: Path, content: Mapping[str, Any]) -> Iterator[Finding]:
    scheduler = content.get("scheduler") or {}
    try:
        scheduling = asks_for_scheduler(scheduler, config_file)
        if not scheduling and not asks_for_router(content.get("llms")):
            yield Finding(
                "warn",
                "config",
                f"{config_file}: scheduler_type is {scheduler.get('scheduler_type')!r}, so ECCOS is off",
                "set scheduler.scheduler_type: eccos",
            )
            if "eccos" not in scheduler:
                return
        config = eccos_config(scheduler.get("eccos"), config_file)
        predictor_spec(config, str(config_file)).make()
        load_passes(config, str(config_file))
        yield Finding("ok", "config", f"quality target {config.quality_target}")
        manifest = check(config, [str(model.get("name")) for model in _models(content)])
        yield Finding("ok", "manifest", f"{len(manifest.cores)} cores: {', '.join(manifest.names)}")
        yield from _cores(manifest, models_of(_models(content)))
        yield from _history(config, manifest, scheduling)
        yield from _shared(config)
    except EccosError as error:
        yield Finding(
            "fail", "config", str(error), "fix that value; the kernel would stop at start with this message"
        )


def _cores(manifest: Manifest, models: Sequence[Model]) -> Iterator[Finding]:
    """Prices and context windows as the kernel would use them."""
    backends = {model.name: model.backend for model in reversed(models)}
    cores = [core.at_backend(backends.get(core.name)) for core in manifest.cores]
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


def _namesakes(models: Sequence[Model]) -> Iterator[Finding]:
    for later, first in never_served(models):
        yield Finding(
            "warn",
            "names",
            f"AIOS's config lists core {later.name} at {first.hostname or first.backend} and again at "
            f"{later.hostname or later.backend}: AIOS identifies cores by name alone and uses the first",
            "give one another name (vLLM: --served-model-name; Ollama: ollama cp), in the manifest too",
        )


def _history(config: EccosConfig, manifest: Manifest, scheduling: bool) -> Iterator[Finding]:
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


def _models(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    llms = content.get("llms") or {}
    return [model for model in llms.get("models") or [] if isinstance(model, dict)]


def _reach(model: Mapping[str, Any], content: Mapping[str, Any]) -> Finding:
    name, backend = model.get("name"), model.get("backend")
    subject = f"core {name}"
    if backend in ("vllm", "sglang"):
        return _probe(subject, f"{str(model.get('hostname')).rstrip('/')}/models")
    if backend == "ollama":
        return _probe(subject, f"{str(model.get('hostname') or DEFAULT_OLLAMA).rstrip('/')}/api/tags")
    if backend in KEY_VARIABLES:
        configured = (content.get("api_keys") or {}).get(backend) or model.get("api_key")
        if configured or os.environ.get(KEY_VARIABLES[backend]):
            return Finding("ok", subject, f"{backend}: a key is set (not tried)")
        return Finding(
            "fail",
            subject,
            f"{backend}: no API key",
            f"set api_keys.{backend} in AIOS's config or {KEY_VARIABLES[backend]}",
        )
    return Finding("ok", subject, f"{backend}: not tried")


def _probe(subject: str, url: str) -> Finding:
    if not url.startswith(("http://", "https://")):
        return Finding(
            "fail",
            subject,
            f"{without_secrets(url)} is not an address",
            "set hostname to the server's http address",
        )
    try:
        client = HttpClient(url, REACH_TIMEOUT_S)
    except MissingExtraError as error:
        return Finding("warn", subject, f"not checked: {error}", "install it, or open the address yourself")
    except ConfigError as error:
        return Finding("fail", subject, str(error), "fix that environment variable")
    shown = without_secrets(url)
    try:
        status = client.send("GET", url).status_code
    except (NotSentError, NoResponseError) as error:
        return Finding(
            "fail", subject, f"{shown} cannot be reached: {error}", "start that server or fix its hostname"
        )
    finally:
        client.close()
    if status >= HTTP_ERROR:
        return Finding(
            "warn", subject, f"{shown} answered {status}", "check the hostname and the key of this core"
        )
    return Finding("ok", subject, f"{shown} answers")
