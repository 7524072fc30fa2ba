"""DecisionLog: what the scheduler counts, and the last decisions it took."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.histogram import Histogram
from eccos_aios.schedule.plan import Placement

REMEMBERED_DECISIONS = 1000
LOG_LINE = (
    "decision call=%d id=%s agent=%r core=%r reason=%r attempt=%d waited_s=%.3f decision_ms=%.3f "
    "predicted_quality=%.4f predicted_cost=%.9f"
)


@dataclass
class Decision:
    """One call sent to one core, and why.

    Attributes
    ----------
    call : int
        The call's number.
    id : str
        The call's id.
    agent, core, reason : str
    attempt : int
        From 1.
    decision_ms : float
        Milliseconds that the round took that decided it.
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
    outcome : str
        ``in flight``, ``completed`` or ``failed``; after a retry, of the decision that stands here.
    finished_at : float or None
        Seconds since 1970 when the call had its final result.
    quality : float or None
        0 to 1, where feedback has told it.
    failures : dict of str to str
        By core, why it did not serve the call before this decision.
    """

    call: int
    id: str
    agent: str
    core: str
    reason: str
    attempt: int
    decision_ms: float
    waited_s: float
    predicted_quality: float
    predicted_cost: float
    estimates: dict[str, dict[str, float]]
    text: str | None = None
    decided_at: float = field(default_factory=time.time)
    outcome: str = "in flight"
    finished_at: float | None = None
    quality: float | None = None
    failures: dict[str, str] = field(default_factory=dict)

    def log_values(self) -> tuple[object, ...]:
        """What `LOG_LINE` tells; never what the call says."""
        return (
            self.call,
            self.id,
            self.agent,
            self.core,
            self.reason,
            self.attempt,
            self.waited_s,
            self.decision_ms,
            self.predicted_quality,
            self.predicted_cost,
        )


def decision_of(placement: Placement, names: Sequence[str], decision_ms: float, log_text: bool) -> Decision:
    """The decision that a placement over the cores of these names becomes once it has its slot."""
    call, row, column = placement.call, placement.call.row, placement.column
    if row is None:
        raise ValueError("call.row: None: a call must be priced before it is sent")
    return Decision(
        call=call.number,
        id=call.id,
        agent=call.agent,
        core=names[column],
        reason=placement.reason,
        attempt=call.attempts,
        decision_ms=decision_ms,
        waited_s=time.monotonic() - call.arrived_s,
        predicted_quality=float(row.quality[column]),
        predicted_cost=float(row.cost[column]),
        estimates={
            name: {"quality": quality, "cost": cost}
            for name, quality, cost in zip(names, row.quality.tolist(), row.cost.tolist(), strict=True)
        },
        text=call.text.text if log_text else None,
        failures=call.causes,
    )


class DecisionLog:
    """Counts since the start. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self) -> None:
        self.submitted = 0
        self.completed = 0
        self.failed = 0
        self.retries = 0
        self.refused = 0  # calls for which there was no room
        self.abandoned = 0  # calls whose agent had gone before they were sent
        self.degraded_rounds = 0
        self.degraded_calls = 0  # whose estimates were wrong, so that the prior stood in
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
            decision = self._decisions[call.number]
            decision.outcome = "failed" if result.failed else "completed"
            decision.finished_at = time.time()

    def decision(self, call: int | str) -> Decision | None:
        """The last decision on the call of this number or id, if it is remembered."""
        if isinstance(call, int):
            return self._decisions.get(call)
        return next((decision for decision in self._decisions.values() if decision.id == call), None)

    def latest(self, agent: str) -> Decision | None:
        """The decision on the agent's call that finished last, if it is remembered."""
        finished = [
            decision
            for decision in self._decisions.values()
            if decision.agent == agent and decision.finished_at is not None
        ]
        return max(finished, key=lambda decision: decision.finished_at or 0.0, default=None)

    def decisions(self) -> list[Decision]:
        """Those that are remembered, the newest first."""
        return list(reversed(self._decisions.values()))

    def histograms(self) -> list[tuple[str, str, Histogram]]:
        """Name, meaning and a copy of each histogram of seconds."""
        return [
            ("wait", "From a call's arrival to its slot.", deepcopy(self.wait)),
            ("service", "From a call's slot to its core's answer.", deepcopy(self.service)),
        ]

    def totals(self) -> dict[str, Any]:
        """The ``totals`` of ``/eccos/status``."""
        p50, p99 = np.percentile(np.array(self._decision_ms or [0.0]), [50, 99]).tolist()
        return {
            "submitted": self.submitted,
            "completed": self.completed,
            "failed": self.failed,
            "retries": self.retries,
            "refused": self.refused,
            "abandoned": self.abandoned,
            "predicted_quality": round(self._quality_sum / max(1, self._decided), 6),
            "cost_usd": round(self._cost_usd, 9),
            "decision_ms_p50": round(p50, 3),
            "decision_ms_p99": round(p99, 3),
            "degraded_rounds": self.degraded_rounds,
            "degraded_calls": self.degraded_calls,
        }
