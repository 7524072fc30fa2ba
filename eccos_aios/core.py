"""A core, and the manifest that lists the cores: name, quota, price, limits."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from eccos_aios.bounded_yaml import load_yaml
from eccos_aios.errors import ABSENT, ConfigError, from_validation

DEFAULT_QUOTA = 4  # concurrent calls; what a core of unknown strength can safely hold
TOKENS_PER_PRICE_UNIT = 1_000_000  # prices are US dollars per million tokens

Ability = Literal["tools", "json", "vision"]
ABILITIES: frozenset[Ability] = frozenset({"tools", "json", "vision"})

# The upper ends only keep slips of the pen out of the arrays: a dollar a token, more calls than any core.
Dollars = Annotated[float, Field(strict=True, ge=0, le=1_000_000, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


def _is_address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+[^\s?#@]*", url):
        raise ValueError("must be an address like http://localhost:8000/v1, without user, query or fragment")
    return url.rstrip("/")


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Dollars = 0.0
    output: Dollars = 0.0

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        """US dollars of so many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / TOKENS_PER_PRICE_UNIT


class Core(BaseModel):
    """One LLM core: a model behind some backend, as AIOS's ``llms.models[]`` names it.

    Attributes
    ----------
    name : str
        Equals ``llms.models[].name`` in AIOS's config.
    quota : int or None
        Calls that it may hold at once; None where the manifest leaves it out.
    price : Price or None
        None where the manifest leaves it out; `resolved_price` then asks litellm's price map.
    context_window : int or None
        Tokens; a longer call is never sent there. None: unlimited.
    supports : frozenset of {"tools", "json", "vision"}
        What calls to it may need. Default: everything.
    base_url : str or None
        Address of its OpenAI-compatible API, with its ``/v1``, for `collect`; AIOS has its own.
    api_key_env : str or None
        The environment variable that holds the key for `base_url`; never the key itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    quota: Count | None = None
    price: Price | None = None
    context_window: Count | None = None
    supports: frozenset[Ability] = ABILITIES
    base_url: Annotated[str, AfterValidator(_is_address)] | None = None
    api_key_env: Annotated[str, Field(min_length=1)] | None = None

    @property
    def slots(self) -> int:
        """Calls that it may hold at once in a kernel."""
        return DEFAULT_QUOTA if self.quota is None else self.quota

    @property
    def resolved_price(self) -> Price:
        """The manifest's price, else litellm's where it is installed and knows the name, else 0."""
        return self.price if self.price is not None else _litellm_price(self.name)


class Manifest(BaseModel):
    """The cores that ECCOS may send calls to, in the manifest's order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: tuple[Core, ...]

    @field_validator("cores")
    @classmethod
    def _names_are_unique(cls, cores: tuple[Core, ...]) -> tuple[Core, ...]:
        if not cores:
            raise ValueError("needs one core at least")
        seen: set[str] = set()
        for core in cores:
            if core.name in seen:
                raise ValueError(f"every core needs a name of its own, {core.name!r} stands twice")
            seen.add(core.name)
        return cores

    @property
    def names(self) -> tuple[str, ...]:
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
        The file cannot be read, is not YAML, is not a mapping, or is larger, deeper, or by its aliases
        longer than any config.
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


def _litellm_price(name: str) -> Price:
    info = _litellm_price_map().get(name, {})
    return Price(
        input=(info.get("input_cost_per_token") or 0.0) * TOKENS_PER_PRICE_UNIT,
        output=(info.get("output_cost_per_token") or 0.0) * TOKENS_PER_PRICE_UNIT,
    )


@cache
def _litellm_price_map() -> dict[str, dict[str, Any]]:
    """litellm's prices: the live map where litellm runs already, else the file that it ships.

    Importing litellm takes seconds and asks the network, so that is never done from here.
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
