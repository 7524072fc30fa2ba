"""The quality debt and the budgets of several kernels, which tell each other their changes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eccos_aios.config import BudgetConfig
from eccos_aios.schedule.budget import Budget
from eccos_aios.schedule.quality_debt import CREDIT_LIMIT, QualityDebt

NOW = 1_800_000_000.0
QUALITY, COST = np.array([0.5, 0.9]), np.array([0.001, 0.01])


def exchange_debts(debts: list[QualityDebt]) -> None:
    changes = [debt.take_change() for debt in debts]
    for place, debt in enumerate(debts):
        for other, change in enumerate(changes):
            if other != place:
                debt.changed_elsewhere(change)


def test_every_kernel_owes_what_all_of_them_owe() -> None:
    debts = [QualityDebt() for _ in range(3)]
    debts[0].sent(0.8, 0.5)
    debts[1].sent(0.8, 0.7)
    exchange_debts(debts)
    assert [debt.points for debt in debts] == pytest.approx([0.4] * 3)
    debts[2].sent(0.8, 0.9)
    exchange_debts(debts)
    assert [debt.points for debt in debts] == pytest.approx([0.3] * 3)


def test_a_debt_that_nobody_changes_is_not_told_again() -> None:
    debts = [QualityDebt() for _ in range(3)]
    for place, debt in enumerate(debts):
        debt.sent(0.8, 0.1 * place + 0.05)
    exchange_debts(debts)
    assert [debt.take_change() for debt in debts] == [0.0] * 3


def test_a_correction_keeps_what_other_kernels_have_changed() -> None:
    debt = QualityDebt()
    debt.delivered(0.5, 0.5)
    debt.changed_elsewhere(2.0)
    debt.corrected(0.5, 0.4, 0.5)
    assert debt.points == pytest.approx(2.1)
    debt.changed_elsewhere(1000.0)
    assert debt.points == CREDIT_LIMIT
    debt.changed_elsewhere(float("nan"))
    assert debt.points == CREDIT_LIMIT


def test_an_account_without_debt_changes_none() -> None:
    debt = QualityDebt()
    debt.delivered(0.9, 0.0)
    before = debt.points
    debt.changed_elsewhere(0.0)  # the account of a kernel that has only spent money
    assert debt.points == before


def told(budget: Budget) -> dict[str, float]:
    """As it travels."""
    return json.loads(json.dumps(budget.take_change()))


def test_a_budget_is_spent_by_all_kernels_together() -> None:
    config = BudgetConfig(usd=1.0, per="day")
    first, second = (Budget(config, "the budget", NOW) for _ in range(2))
    for budget in (first, second):
        for _ in range(30):
            budget.sent(QUALITY, COST, 0.01, 0.8, NOW)
    changes = told(first), told(second)
    second.changed_elsewhere(changes[0], NOW)
    first.changed_elsewhere(changes[1], NOW)
    assert first.spent == second.spent == pytest.approx(0.6)
    assert told(first) == told(second) == {}
    first.billed(0.01, 0.02, NOW)
    second.changed_elsewhere(told(first), NOW)
    assert second.spent == pytest.approx(0.61)


def test_what_was_restored_from_the_file_is_not_told_as_spent() -> None:
    budget = Budget(BudgetConfig(usd=1.0, per="day"), "the budget", NOW)
    budget.restore({**budget.state(), "spent": 0.25})
    assert budget.spent == 0.25
    assert told(budget) == {}


def test_what_was_spent_in_another_period_does_not_count() -> None:
    budget = Budget(BudgetConfig(usd=1.0, per="hour"), "the budget", NOW)
    budget.changed_elsewhere({"begin": budget.begin - 3600, "usd": 0.5, "calls": 3}, NOW)
    assert budget.spent == 0.0
