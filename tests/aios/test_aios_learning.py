"""A real AIOS kernel that learns: a call counts once, and a fit ends with its kernel."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
from typing import Any

import pytest

from eccos_aios.sandbox.aios import AiosKernel
from eccos_aios.sandbox.server import SandboxCore

WAIT_S = 60.0
CALLS = 24
MANIFEST = json.dumps({"cores": [{"name": "small", "quota": 4, "price": {"input": 1, "output": 1}}]})
SECTION = {"manifest": "cores.yaml", "history": "history.db", "quality_target": 0.0}


def fits_of(kernel: AiosKernel) -> list[int]:
    """The processes that fit this kernel's store."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True
    ).stdout
    found = [line.split(None, 2) for line in listed.splitlines()]
    return [int(pid) for pid, state, args in found if "runtime.fit_process" in args and str(kernel.folder) in args and state[0] != "Z"]  # fmt: skip


def quality(kernel: AiosKernel) -> float:
    """What is expected of the core on a call that is like no other."""
    kernel.query("something else altogether")
    (decision,) = kernel.request("/eccos/decisions?limit=1")["decisions"]
    expected: float = decision["estimates"]["small"]["quality"]
    return expected


def until(condition: Any) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends_s, "in vain"
        time.sleep(0.02)


@pytest.mark.aios_long
def test_a_call_counts_once_and_a_fit_ends_with_a_kernel_that_is_killed(aios: Any) -> None:
    if sys.platform == "win32":
        pytest.skip("needs ps and SIGKILL")
    with (
        SandboxCore("small") as core,
        aios.kernel(
            [core], {"scheduler_type": "eccos", "eccos": SECTION}, {"cores.yaml": MANIFEST}
        ) as kernel,
    ):
        for number in range(CALLS):
            assert kernel.query(f"what is {number} and {number}?")["error"] is None
        ids = [each["id"] for each in kernel.request(f"/eccos/decisions?limit={CALLS}")["decisions"]]
        for call in ids[:12]:
            kernel.request("/eccos/feedback", {"call": call, "quality": 1.0})
        until(lambda: kernel.request("/eccos/status")["learning"]["learned"] == 12)
        good = quality(kernel)
        for _ in range(60):
            with contextlib.suppress(urllib.error.HTTPError):  # so many grades of one call are refused
                kernel.request("/eccos/feedback", {"call": ids[0], "quality": 0.0})
        until(lambda: quality(kernel) < good)
        assert quality(kernel) > good - 0.2
        assert kernel.request("/eccos/status")["learning"]["learned"] == 12
        for call in ids[12:]:
            kernel.request("/eccos/feedback", {"call": call, "quality": 1.0})
        until(lambda: fits_of(kernel))
        os.kill(kernel.process.pid, signal.SIGKILL)
        until(lambda: not fits_of(kernel))
