"""Kernels whose readers look at their queues often, so that stopping one does not take half a second."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _quick_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eccos_aios.sandbox.syscall.GET_TIMEOUT_S", 0.01)  # what a stop waits, of each queue
