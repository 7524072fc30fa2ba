"""The reasons of a round's decisions: why each call that is sent goes to its core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eccos_aios.reasons import (
    AFFINITY,
    BETTER_FULL,
    FELL_BACK,
    NO_HISTORY,
    ONLY_CORE,
    OUT_OF_REACH,
    OWN_PASS,
    PLANNING_FAILED,
    RETRIED,
    Alternatives,
    base_reason,
    choice_reasons,
)
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import IntArray
from eccos_aios.schedule.outcome_kinds import OutcomeKind
from eccos_aios.schedule.plan import PLANNED, Plan
from eccos_aios.schedule.plan_pass import promised
from eccos_aios.schedule.round_batch import RoundBatch, estimates_of

DID = {
    OutcomeKind.CORE_REFUSES: "refused",
    OutcomeKind.CORE_BUSY: "was busy",
    OutcomeKind.CORE_FAILS: "failed",
    OutcomeKind.CORE_SILENT: "was silent",
    OutcomeKind.CORE_UNFIT: "could not take it",
    OutcomeKind.NO_ANSWER: "answered nothing",
}
# What the optimiser says of all its calls alike; the reasons of other passes stay.
OPTIMISED = frozenset({PLANNED, OUT_OF_REACH})
STAYS = frozenset({PLANNING_FAILED, OWN_PASS})  # even where a core has failed the call before


def with_reasons(batch: RoundBatch, plan: Plan) -> Plan:
    """The finished plan with the reason of each call that it sends; a pass, the last one."""
    sent = [row for row, is_sent in enumerate(plan.is_sent(batch.capacity.free)) if is_sent]
    if not sent:
        return plan
    rows = np.array(sent, dtype=np.int64)
    given = [plan.reasons.get(row, PLANNED) for row in sent]
    compared = choice_reasons(_alternatives(batch, plan, rows, missed=OUT_OF_REACH in given), batch.names)
    reasons = {
        row: _reason(batch, batch.calls[row], int(plan.columns[row]), each, found, staged=row in plan.staged)
        for row, each, found in zip(sent, given, compared, strict=True)
    }
    return replace(plan, reasons={**plan.reasons, **reasons})


def _alternatives(batch: RoundBatch, plan: Plan, rows: IntArray, *, missed: bool) -> Alternatives:
    capacity, target, candidates = batch.capacity, batch.target, batch.candidates.take(rows)
    quality, usd = promised(batch, plan, rows)
    cost = candidates.cost
    if target.price_per_second:
        waits = np.where(capacity.free > 0, 1.0, 2.0)  # for another call's answer
        priced = target.price_per_second * waits * capacity.service_s
        cost, usd = cost + priced, usd + priced[plan.columns[rows]]
    return Alternatives(
        quality=candidates.quality,
        cost=cost,
        allowed=candidates.allowed,
        promised_quality=quality.tolist(),
        promised_cost=usd.tolist(),
        target=[target.of(batch.calls[row]) for row in rows.tolist()],
        full=(capacity.free <= plan.load(batch.cores)).tolist(),
        owed=target.owed(len(batch)) / len(batch),
        slack=target.reach_slack,
        missed=missed,
    )


def _reason(batch: RoundBatch, call: Call, column: int, given: str, compared: str, *, staged: bool) -> str:
    """The reason that says most about one call, by what a pass and the comparison with other cores give."""
    if call.failures and (given in OPTIMISED or base_reason(given) not in STAYS):
        return _after_failures(call, batch.names[column])
    if given not in OPTIMISED:
        return compared if given == BETTER_FULL and compared.startswith(BETTER_FULL) else given
    row = estimates_of(call)
    if not staged and np.count_nonzero(row.allowed) == 1:
        return AFFINITY if row.has_choice and column == row.prefix_core else ONLY_CORE
    if row.unrecorded is not None and row.unrecorded[column]:
        return NO_HISTORY
    if column == row.prefix_core and _is_kept_by_price(row, batch.target.of(call)):
        return AFFINITY
    return compared


def _after_failures(call: Call, core: str) -> str:
    failed, outcome = next(reversed(call.failures.items()))
    base = RETRIED if core in call.failures else FELL_BACK
    return f"{base} ({failed} {DID.get(outcome.kind, 'failed')}: {outcome})"


def _is_kept_by_price(row: EstimateRow, target: float) -> bool:
    """Whether a call would go elsewhere if nothing were saved where its conversation has been."""
    if not row.prefix_usd:
        return False
    cost = np.where(row.allowed & (row.quality >= target), row.cost, np.inf)
    cost[row.prefix_core] += row.prefix_usd
    return int(cost.argmin()) != row.prefix_core
