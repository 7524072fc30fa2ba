"""Ledger: what the scheduler counts, and the last decisions it took."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.histogram import Histogram

REMEMBERED_DECISIONS = 1000


@dataclass
class Decision:
    """One call sent to one core, and why.

    Attributes
    ----------
    call : int
        The call's number.
    agent, core, reason : str
    attempt : int
        From 1.
    waited_s : float
        Seconds from its arrival to its slot.
    predicted_quality, predicted_cost : float
        Of the chosen core; 0 to 1, US dollars.
    estimates : dict of str to dict of str to float
        Of every core.
    decided_at : float
        Seconds since 1970.
    text : str or None
        What the call says; None unless texts may be shown.
    """

    call: int
    agent: str
    core: str
    reason: str
    attempt: int
    waited_s: float
    predicted_quality: float
    predicted_cost: float
    estimates: dict[str, dict[str, float]]
    text: str | None = None
    decided_at: float = field(default_factory=time.time)
    outcome: str = "in flight"


class Ledger:
    """Counts since the start. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self) -> None:
        self.submitted = 0
        self.completed = 0
        self.failed = 0
        self.retries = 0
        self.degraded_rounds = 0
        self.wait = Histogram()
        self.service = Histogram()
        self._decided = 0
        self._quality_sum = 0.0
        self._cost_usd = 0.0
        self._decision_ms: deque[float] = deque(maxlen=REMEMBERED_DECISIONS)
        self._decisions: OrderedDict[int, Decision] = OrderedDict()

    def round(self, calls: int, decision_ms: float) -> None:
        """A round took this long and placed so many calls."""
        self._decision_ms.extend([decision_ms] * calls)

    def decide(self, decision: Decision) -> None:
        """A call got its slot."""
        self._decided += 1
        self.wait.add(decision.waited_s)
        self._quality_sum += decision.predicted_quality
        self._cost_usd += decision.predicted_cost
        self._decisions[decision.call] = decision
        self._decisions.move_to_end(decision.call)
        while len(self._decisions) > REMEMBERED_DECISIONS:
            self._decisions.popitem(last=False)

    def finish(self, call: Call, result: CallResult) -> None:
        """A call has its final result."""
        if result.failed:
            self.failed += 1
        else:
            self.completed += 1
        if call.number in self._decisions:
            self._decisions[call.number].outcome = "failed" if result.failed else "completed"

    def decision(self, call: int) -> Decision | None:
        """The last decision on a call, if it is remembered."""
        return self._decisions.get(call)

    def decisions(self) -> list[Decision]:
        """Those that are remembered, the newest first."""
        return list(reversed(self._decisions.values()))

    def totals(self) -> dict[str, Any]:
        """The ``totals`` of ``/eccos/status``."""
        p50, p99 = np.percentile(np.array(self._decision_ms or [0.0]), [50, 99]).tolist()
        return {
            "submitted": self.submitted,
            "completed": self.completed,
            "failed": self.failed,
            "retries": self.retries,
            "predicted_quality": round(self._quality_sum / max(1, self._decided), 6),
            "cost_usd": round(self._cost_usd, 9),
            "decision_ms_p50": round(p50, 3),
            "decision_ms_p99": round(p99, 3),
            "degraded_rounds": self.degraded_rounds,
        }
