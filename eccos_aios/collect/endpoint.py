"""Where a core is reached: its address, its key, and its name there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eccos_aios.core import Core, Manifest, read_yaml
from eccos_aios.errors import ABSENT, ConfigError
from eccos_aios.hooks.switch import CONFIG_IN_CHECKOUT


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API and a model of it.

    Attributes
    ----------
    url : str
        With its ``/v1``.
    model : str
        Its name in that API.
    key : str or None
        Sent as bearer token; never shown.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Provider:
    """A backend of AIOS or a prefix of litellm: its OpenAI-compatible address and the variable of its key."""

    url: str
    key_env: str | None


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together_ai": Provider("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "ollama": Provider("http://localhost:11434/v1", None),
    "ollama_chat": Provider("http://localhost:11434/v1", None),
}
OLLAMA_PATH = "/v1"  # AIOS's hostname of Ollama lacks it
WITH_HOSTNAME = ("vllm", "sglang")  # AIOS backends whose hostname is the base_url


def endpoints(
    manifest: Manifest,
    source: str,
    *,
    aios: Path | None = None,
    base_url: str | None = None,
    api_key_env: str | None = None,
) -> dict[str, Endpoint]:
    """The endpoint of every core, by its name.

    For each core the first of: its ``base_url`` and ``api_key_env`` in the manifest; AIOS's config, where
    `aios` names a checkout; `base_url` for all others; a litellm-style name
    (``groq/llama-3.1-8b-instant``, ``ollama/qwen3:4b``).

    Parameters
    ----------
    manifest : Manifest
    source : str
        Its file, for messages.
    aios : Path, optional
        AIOS's checkout.
    base_url, api_key_env : str, optional
        A gateway to every core without its own address, and the variable that holds its key.

    Raises
    ------
    ConfigError
        A core has no address, a variable that is to hold a key is not set, or AIOS's config is wrong.
    """
    content = read_yaml(aios / CONFIG_IN_CHECKOUT) if aios is not None else {}
    models = {model["name"]: model for model in _models(content)}
    found = {}
    for place, core in enumerate(manifest.cores):
        at = f"cores[{place}]"
        if core.base_url is not None:
            key = _key(source, f"{at}.api_key_env", core.api_key_env)
            endpoint = Endpoint(core.base_url, core.name, key)
        elif core.name in models:
            endpoint = _aios_endpoint(core, models[core.name], content, str(aios))
        elif base_url is not None:
            variable = core.api_key_env or api_key_env
            endpoint = Endpoint(base_url.rstrip("/"), core.name, _key(source, f"{at}.api_key_env", variable))
        else:
            endpoint = _provider_endpoint(core, source, at)
        found[core.name] = endpoint
    return found


def _models(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = (content.get("llms") or {}).get("models") or []
    return [model for model in models if isinstance(model, dict) and model.get("name")]


def _aios_endpoint(core: Core, model: Mapping[str, Any], content: Mapping[str, Any], source: str) -> Endpoint:
    backend, hostname = str(model.get("backend")), model.get("hostname")
    if backend in WITH_HOSTNAME:
        if not hostname:
            raise ConfigError(source, f"llms.models {core.name}", ABSENT, f"{backend} needs a hostname")
        key = _sendable(source, f"llms.models {core.name}.api_key", model.get("api_key"))
        return Endpoint(_address(source, core, str(hostname)), core.name, key)
    if backend not in PROVIDERS:
        raise ConfigError(
            source,
            f"llms.models {core.name}.backend",
            backend,
            f"has no known OpenAI-compatible API; give core {core.name!r} a base_url in the manifest",
        )
    provider = PROVIDERS[backend]
    url = provider.url
    if backend.startswith("ollama") and hostname:
        url = str(hostname).rstrip("/").removesuffix(OLLAMA_PATH) + OLLAMA_PATH
    elif hostname:
        url = str(hostname)
    configured = (content.get("api_keys") or {}).get(backend) or model.get("api_key")
    at = f"api_keys.{backend}"
    key = _sendable(source, at, configured) or _key(source, at, core.api_key_env or provider.key_env)
    return Endpoint(_address(source, core, url), core.name, key)


def _provider_endpoint(core: Core, source: str, at: str) -> Endpoint:
    prefix, slash, model = core.name.partition("/")
    if not slash or prefix not in PROVIDERS:
        raise ConfigError(
            source,
            f"{at}.base_url",
            ABSENT,
            f"core {core.name!r} has no address: give it a base_url, or pass --aios or --base-url",
        )
    provider = PROVIDERS[prefix]
    variable = core.api_key_env or provider.key_env
    return Endpoint(provider.url, model, _key(source, f"{at}.api_key_env", variable))


def _key(source: str, at: str, variable: str | None) -> str | None:
    """The key in a variable; errors show no value, since the name may be a key by mistake."""
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        shown = f" {variable}" if variable.isidentifier() and variable.isupper() else ""
        raise ConfigError(
            source, at, ABSENT, f"the environment variable{shown} that is to hold a key is not set"
        )
    return _sendable(source, at, key)


def _sendable(source: str, at: str, key: object) -> str | None:
    """A key that a header can hold; surrounding whitespace, as from a file, is removed."""
    if not key:
        return None
    stripped = str(key).strip()
    if not re.fullmatch(r"[\x21-\x7e]+", stripped):
        raise ConfigError(source, at, ABSENT, "the key holds a space, or a character that no header can hold")
    return stripped


def is_address(url: str) -> bool:
    """Whether `url` is an http or https address."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _address(source: str, core: Core, url: str) -> str:
    if not is_address(url):
        raise ConfigError(
            source,
            f"llms.models {core.name}.hostname",
            url,
            "must be an address like http://localhost:8000/v1",
        )
    return url.rstrip("/")
