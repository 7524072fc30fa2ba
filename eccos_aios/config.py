"""EccosConfig: the ``scheduler.eccos`` section of AIOS's config, each option with its unit and default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from eccos_aios.core import Manifest, read_manifest, read_yaml
from eccos_aios.errors import ABSENT, ConfigError, from_validation
from eccos_aios.plugins import absolute_file

Unit = Annotated[float, Field(strict=True, ge=0, le=1)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Variable = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Span = Literal["hour", "day", "month"]

PlansMode = Literal["off", "check", "agree"]

SECTION = "scheduler.eccos"
SECRETS = ("token", "shared")  # options that an environment variable may hold: ``<name>_env``
SHARED_SCHEMES = ("redis://", "rediss://", "unix://")
STORE_SUFFIX = ".db"  # of a history store, which the kernel writes to and creates if absent


def _is_redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(SHARED_SCHEMES):
        raise ValueError(f"must begin with {', '.join(SHARED_SCHEMES)}")
    try:
        _ = urlsplit(url.get_secret_value()).port
    except ValueError:  # its message may hold a part of the password
        raise ValueError("is not a URL; in a password write / as %2F, # as %23, ? as %3F, [ as %5B") from None
    return url


def _as_written(value: Any) -> Any:
    """The word that YAML 1.1 reads as a boolean."""
    return {False: "off", True: "on"}[value] if isinstance(value, bool) else value


Word = BeforeValidator(_as_written)


class AgentConfig(BaseModel):
    """The options of one agent.

    Attributes
    ----------
    weight : float
        Its share of the cores, relative to 1 for an agent that is not listed.
    quality_target : float or None
        Mean quality that its calls must reach, 0 to 1. None: that of all calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 1.0
    quality_target: Unit | None = None


class BudgetConfig(BaseModel):
    """What calls may cost in a period.

    Attributes
    ----------
    usd : float
        US dollars.
    per : {"hour", "day", "month"}
        Of the calendar, in UTC.
    when_exhausted : {"cheapest", "error"}
        What happens to calls once the money is spent: the cheapest core that may take them, whatever it
        costs, or an error that says when the next period begins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
    per: Span
    when_exhausted: Literal["cheapest", "error"] = "cheapest"


class EccosConfig(BaseModel):
    """The ``scheduler.eccos`` section.

    Attributes
    ----------
    manifest : Path
        The core manifest; relative to the config's folder, or absolute.
    history : Path or None
        Records of past calls. None: cores are chosen by what is believed of them. A ``.db`` is a store:
        outcomes of calls are added to it, and it is made where it is absent. Any other file is only read.
    predictor : str
        ``hybrid``, ``retrieval`` (ECCOS-R), ``trained`` (ECCOS-T), the name of an entry point of
        ``eccos_aios.predictors``, ``module:Class``, or ``path/to/file.py:Class``, relative to the config's
        folder.
    predictor_options : dict of str to Any
        Keyword arguments of the predictor's constructor.
    embedder : str or None
        ``tfidf``, ``hashed``, ``minilm``, the name of an entry point of ``eccos_aios.embedders``,
        ``module:Class``, or ``path/to/file.py:Class``. None: the predictor's default.
    embedder_options : dict of str to Any
        Keyword arguments of the embedder's constructor.
    mode : {"schedule", "shadow"}
        ``shadow``: AIOS's own scheduler decides, and ECCOS records what it would have decided.
    quality_target : float
        Mean quality that the scheduled calls must reach, 0 to 1.
    max_wait_s : float
        Seconds that a call may wait for a cheaper core that is busy while another core is free, at most.
    max_wait_share : float
        The same as a share of the service time at the free core: the expected wait for the cheaper core
        and the service there may take 1 + `max_wait_share` times as long. 0: no call waits for a cheaper
        core that is not faster.
    max_quality_wait_s : float
        Seconds that a call may wait for a core that is good enough while another core is free.
    reach_slack : float
        Quality, 0 to 1. Where the target is out of reach, the cheapest plan that is within this of the best
        one is taken, rather than the best at any price.
    price_per_second : float
        US dollars added to a core's cost per second until its answer, when cores are compared. 0: a faster
        core is preferred only between equals.
    max_age_s : float
        Seconds after which a call precedes all younger ones, whatever their priority or agent.
    max_attempts : int
        Times that a call is sent to a core while cores fail: status 408, 429, 5xx, or no connection.
    affinity : {"off", "prefer", "strict"}
        Whether a conversation stays with the core that served it: no; where that costs little; always.
    exploration : float
        Share of the calls, 0 to 0.5, that may go to a core of which too little is known, to learn its
        quality.
    explore_plans : float
        Share of the calls, 0 to 0.5, that may follow a plan of several cores of which too little is known, to
        learn what it gives; only calls whose answers can be checked, and only while answers are graded.
    plans : {"off", "check", "agree"}
        Whether calls whose answers can be checked may be answered by several cores: no; by another core
        where the first one's answer fails its checks; also by two cores at once and, where they disagree,
        a third. Only where the history holds the answers of several cores.
    max_calls_per_query : float
        Cores that a call asks, at most in the mean over calls.
    passes : tuple of str
        Further passes of a round's plan, as ``module:function`` or ``path/to/file.py:function``, relative to
        the config's folder; see ``eccos_aios/schedule/README.md``.
    agents : dict of str to AgentConfig
        Shares and targets of agents, by name.
    budget : BudgetConfig or None
        What all calls together may cost. It precedes the quality target.
    agent_budgets : dict of str to BudgetConfig
        What the calls of an agent may cost, by name, in addition.
    token : SecretStr or None
        Required from every client of the ``/eccos`` endpoints. None: they answer this machine's programs
        only.
    token_env : str or None
        Name of the environment variable that holds the token, in place of `token`.
    store_text : bool
        Whether the store holds what agents ask. If not: only its hash, length and embedding, and the
        figures.
    log_text : bool
        Whether ``/eccos/decisions`` may show the text of calls.
    telemetry : {"auto", "on", "off"}
        Spans and metrics by OpenTelemetry. ``auto``: where the process has configured a provider when the
        kernel starts, as ``opentelemetry-instrument`` does; ``on``: also for one that is configured later.
    log_format : {"text", "json"}
        How the kernel logs what ECCOS does: lines of text, or an object of JSON a line.
    gather_ms : float
        The batch window: milliseconds that a round waits for more calls once the first has arrived.
    call_timeout_s : float
        Seconds after which an agent gets an error for a call that no core has answered; the core's slot
        stays taken until the core releases the call.
    attempt_timeout_s : float or None
        Seconds that one core gets for one attempt before the call is tried elsewhere, at most
        `call_timeout_s`. None: from the core's own measured service times, three times the longest of its
        last 100 and at least 10; before its first answer 120, or half of `call_timeout_s` if that is less.
    unavailable_after_s : float
        Seconds after which a call gets an error that names the cores, where every core that may take it
        is down.
    max_pending : int
        Calls that may wait for a core; further ones are answered 503 with Retry-After.
    shared : SecretStr or None
        Redis over which kernels share cores, history and budgets: ``redis://``, ``rediss://`` (TLS) or
        ``unix://``, with a password if it needs one. None: this process alone.
    shared_env : str or None
        Name of the environment variable that holds that address, in place of `shared`.
    shared_name : str
        Kernels of one name share.
    lease_s : float
        Seconds after which the slots of a kernel that was killed are free again.
    grace_s : float
        Seconds that pending calls get at a stop before the rest is answered with an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: Path
    history: Path | None = None
    quality_target: Unit = 0.8
    predictor: Annotated[str, Field(strict=True, min_length=1)] = "hybrid"
    predictor_options: dict[str, Any] = Field(default_factory=dict)
    embedder: Annotated[str, Field(strict=True, min_length=1)] | None = None
    embedder_options: dict[str, Any] = Field(default_factory=dict)
    mode: Literal["schedule", "shadow"] = "schedule"
    max_wait_s: Seconds = 1.0
    max_wait_share: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.25
    max_quality_wait_s: Seconds = 10.0
    reach_slack: Unit = 0.01
    price_per_second: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    max_age_s: Seconds = 60.0
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    affinity: Annotated[Literal["off", "prefer", "strict"], Word] = "off"
    exploration: Annotated[float, Field(strict=True, ge=0, le=0.5)] = 0.0
    explore_plans: Annotated[float, Field(strict=True, ge=0, le=0.5)] = 0.01
    plans: Annotated[PlansMode, Word] = "check"
    max_calls_per_query: Annotated[float, Field(strict=True, ge=1, le=3)] = 1.5
    passes: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    agents: dict[str, AgentConfig] = Field(default_factory=dict)
    budget: BudgetConfig | None = None
    agent_budgets: dict[str, BudgetConfig] = Field(default_factory=dict)
    token: Annotated[SecretStr, Field(min_length=8)] | None = None
    token_env: Variable | None = None
    store_text: Annotated[bool, Field(strict=True)] = True
    log_text: Annotated[bool, Field(strict=True)] = False
    log_format: Literal["text", "json"] = "text"
    telemetry: Annotated[Literal["auto", "on", "off"], Word] = "auto"
    gather_ms: Annotated[float, Field(strict=True, ge=0, le=1000)] = 2.0
    call_timeout_s: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 600.0
    attempt_timeout_s: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    unavailable_after_s: Seconds = 5.0
    max_pending: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 10_000
    shared: Annotated[SecretStr, AfterValidator(_is_redis)] | None = None
    shared_env: Variable | None = None
    shared_name: Annotated[str, Field(strict=True, pattern=r"^[\w.-]{1,64}$")] = "eccos"
    lease_s: Annotated[float, Field(strict=True, ge=1, le=3600)] = 10.0
    grace_s: Seconds = 10.0

    @model_validator(mode="after")
    def _has_its_secrets(self) -> EccosConfig:
        for name in SECRETS:
            if getattr(self, f"{name}_env") is not None and getattr(self, name) is None:
                raise ValueError(f"{name}_env: is for config files: give {name} in its place")
        return self

    def read_manifest(self) -> Manifest:
        """The manifest that the section names.

        Raises
        ------
        ConfigError
            As `eccos_aios.core.read_manifest`.
        """
        return read_manifest(self.manifest)


def default_of(option: str) -> Any:
    """The default of an option of `EccosConfig`, for code that can be used without a config."""
    return EccosConfig.model_fields[option].default


def eccos_config(section: Any, config_file: Path) -> EccosConfig:
    """Validate a ``scheduler.eccos`` section; relative paths are resolved against the config's folder.

    Parameters
    ----------
    section : Any
        The value of ``scheduler.eccos``; None if it is absent.
    config_file : Path
        The file that contains it.

    Raises
    ------
    ConfigError
        A key is unknown, absent or holds a wrong value, or a named file does not exist; a store need not,
        but its folder must. Or an environment variable that is to hold a secret is not set.
    """
    if section is None:
        raise ConfigError(str(config_file), SECTION, ABSENT, "required by scheduler_type: eccos, but absent")
    if isinstance(section, Mapping):
        section = _with_secrets(section, str(config_file))
    try:
        config = EccosConfig.model_validate(section)
    except ValidationError as error:
        raise from_validation(ConfigError, str(config_file), error, EccosConfig, within=SECTION) from error
    folder = config_file.parent
    config = config.model_copy(
        update={
            "manifest": folder / config.manifest,
            "history": None if config.history is None else folder / config.history,
            "predictor": absolute_file(config.predictor, folder),
            "passes": tuple(absolute_file(name, folder) for name in config.passes),
            "embedder": None if config.embedder is None else absolute_file(config.embedder, folder),
        }
    )
    for key, path in (("manifest", config.manifest), ("history", config.history)):
        if path is None or path.is_file():
            continue
        if key == "history" and path.suffix == STORE_SUFFIX and not path.exists():
            if path.parent.is_dir():
                continue
            reason = "there is no such folder to create the store in"
            raise ConfigError(str(config_file), f"{SECTION}.{key}", str(path.parent), reason)
        raise ConfigError(str(config_file), f"{SECTION}.{key}", str(path), "there is no such file")
    return config


def _with_secrets(section: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The section with the secrets that environment variables hold; the errors show no value."""
    found = dict(section)
    for name in SECRETS:
        variable = section.get(f"{name}_env")
        if not isinstance(variable, str):
            continue
        key = f"{SECTION}.{name}_env"
        if section.get(name) is not None:
            raise ConfigError(source, key, ABSENT, f"{name} is given, too: give one of them")
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ConfigError(source, key, variable, "this environment variable is not set")
        found[name] = value
    return found


def read_eccos_config(config_file: str | Path) -> EccosConfig:
    """Read the ``scheduler.eccos`` section of an AIOS config file.

    Raises
    ------
    ConfigError
        The file or the section is wrong; names file, key, value and the allowed values.
    """
    config_file = Path(config_file)
    scheduler = read_yaml(config_file).get("scheduler")
    section = scheduler.get("eccos") if isinstance(scheduler, dict) else None
    return eccos_config(section, config_file)
