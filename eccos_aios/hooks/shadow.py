"""Shadow mode: AIOS's own scheduler and router decide, ECCOS records what it would have decided."""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict, deque
from dataclasses import asdict, dataclass
from typing import Any

from eccos_aios.config import EccosConfig
from eccos_aios.hooks.routing import EccosRouting
from eccos_aios.log_once import LogOnce
from eccos_aios.schedule.decision_log import REMEMBERED_DECISIONS
from eccos_aios.version import __version__

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShadowDecision:
    """Where AIOS sent a call, and where ECCOS would have; costs in US dollars, qualities 0 to 1."""

    core: str
    predicted_quality: float
    predicted_cost: float
    aios_core: str
    aios_predicted_quality: float
    aios_predicted_cost: float


class ShadowRouting:
    """Wraps AIOS's router: returns its decision and records what ECCOS would have decided.

    Quotas are ignored: how busy the cores would be under ECCOS cannot be inferred from AIOS's load.

    Parameters
    ----------
    router : object
        AIOS's own, with ``get_model_idxs`` and ``llm_configs``.
    config : EccosConfig
    """

    def __init__(self, router: Any, config: EccosConfig) -> None:
        self.config = config
        self._router = router
        # Where AIOS routes by ECCOS already, the history is not read twice.
        self._eccos = router if isinstance(router, EccosRouting) else EccosRouting(router.llm_configs, config)
        self._log = LogOnce(logger)
        # Guards the counts and the decisions.
        self._lock = threading.Lock()
        self._calls = 0
        self._failed = 0
        self._would: Counter[str] = Counter()
        self._did: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._decisions: deque[ShadowDecision] = deque(maxlen=REMEMBERED_DECISIONS)

    @property
    def llm_configs(self) -> Any:
        """The models of the router; AIOS replaces them when it registers a core."""
        return self._router.llm_configs

    @llm_configs.setter
    def llm_configs(self, llm_configs: Any) -> None:
        self._router.llm_configs = self._eccos.llm_configs = llm_configs

    def get_model_idxs(self, selected_llm_lists: list[Any], queries: list[Any]) -> list[int]:
        """AIOS's own decision, even if recording ECCOS's fails."""
        chosen: list[int] = self._router.get_model_idxs(selected_llm_lists, queries)
        try:
            self._note(selected_llm_lists, queries, chosen)
        except Exception as error:  # noqa: BLE001 - AIOS's own decision stands
            with self._lock:
                self._failed += 1
            self._log.warning("failed", "shadow mode failed on a batch", exc_info=error)
        return chosen

    def status(self) -> dict[str, object]:
        """The body of ``GET /eccos/status`` in shadow mode."""
        with self._lock:
            calls = max(1, self._calls)
            return {
                "scheduler": "aios",
                "mode": "shadow",
                "version": __version__,
                "quality_target": self.config.quality_target,
                "cores": {
                    llm.name: {"aios": self._did[llm.name], "eccos": self._would[llm.name]}
                    for llm in self._router.llm_configs
                },
                "totals": {
                    "calls": self._calls,
                    "failed": self._failed,
                    "aios": {
                        "predicted_quality": self._sums["aios quality"] / calls,
                        "cost_usd": self._sums["aios cost"],
                    },
                    "eccos": {
                        "predicted_quality": self._sums["eccos quality"] / calls,
                        "cost_usd": self._sums["eccos cost"],
                    },
                },
            }

    def decisions(self) -> list[dict[str, Any]]:
        """The latest decisions, newest first."""
        with self._lock:
            return [asdict(decision) for decision in reversed(self._decisions)]

    def _note(self, selected_llm_lists: list[Any], queries: list[Any], chosen: list[int]) -> None:
        if not queries:
            return
        routed = self._eccos.route(selected_llm_lists, queries)
        names = [llm.name for llm in self._router.llm_configs]
        with self._lock:
            for row, (ours, theirs) in enumerate(zip(routed.columns, chosen, strict=True)):
                decision = ShadowDecision(
                    names[ours],
                    float(routed.candidates.quality[row, ours]),
                    float(routed.candidates.cost[row, ours]),
                    names[theirs],
                    float(routed.candidates.quality[row, theirs]),
                    float(routed.candidates.cost[row, theirs]),
                )
                self._decisions.append(decision)
                self._calls += 1
                self._would[decision.core] += 1
                self._did[decision.aios_core] += 1
                self._sums["eccos quality"] += decision.predicted_quality
                self._sums["eccos cost"] += decision.predicted_cost
                self._sums["aios quality"] += decision.aios_predicted_quality
                self._sums["aios cost"] += decision.aios_predicted_cost
