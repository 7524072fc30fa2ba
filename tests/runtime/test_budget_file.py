"""What is spent of the budgets survives a restart, is shown, and ends calls where the user wants that."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.config import eccos_config
from eccos_aios.core import Core, Price
from eccos_aios.predict import query_text
from eccos_aios.runtime.budget_file import BudgetFile, budget_path
from eccos_aios.runtime.configuration import prepare
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.schedule import (
    BudgetExhaustedError,
    Call,
    CallResult,
    ExecutionResult,
    Requirements,
    Usage,
    attempt_under_way,
)

CORE = Core(name="only", quota=4, price=Price(input=1.0, output=1.0))
WAIT_S = 20.0


def service_of(folder: Path, **section: Any) -> SchedulingService:
    """A service over one core whose every call costs two US dollars."""
    (folder / "cores.yaml").write_text("cores: [{name: only, quota: 4, price: {input: 1.0, output: 1.0}}]")
    config = eccos_config({"manifest": "cores.yaml", **section}, folder / "config.yaml")

    def execute(call: Call, core: str) -> ExecutionResult:
        attempt_under_way().usage = Usage(1_000_000, 1_000_000)
        return ExecutionResult("an answer")

    service = SchedulingService(prepare(config, [CORE]), Backend(execute, lambda *_: None))
    service.start()
    return service


def ask(service: SchedulingService, agent: str = "a") -> CallResult:
    done, results = threading.Event(), []

    def on_done(call: Call, result: CallResult) -> None:
        results.append(result)
        done.set()

    service.submit(Call(query_text("what?"), Requirements(1), None, on_done, agent=agent))
    assert done.wait(WAIT_S)
    return results[0]


def test_a_restart_does_not_refill_a_budget(tmp_path: Path) -> None:
    section = {"budget": {"usd": 3.0, "per": "month", "when_exhausted": "error"}}
    service = service_of(tmp_path, **section)
    assert ask(service).value == "an answer"
    service.stop()
    saved = json.loads((tmp_path / "cores.yaml.budgets.json").read_text())
    assert saved["all"]["spent"] == 2.0
    service = service_of(tmp_path, **section)
    assert ask(service).value == "an answer"
    refused = ask(service)
    assert isinstance(refused.error, BudgetExhaustedError)
    assert "3 US dollars per month is spent until" in str(refused.error)
    status: Any = service.status()["budget"]
    assert (status["spent"], status["left"], status["exhausted"]) == (4.0, 0.0, True)
    service.stop()


def test_an_exhausted_budget_may_leave_the_cheapest_core(tmp_path: Path) -> None:
    service = service_of(tmp_path, agent_budgets={"a": {"usd": 1.0, "per": "month"}})
    assert [ask(service).value for _ in range(3)] == ["an answer"] * 3
    assert service.scheduler.decisions()[0].reason.startswith("the budget of agent 'a' is exhausted")
    status: Any = service.status()["agent_budgets"]
    assert status["a"]["spent"] == 6.0
    service.stop()


def test_a_budget_that_cannot_be_saved_is_reported_and_calls_go_on(tmp_path: Path) -> None:
    service = service_of(tmp_path, budget={"usd": 1.0, "per": "month"})
    file = BudgetFile(service.scheduler)
    file.save_to(tmp_path / "no such folder" / "budgets.json")
    assert ask(service).value == "an answer"
    file.close()
    assert file.faults() == ["budgets.json cannot be written: No such file or directory"]
    service.stop()


def test_a_damaged_file_is_no_reason_not_to_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cores.yaml.budgets.json").write_text('{"all": ')
    service = service_of(tmp_path, budget={"usd": 1.0, "per": "month"})
    assert "the budgets begin anew" in caplog.text
    service.stop()


def test_without_budgets_there_is_no_file_and_no_status(tmp_path: Path) -> None:
    service = service_of(tmp_path)
    assert ask(service).value == "an answer"
    assert "budget" not in service.status()
    service.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["cores.yaml"]


def test_the_file_lies_beside_the_history(tmp_path: Path) -> None:
    (tmp_path / "cores.yaml").write_text("cores: [{name: only}]")
    section = {"manifest": "cores.yaml", "history": "h.db", "budget": {"usd": 1.0, "per": "day"}}
    config = eccos_config(section, tmp_path / "config.yaml")
    assert budget_path(config) == tmp_path / "h.db.budgets.json"
