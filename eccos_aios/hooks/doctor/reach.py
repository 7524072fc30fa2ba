"""Whether each core of AIOS's config can be reached, and serves the model that the config names."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from eccos_aios.core import LOCAL_BACKENDS
from eccos_aios.errors import ConfigError, MissingExtraError, without_secrets
from eccos_aios.hooks.doctor.finding import Finding
from eccos_aios.hooks.probe import PLACEHOLDER_KEY
from eccos_aios.http_client import HttpClient, NoResponseError, NotSentError

REACH_TIMEOUT_S = 3.0  # seconds; a core that needs longer to list its models will not serve calls well either
HTTP_ERROR = 400  # the first status that is an error
NOT_FOUND = 404
DEFAULT_OLLAMA = "http://localhost:11434"
API_PATH = "/v1"
SENDABLE = re.compile(r"[\x21-\x7e]+")  # what a header can hold
SHOWN_MODELS = 5
SERVERS = ("vllm", "sglang")  # AIOS gives their hostname to OpenAI's client as it is
KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "novita": "NOVITA_API_KEY",
}
# litellm's other providers that AIOS's users name most; the rest is known where litellm is installed.
OTHER_PROVIDERS = (
    "azure",
    "bedrock",
    "deepseek",
    "hosted_vllm",
    "mistral",
    "openrouter",
    "together_ai",
    "vertex_ai",
)


def check_core(model: Mapping[str, Any], content: Mapping[str, Any]) -> Finding:
    """Reach one entry of ``llms.models``; only its list of models is requested.

    Parameters
    ----------
    model : mapping
    content : mapping
        AIOS's whole config.
    """
    name, backend = model.get("name"), model.get("backend")
    subject = f"core {name}"
    if backend in SERVERS:
        return _check_server(subject, model)
    if backend == "ollama":
        return _check_ollama(subject, model)
    if backend in KEY_VARIABLES:
        keys = content.get("api_keys")
        configured = (keys.get(backend) if isinstance(keys, Mapping) else None) or model.get("api_key")
        if configured or os.environ.get(KEY_VARIABLES[backend]):
            return Finding("ok", subject, f"{backend}: a key is set (not tried)")
        return Finding(
            "fail",
            subject,
            f"{backend}: no API key",
            f"set api_keys.{backend} in AIOS's config or {KEY_VARIABLES[backend]}",
        )
    return _check_backend(subject, backend)


def _check_backend(subject: str, backend: Any) -> Finding:
    own = {*SERVERS, "ollama", *LOCAL_BACKENDS}
    providers = _litellm_providers()
    known = own | providers | set(KEY_VARIABLES) | set(OTHER_PROVIDERS)
    if backend in known:
        return Finding("ok", subject, f"{backend}: not tried")
    near = get_close_matches(str(backend).lower(), sorted(known), n=1, cutoff=0.6)
    meant = (
        f"write backend: {near[0]}" if near else f"name one of {', '.join(sorted(own | set(KEY_VARIABLES)))}"
    )
    if not providers and not near:
        return Finding(
            "warn",
            subject,
            f"backend {backend!r} is none of AIOS's, and litellm is not installed here to ask",
            f"{meant}, or a provider of litellm",
        )
    return Finding(
        "fail",
        subject,
        f"backend {backend!r} is none of AIOS's and no provider of litellm: every call to it fails",
        f"{meant}, or a provider of litellm",
    )


def _check_server(subject: str, model: Mapping[str, Any]) -> Finding:
    hostname = str(model.get("hostname") or "").rstrip("/")
    if not hostname:
        return Finding(
            "fail", subject, f"{model['backend']}: no hostname", "set hostname: http://HOST:PORT/v1"
        )
    key = str(model.get("api_key") or PLACEHOLDER_KEY)
    answer = _get(subject, f"{hostname}/models", key)
    if isinstance(answer, Finding):
        return answer
    if answer.status == NOT_FOUND and not hostname.endswith(API_PATH):
        inside = _get(subject, f"{hostname}{API_PATH}/models", key)
        if not isinstance(inside, Finding) and inside.status < HTTP_ERROR:
            shown = without_secrets(hostname)
            message = (
                f"hostname {shown} lacks {API_PATH}: {shown}/models is not there, {shown}{API_PATH}/models is"
            )
            return Finding("fail", subject, message, f"set hostname: {shown}{API_PATH}")
    served = "vLLM names it by --served-model-name, else by the path that it loads"
    return _judge(subject, answer, str(model.get("name")), served)


def _check_ollama(subject: str, model: Mapping[str, Any]) -> Finding:
    hostname = str(model.get("hostname") or DEFAULT_OLLAMA).rstrip("/")
    answer = _get(subject, f"{hostname}/api/tags", PLACEHOLDER_KEY)
    if isinstance(answer, Finding):
        return answer
    if answer.status == NOT_FOUND and hostname.endswith(API_PATH):
        bare = hostname.removesuffix(API_PATH)
        inside = _get(subject, f"{bare}/api/tags", PLACEHOLDER_KEY)
        if not isinstance(inside, Finding) and inside.status < HTTP_ERROR:
            message = f"hostname {without_secrets(hostname)}: AIOS's ollama backend adds its own path"
            return Finding("fail", subject, message, f"set hostname: {without_secrets(bare)}")
    return _judge(subject, answer, str(model.get("name")), f"ollama pull {model.get('name')}")


class Answer:
    """A server's answer to the request for its models.

    Parameters
    ----------
    url : str
        Without secrets.
    status : int
    body : Any
        Decoded JSON; None if it is none.
    """

    def __init__(self, url: str, status: int, body: Any) -> None:
        self.url, self.status, self.body = url, status, body

    def models(self) -> list[str] | None:
        """The names that it lists; None if it lists none in a known form."""
        body = self.body if isinstance(self.body, Mapping) else {}
        entries = body.get("data") if isinstance(body.get("data"), list) else body.get("models")
        if not isinstance(entries, list):
            return None
        return [str(each.get("id") or each.get("name")) for each in entries if isinstance(each, Mapping)]


def _judge(subject: str, answer: Answer, name: str, how: str) -> Finding:
    if answer.status >= HTTP_ERROR:
        message = f"{answer.url} answered {answer.status}"
        return Finding("warn", subject, message, "check the hostname and the key of this core")
    models = answer.models()
    if models is None or name in models or f"{name}:latest" in models:
        return Finding("ok", subject, f"{answer.url} answers")
    shown = ", ".join(models[:SHOWN_MODELS]) + (", …" if len(models) > SHOWN_MODELS else "")
    return Finding(
        "fail",
        subject,
        f"{answer.url} does not list {name!r}, but {shown or 'nothing'}",
        f"name one of those in AIOS's config and in the manifest, or serve it: {how}",
    )


def _get(subject: str, url: str, key: str) -> Answer | Finding:
    """The answer, or the finding that there is none."""
    shown = without_secrets(url)
    if not url.startswith(("http://", "https://")):
        return Finding(
            "fail", subject, f"{shown} is not an address", "set hostname to the server's http address"
        )
    headers = {"Authorization": f"Bearer {key}"} if SENDABLE.fullmatch(key) else {}
    try:
        client = HttpClient(url, REACH_TIMEOUT_S, headers)
    except MissingExtraError as error:
        return Finding("warn", subject, f"not checked: {error}", "install it, or open the address yourself")
    except ConfigError as error:
        return Finding("fail", subject, str(error), "fix that environment variable")
    try:
        response = client.send("GET", url)
    except (NotSentError, NoResponseError) as error:
        message = f"{shown} cannot be reached: {error}"
        return Finding("fail", subject, message, "start that server or fix its hostname")
    finally:
        client.close()
    try:
        return Answer(shown, response.status_code, response.json())
    except ValueError:
        return Answer(shown, response.status_code, None)


@cache
def _litellm_providers() -> frozenset[str]:
    """litellm's providers, from its source, as its import takes seconds; empty where it is not installed."""
    spec = importlib.util.find_spec("litellm")
    return frozenset(
        name
        for folder in (spec.submodule_search_locations or [] if spec else [])
        for name in _providers_in(Path(folder) / "types" / "utils.py")
    )


def _providers_in(source: Path) -> Iterator[str]:
    try:
        text = source.read_text(encoding="utf-8")
    except OSError:
        return
    _, _, rest = text.partition("class LlmProviders(")
    body, _, _ = rest.partition("\nclass ")
    yield from re.findall(r"^\s+[A-Z0-9_]+ = \"([^\"]+)\"", body, re.MULTILINE)
