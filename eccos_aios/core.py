"""Core, Manifest and Price: the cores and their configuration."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from eccos_aios.bounded_yaml import load_yaml
from eccos_aios.errors import ABSENT, ConfigError, from_validation

DEFAULT_QUOTA = 4  # concurrent calls; safe for a core of unknown capacity
PRIOR_RECORDS = 20  # weight of a stated quality
TOKENS_PER_PRICE_UNIT = 1_000_000  # prices are US dollars per million tokens

Ability = Literal["tools", "json", "vision", "audio", "files"]
ABILITIES: frozenset[Ability] = frozenset({"tools", "json", "vision", "audio", "files"})

LOCAL_BACKENDS = frozenset({"ollama", "hflocal", "huggingface"})  # AIOS's, which run on its own machines
# AIOS's backends that have another name in litellm's price map.
PRICED_AS = {"google": "gemini", "vllm": "hosted_vllm", "sglang": "hosted_vllm"}

# The upper limits only catch typing errors: a dollar a token, more calls than any core.
Dollars = Annotated[float, Field(strict=True, ge=0, le=1_000_000, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


def _is_address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+[^\s?#@]*", url):
        raise ValueError("must be an address like http://localhost:8000/v1, without user, query or fragment")
    return url.rstrip("/")


class Price(BaseModel):
    """US dollars per million tokens.

    Attributes
    ----------
    input, output : float
    cached_input : float or None
        Of input tokens that the provider reads from its cache, as they begin the conversation that the core
        served last. None: not given, they count as `input`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Dollars = 0.0
    output: Dollars = 0.0
    cached_input: Dollars | None = None

    @model_validator(mode="after")
    def _cache_is_no_dearer(self) -> Price:
        if self.cached_input is not None and self.cached_input > self.input:
            raise ValueError(f"cached_input: {self.cached_input:g}: must be at most input: {self.input:g}")
        return self

    @property
    def saved(self) -> float:
        """US dollars that a million input tokens from the cache cost less."""
        return 0.0 if self.cached_input is None else self.input - self.cached_input

    def usd(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0.0) -> float:
        """The price of that many tokens, in US dollars; `cached_tokens` are some of `input_tokens`."""
        full = self.input * input_tokens + self.output * output_tokens
        return (full - self.saved * min(cached_tokens, input_tokens)) / TOKENS_PER_PRICE_UNIT


class QualityPrior(BaseModel):
    """What a core's quality is believed to be before it has records.

    Attributes
    ----------
    mean : float
        Mean quality of its answers, 0 to 1.
    records : int
        Past calls that the belief weighs as much as.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Annotated[float, Field(strict=True, ge=0, le=1)]
    records: Count = PRIOR_RECORDS


def _read_quality(given: Any) -> Any:
    return {"mean": given} if isinstance(given, int | float) and not isinstance(given, bool) else given


class Core(BaseModel):
    """One LLM core: a model behind some backend, as AIOS's ``llms.models[]`` names it.

    Attributes
    ----------
    name : str
        Equals ``llms.models[].name`` in AIOS's config.
    quota : int or None
        Calls that it may hold at once. None: not given.
    price : Price or None
        None: not given; `known_price` then looks in litellm's price map.
    context_window : int or None
        Tokens of input and answer together; a longer call is never sent there. None: unlimited.
    quality : QualityPrior or None
        Believed mean quality, for a core with few records or none: ``0.7``, or ``{mean: 0.7, records: 50}``.
        None: a cautious guess by its price.
    supports : frozenset of {"tools", "json", "vision", "audio", "files"}
        Abilities that calls may require. Default: all, and message parts unknown to ECCOS too.
    base_url : str or None
        Address of its OpenAI-compatible API, including ``/v1``, for `collect`; AIOS does not use it.
    api_key_env : str or None
        The environment variable that holds the key for `base_url`; never the key itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    quota: Count | None = None
    price: Price | None = None
    context_window: Count | None = None
    quality: Annotated[QualityPrior, BeforeValidator(_read_quality)] | None = None
    supports: frozenset[Ability] = ABILITIES
    base_url: Annotated[str, AfterValidator(_is_address)] | None = None
    api_key_env: Annotated[str, Field(min_length=1)] | None = None

    @property
    def slots(self) -> int:
        """Calls that it may hold at once in a kernel."""
        return DEFAULT_QUOTA if self.quota is None else self.quota

    @property
    def known_price(self) -> Price | None:
        """The manifest's price, else litellm's if it is installed and knows the name; None: unknown."""
        return self.price if self.price is not None else _litellm_price(self.name, None)

    @property
    def resolved_price(self) -> Price:
        """The known price, else 0, for the cost of past calls. Decisions use `prices_of`."""
        return self.known_price or Price()

    def at_backend(self, backend: str | None) -> Core:
        """The same core, priced by its AIOS backend if the manifest gives no price.

        litellm's map lists many models only with their backend (``groq/llama-3.3-70b-versatile``). Local
        backends are free.
        """
        if self.price is not None:
            return self
        price = Price() if backend in LOCAL_BACKENDS else _litellm_price(self.name, backend)
        return self if price is None else self.model_copy(update={"price": price})


class Manifest(BaseModel):
    """The cores that ECCOS may send calls to, in the manifest's order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: tuple[Core, ...]

    @field_validator("cores")
    @classmethod
    def _names_are_unique(cls, cores: tuple[Core, ...]) -> tuple[Core, ...]:
        if not cores:
            raise ValueError("needs at least one core")
        seen: set[str] = set()
        for core in cores:
            if core.name in seen:
                raise ValueError(f"every core needs its own name, {core.name!r} occurs twice")
            seen.add(core.name)
        return cores

    @property
    def names(self) -> tuple[str, ...]:
        """The cores' names, in order."""
        return tuple(core.name for core in self.cores)


def read_manifest(path: str | Path) -> Manifest:
    """Read a core manifest (YAML).

    Raises
    ------
    ConfigError
        The file is absent or not YAML, or a value in it is wrong; names file, key and value.
    """
    path = Path(path)
    content = read_yaml(path)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise from_validation(ConfigError, str(path), error, Manifest) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises
    ------
    ConfigError
        The file cannot be read, is not YAML, is not a mapping, or is larger or deeper than any config,
        aliases expanded.
    """
    try:
        content = load_yaml(path)
    except OSError as error:
        raise ConfigError(str(path), "", ABSENT, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(str(path), "", ABSENT, str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(str(path), "", content, "must be a mapping of keys to values")
    return content


def _litellm_price(name: str, backend: str | None) -> Price | None:
    """litellm's price of a model; None if litellm is not installed or does not know it."""
    prices = _litellm_price_map()
    found = (_price_of(prices.get(key)) for key in _price_keys(name, backend))
    return next((price for price in found if price is not None), None)


def _price_keys(name: str, backend: str | None) -> Iterator[str]:
    """The names that a model may have in litellm's map, most specific first."""
    plain = name.split("/", 1)[-1]
    for prefix in (backend, PRICED_AS.get(backend or "")):
        if prefix:
            yield f"{prefix}/{name.removeprefix(f'{prefix}/')}"
            yield f"{prefix}/{plain}"
    yield name
    yield plain


def _price_of(info: Any) -> Price | None:
    """The price in an entry of litellm's map; None if it has no price per token."""
    if not isinstance(info, dict):
        return None
    each = [info.get("input_cost_per_token"), info.get("output_cost_per_token")]
    if not any(isinstance(cost, int | float) for cost in each):
        return None
    first, second = (float(cost or 0.0) * TOKENS_PER_PRICE_UNIT for cost in each)
    try:
        return Price(input=first, output=second)
    except ValidationError:
        return None


@cache
def _litellm_price_map() -> dict[str, dict[str, Any]]:
    """litellm's prices: its live map if litellm is imported already, else the file that it ships.

    litellm itself is never imported here, as that takes seconds and accesses the network.
    """
    live: dict[str, dict[str, Any]] | None = getattr(sys.modules.get("litellm"), "model_cost", None)
    if live is not None:
        return live
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        shipped = Path(folder) / "model_prices_and_context_window_backup.json"
        if shipped.is_file():
            content: dict[str, dict[str, Any]] = json.loads(shipped.read_text(encoding="utf-8"))
            return content
    return {}
