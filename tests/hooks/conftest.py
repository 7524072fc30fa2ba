"""Kernels whose readers look at their queues often, so that stopping one does not take half a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eccos_aios.sandbox import SandboxCore


@pytest.fixture(autouse=True)
def _quick_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eccos_aios.sandbox.syscall.GET_TIMEOUT_S", 0.01)  # what a stop waits, of each queue


@pytest.fixture
def cores() -> Iterator[list[SandboxCore]]:
    with SandboxCore("small") as small, SandboxCore("large") as large:
        yield [small, large]
