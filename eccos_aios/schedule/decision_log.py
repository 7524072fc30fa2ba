"""DecisionLog: the scheduler's last decisions and how their calls ended."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eccos_aios.plans import AnswerPlan
from eccos_aios.schedule.call import Call, CallResult
from eccos_aios.schedule.plan import Placement
from eccos_aios.schedule.plan_rows import promise_of

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
    agent, core : str
    reason : str
        One of `eccos_aios.reasons.REASONS`, perhaps with a detail, or that of a user's pass.
    attempt : int
        From 1.
    decision_ms : float
        Milliseconds that the deciding round took.
    waited_s : float
        Seconds from the call's arrival to its slot.
    predicted_quality, predicted_cost : float
        Of the chosen core; 0 to 1, US dollars.
    estimates : dict of str to dict of str to float
        ``quality`` and ``cost`` by core.
    decided_at : float
        Seconds since 1970.
    text : str or None
        The call's text; None unless texts may be logged.
    outcome : str
        ``in flight``, ``completed`` or ``failed``. After a retry only the last attempt's decision is kept.
    finished_at : float or None
        Seconds since 1970 when the call got its final result.
    quality : float or None
        From feedback, 0 to 1; None without feedback.
    failures : dict of str to str
        By core, why it did not serve the call before this decision.
    plan : dict of str to Any
        `AnswerPlan.to_dict`. Once a plan of several cores has ended, `core` is the one whose answer was
        given; until then, the one asked first.
    stages : list of dict of str to Any
        Of a plan of several cores, those that have ended, see `Stage.to_dict`.
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
    plan: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)

    def log_values(self) -> tuple[object, ...]:
        """The values of `LOG_LINE`; the call's text is never among them."""
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


def decision_of(
    placement: Placement, names: Sequence[str], decision_ms: float, waited_s: float, log_text: bool
) -> Decision:
    """The decision that records a placement over the cores of these names.

    Raises
    ------
    ValueError
        The call has no estimates.
    """
    call, row, column = placement.call, placement.call.row, placement.column
    if row is None:
        raise ValueError("call.row: None: a call needs estimates before it is sent")
    quality, cost = row.quality[column], row.cost[column]
    if placement.plan is not None:
        quality, cost, _ = promise_of(row, placement.plan, names)
    return Decision(
        call=call.number,
        id=call.id,
        agent=call.agent,
        core=names[column],
        reason=placement.reason,
        attempt=call.attempts,
        decision_ms=decision_ms,
        waited_s=waited_s,
        predicted_quality=float(quality),
        predicted_cost=float(cost),
        estimates={
            name: {"quality": quality, "cost": cost}
            for name, quality, cost in zip(names, row.quality.tolist(), row.cost.tolist(), strict=True)
        },
        text=call.text.text if log_text else None,
        failures=call.causes,
        plan=(placement.plan or AnswerPlan.single(names[column])).to_dict(),
        stages=[] if call.stages is None else [stage.to_dict() for stage in call.stages.ended],
    )


class DecisionLog:
    """The last `REMEMBERED_DECISIONS`. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self) -> None:
        self._decisions: OrderedDict[int, Decision] = OrderedDict()  # by call number, the oldest first

    def add(self, decision: Decision) -> None:
        """Log a decision; an earlier one on the same call is replaced."""
        self._decisions[decision.call] = decision
        self._decisions.move_to_end(decision.call)
        while len(self._decisions) > REMEMBERED_DECISIONS:
            self._decisions.popitem(last=False)

    def finish(self, call: Call, result: CallResult) -> None:
        """Log how a call ended."""
        decision = self._decisions.get(call.number)
        if decision is not None:
            decision.outcome = "failed" if result.failed else "completed"
            decision.finished_at = time.time()
            if result.stages:
                decision.stages = [stage.to_dict() for stage in result.stages]
                decision.core = result.core or decision.core

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
        """All that are remembered, the newest first."""
        return list(reversed(self._decisions.values()))
