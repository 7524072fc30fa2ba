"""SchedulerSettings: the knobs of the clockwork."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from eccos_aios.schedule.capacity import WaitLimits
from eccos_aios.schedule.retry import RetryPolicy

if TYPE_CHECKING:
    from eccos_aios.schedule.plan import Pass


@dataclass(frozen=True)
class SchedulerSettings:
    """Units and meaning as in `EccosConfig`."""

    quality_target: float = 0.8
    max_wait_s: float = 1.0
    max_quality_wait_s: float = 10.0
    price_per_second: float = 0.0
    gather_s: float = 0.002
    call_timeout_s: float = 600.0
    attempt_timeout_s: float | None = None
    unavailable_after_s: float = 5.0
    max_pending: int = 10_000
    grace_s: float = 10.0
    max_age_s: float = 60.0
    agent_weights: Mapping[str, float] = field(default_factory=dict)
    agent_targets: Mapping[str, float] = field(default_factory=dict)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    affinity: Literal["off", "prefer", "strict"] = "off"
    exploration: float = 0.0
    log_text: bool = False
    passes: tuple[Pass, ...] = ()

    @property
    def waiting(self) -> WaitLimits:
        """How long a call may wait for a busy core."""
        return WaitLimits(self.max_wait_s, self.max_quality_wait_s)
