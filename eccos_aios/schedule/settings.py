"""SchedulerSettings: the scheduler's part of `EccosConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from eccos_aios.config import SECTION, BudgetConfig, EccosConfig, default_of
from eccos_aios.plugins import load_function
from eccos_aios.schedule.capacity import WaitLimits
from eccos_aios.schedule.retry import RetryPolicy

if TYPE_CHECKING:
    from eccos_aios.schedule.plan import Pass


@dataclass(frozen=True)
class SchedulerSettings:
    """How a scheduler decides; meaning, unit and default of a field are those of `EccosConfig`.

    Attributes
    ----------
    batch_window_s : float
        `EccosConfig.gather_ms`, in seconds.
    agent_weights, agent_targets : mapping of str to float
        By agent, `AgentConfig.weight` and `AgentConfig.quality_target` where it has one.
    retry : RetryPolicy
        Holds `EccosConfig.max_attempts`.
    passes : tuple of callable
        Passes that come after ECCOS's own, see `eccos_aios.schedule.plan.Pass`.
    """

    quality_target: float = default_of("quality_target")
    max_wait_s: float = default_of("max_wait_s")
    max_wait_share: float = default_of("max_wait_share")
    max_quality_wait_s: float = default_of("max_quality_wait_s")
    reach_slack: float = default_of("reach_slack")
    price_per_second: float = default_of("price_per_second")
    batch_window_s: float = default_of("gather_ms") / 1000
    call_timeout_s: float = default_of("call_timeout_s")
    attempt_timeout_s: float | None = default_of("attempt_timeout_s")
    unavailable_after_s: float = default_of("unavailable_after_s")
    max_pending: int = default_of("max_pending")
    grace_s: float = default_of("grace_s")
    max_age_s: float = default_of("max_age_s")
    agent_weights: Mapping[str, float] = field(default_factory=dict)
    agent_targets: Mapping[str, float] = field(default_factory=dict)
    budget: BudgetConfig | None = None
    agent_budgets: Mapping[str, BudgetConfig] = field(default_factory=dict)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    affinity: Literal["off", "prefer", "strict"] = default_of("affinity")
    exploration: float = default_of("exploration")
    explore_plans: float = default_of("explore_plans")
    log_text: bool = default_of("log_text")
    plans: Literal["off", "check", "agree"] = default_of("plans")
    max_calls_per_query: float = default_of("max_calls_per_query")
    passes: tuple[Pass, ...] = ()

    @classmethod
    def of(cls, config: EccosConfig) -> SchedulerSettings:
        """The settings of a config; options of the same name are taken over as they are.

        Raises
        ------
        ConfigError
            A pass cannot be imported.
        """
        targets = {name: agent.quality_target for name, agent in config.agents.items()}
        same = {each.name for each in fields(cls)} & EccosConfig.model_fields.keys() - {"passes"}
        return cls(
            **{name: getattr(config, name) for name in same},
            batch_window_s=config.gather_ms / 1000,
            agent_weights={name: agent.weight for name, agent in config.agents.items()},
            agent_targets={name: target for name, target in targets.items() if target is not None},
            retry=RetryPolicy(max_attempts=config.max_attempts),
            passes=load_passes(config),
        )

    @property
    def waiting(self) -> WaitLimits:
        """How long a call may wait for a busy core."""
        return WaitLimits(self.max_wait_s, self.max_quality_wait_s, self.max_wait_share)


def load_passes(config: EccosConfig, file: str = "") -> tuple[Pass, ...]:
    """The passes that a config names.

    Raises
    ------
    ConfigError
        One cannot be imported; names `file`, key and value.
    """
    keys = (f"{SECTION}.passes[{position}]" for position in range(len(config.passes)))
    return tuple(load_function(name, file, key) for name, key in zip(config.passes, keys, strict=True))
