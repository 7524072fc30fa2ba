"""The log names a core that goes down or comes back, and says so while none serves."""

from __future__ import annotations

from typing import Any

import pytest
from fake_clock import FakeClock

from eccos_aios.runtime.core_log import NONE_SERVES_S, CoreLog


def status(**states: str) -> dict[str, Any]:
    cores = {
        name: {"state": state, **({"cause": "HTTP 401"} if state != "ok" else {})}
        for name, state in states.items()
    }
    return {"pending": 3, "cores": cores}


def test_a_line_a_change_and_one_a_minute_while_no_core_serves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "eccos_aios")
    clock, now = FakeClock(), {"status": status(a="ok", b="ok")}
    log = CoreLog(lambda: now["status"], clock)

    def lines() -> list[str]:
        log.look()
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    assert lines() == []
    now["status"] = status(a="open", b="paused")
    assert lines() == [
        "core a is down and gets no calls until a probe succeeds: HTTP 401",
        "core b is paused: HTTP 401",
    ]
    now["status"] = status(a="half-open", b="open")
    assert lines() == [
        "core b is down and gets no calls until a probe succeeds: HTTP 401",
        "no core serves, 3 calls wait: a: HTTP 401; b: HTTP 401",
    ]
    assert lines() == []
    clock.advance(NONE_SERVES_S)
    assert lines() == ["no core serves, 3 calls wait: a: HTTP 401; b: HTTP 401"]
    now["status"] = status(a="ok", b="open")
    assert lines() == ["core a serves again"]
    now["status"] = status(a="open", b="open")
    assert len(lines()) == 2
