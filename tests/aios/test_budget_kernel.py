"""A real AIOS kernel with budgets: what providers count is spent, agents are told, a restart changes nothing."""

from __future__ import annotations

import json
from typing import Any

from eccos_aios.runtime.budget_file import SUFFIX
from eccos_aios.sandbox.server import SandboxCore

MANIFEST = {
    "cores": [
        {"name": "dear", "quota": 4, "price": {"input": 100_000, "output": 100_000}},
        {"name": "cheap", "quota": 4, "price": {"input": 1_000, "output": 1_000}},
    ]
}
FILE = "cores.yaml" + SUFFIX


def eccos(**section: Any) -> dict[str, Any]:
    return {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml", "quality_target": 0.0, **section}}


def test_money_is_spent_by_what_providers_count_and_an_agent_is_told_when_it_is_gone(aios: Any) -> None:
    cores = [SandboxCore("dear").start(), SandboxCore("cheap").start()]
    month = {"usd": 0.1, "per": "month", "when_exhausted": "error"}
    section = eccos(budget={"usd": 1000.0, "per": "month"}, agent_budgets={"frugal": month})
    try:
        with aios.kernel(cores, section, {"cores.yaml": json.dumps(MANIFEST)}) as kernel:
            answers = [kernel.query("word " * 40, agent="frugal") for _ in range(6)]
            assert answers[0]["error"] is None
            assert answers[-1]["status_code"] == 402
            assert (
                "the budget of agent 'frugal' of 0.1 US dollars per month is spent until"
                in answers[-1]["error"]
            )
            assert kernel.query("word", agent="another")["error"] is None
            status = kernel.request("/eccos/status")
            folder = kernel.folder / "aios" / "config"
        tokens = sum(core.stats["input_tokens"] + core.stats["output_tokens"] for core in cores[1:])
        assert cores[0].requests == 0
        assert status["budget"]["spent"] == round(tokens * 1_000 / 1e6, 9)
        assert status["agent_budgets"]["frugal"]["exhausted"]
        saved = (folder / FILE).read_text()
        assert json.loads(saved)["all"]["spent"] == round(tokens * 1_000 / 1e6, 12)
        files = {"cores.yaml": json.dumps(MANIFEST), FILE: saved}
        with aios.kernel(cores, section, files) as kernel:
            assert kernel.query("word", agent="frugal")["status_code"] == 402
            assert kernel.query("word", agent="another")["error"] is None
    finally:
        for core in cores:
            core.stop()
