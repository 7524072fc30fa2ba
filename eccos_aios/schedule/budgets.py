"""Budgets: the budget of all calls and those of agents, applied to rounds and kept by what calls cost."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from eccos_aios.candidates import Candidates
from eccos_aios.config import BudgetConfig
from eccos_aios.core import Core
from eccos_aios.reasons import BUDGET, OUT_OF_REACH
from eccos_aios.schedule.attempt import Usage
from eccos_aios.schedule.budget import UNLIMITED, Budget, BudgetExhaustedError, BudgetLimit, within
from eccos_aios.schedule.call import Call
from eccos_aios.schedule.plan import PLANNED, Plan
from eccos_aios.schedule.plan_rows import BoolArray, FloatArray, PlanOptions
from eccos_aios.schedule.round_batch import RoundBatch, estimates_of

REMEMBERED_ESTIMATES = 100_000  # of attempts whose bill is not known yet


class Budgets:
    """The budgets of a scheduler. Not thread-safe: the scheduler's lock guards it.

    Parameters
    ----------
    budget : BudgetConfig or None
        Of all calls.
    agent_budgets : mapping of str to BudgetConfig
        By agent, in addition.
    wall_s : callable, optional
        Unix seconds now.
    """

    def __init__(
        self,
        budget: BudgetConfig | None = None,
        agent_budgets: Mapping[str, BudgetConfig] | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._wall_s = wall_s
        self._budgets: dict[str | None, Budget] = {}  # by agent; None: of all calls
        self._restored: Mapping[str, Any] = {}
        # By call and core, of attempts that are not billed: the estimate, when it was counted, and where.
        self._estimates: OrderedDict[tuple[int, str], tuple[float, float, tuple[Budget, ...]]] = OrderedDict()
        self.configure(budget, agent_budgets or {})

    def __bool__(self) -> bool:
        return bool(self._budgets)

    def configure(self, budget: BudgetConfig | None, agent_budgets: Mapping[str, BudgetConfig]) -> None:
        """Replace the configuration; what is spent stays spent."""
        before, now = self._budgets, self._wall_s()
        configs: dict[str | None, BudgetConfig] = {} if budget is None else {None: budget}
        configs.update(agent_budgets)
        self._budgets = {}
        for agent, config in configs.items():
            name = BUDGET if agent is None else f"{BUDGET} of agent {agent!r}"
            self._budgets[agent] = fresh = Budget(config, name, now)
            fresh.restore(self._restored.get(_key(agent), {}))
            if agent in before:
                fresh.restore(before[agent].state())

    def refusal(self, agent: str) -> BudgetExhaustedError | None:
        """Why a call of this agent cannot be sent; None where it can."""
        now = self._wall_s()
        refusals = (budget.refusal(now) for budget in self._of(agent))
        return next((refusal for refusal in refusals if refusal is not None), None)

    def limits(self, calls: tuple[Call, ...]) -> tuple[BudgetLimit, ...]:
        """What each call may cost now; of several budgets the tightest."""
        now = self._wall_s()
        asked = {call.agent for call in calls}
        priced = {
            agent: budget.priced(now)
            for agent, budget in self._budgets.items()
            if agent is None or agent in asked
        }
        everybody = priced.get(None, UNLIMITED)
        return tuple(_tighter(everybody, priced.get(call.agent, UNLIMITED)) for call in calls)

    def sent(self, call: Call, core: str, column: int, target: float) -> None:
        """Count a call that is sent to a core with its estimated cost.

        Parameters
        ----------
        call : Call
        core : str
        column : int
            The core's, in the call's estimates.
        target : float
            The call's own quality target.
        """
        budgets = self._of(call.agent)
        if not budgets:
            return
        row, now = estimates_of(call), self._wall_s()
        usd, cost = float(row.cost[column]), np.where(row.allowed, row.cost, np.inf)
        for budget in budgets:
            budget.sent(row.quality, cost, usd, target, now)
        self._estimates[call.number, core] = usd, now, budgets
        if len(self._estimates) > REMEMBERED_ESTIMATES:
            self._estimates.popitem(last=False)

    def returned(self, call: Call, core: Core, usage: Usage | None, *, free: bool) -> None:
        """Count what an attempt cost, now that it is over; to be called once.

        An attempt that was not counted before, as a further stage of a call, counts with its bill.

        Parameters
        ----------
        call : Call
        core : Core
        usage : Usage or None
            Tokens as the provider counted them. None: unknown, the estimate stays unless it was free.
        free : bool
            Whether an attempt without known usage cost nothing, as providers do not bill errors.
        """
        if not self._budgets:
            return
        counted = self._estimates.pop((call.number, core.name), None)
        estimate, sent_at, budgets = counted or (0.0, self._wall_s(), self._of(call.agent))
        price = core.known_price
        if usage is not None and price is not None:
            usd = price.usd(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        elif free:
            usd = 0.0
        else:
            return
        for budget in budgets:
            budget.billed(estimate, usd, sent_at)

    def state(self) -> dict[str, Any]:
        """What must survive a restart, as JSON."""
        return {_key(agent): budget.state() for agent, budget in self._budgets.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what an earlier process has spent in the same periods."""
        self._restored = {key: value for key, value in state.items() if isinstance(value, Mapping)}
        for agent, budget in self._budgets.items():
            budget.restore(self._restored.get(_key(agent), {}))

    def take_changes(self) -> dict[str, Any]:
        """What this kernel has spent since this was last asked, as JSON; empty if nothing."""
        changes = {_key(agent): budget.take_change() for agent, budget in self._budgets.items()}
        return {key: change for key, change in changes.items() if change}

    def changed_elsewhere(self, changes: Mapping[str, Any]) -> None:
        """Count what another kernel that shares the budgets has spent."""
        for agent, budget in self._budgets.items():
            change = changes.get(_key(agent))
            if isinstance(change, Mapping):
                budget.changed_elsewhere(change, self._wall_s())

    def status(self) -> dict[str, object]:
        """``budget`` and ``agent_budgets`` of ``/eccos/status``; empty without budgets."""
        now, status = self._wall_s(), {}
        for budget in self._budgets.values():
            budget.turn(now)
        if None in self._budgets:
            status["budget"] = self._budgets[None].status()
        agents = {agent: budget.status() for agent, budget in self._budgets.items() if agent is not None}
        return {**status, **({"agent_budgets": agents} if agents else {})}

    def _of(self, agent: str) -> tuple[Budget, ...]:
        found = (self._budgets.get(None), self._budgets.get(agent))
        return tuple(budget for budget in found if budget is not None)


def limited(batch: RoundBatch, limits: tuple[BudgetLimit, ...]) -> RoundBatch:
    """The batch without the cores that its calls cannot pay, and with the targets that they can."""
    if not any(limit.binds for limit in limits):
        return batch
    given = batch.candidates
    price = np.array([limit.price for limit in limits])
    allowed = within(given.quality, given.cost, given.allowed, price)
    # Where only the cheapest is left, nothing that it delivers beyond a target pays for other calls.
    exhausted = np.where(allowed, given.quality, 0.0).max(axis=1).tolist()
    most = {
        call: limit.quality if np.isfinite(limit.price) else reached
        for call, limit, reached in zip(batch.calls, limits, exhausted, strict=True)
        if limit.binds
    }
    target = replace(batch.target, affordable=most)
    candidates = Candidates(given.quality, given.cost, allowed)
    return replace(batch, candidates=candidates, target=target, options=_affordable(batch, allowed, price))


def _affordable(batch: RoundBatch, allowed: BoolArray, price: FloatArray) -> PlanOptions | None:
    """The plans that cost no more than the dearest core that a call may go to; none at any price."""
    options = batch.options
    if options is None:
        return None
    dearest = np.where(allowed, batch.candidates.cost, 0.0).max(axis=1)
    fits = (options.cost <= dearest[:, None]) & np.isfinite(price)[:, None]
    return replace(options, allowed=options.allowed & np.where(price[:, None] > 0, fits, True))


def explained(plan: Plan, limits: tuple[BudgetLimit, ...]) -> Plan:
    """The plan with the budget as the reason of the calls that it binds."""
    rows: dict[str, dict[int, int]] = {}
    for row, limit in enumerate(limits):
        if limit.binds and plan.reasons.get(row, PLANNED) in (PLANNED, OUT_OF_REACH):
            rows.setdefault(limit.reason, {})[row] = int(plan.columns[row])
    for reason, unmoved in rows.items():
        plan = plan.moved(unmoved, reason)
    return plan


def _tighter(one: BudgetLimit, other: BudgetLimit) -> BudgetLimit:
    return other if other.price > one.price else one


def _key(agent: str | None) -> str:
    """In the saved state."""
    return "all" if agent is None else f"agent {agent}"
