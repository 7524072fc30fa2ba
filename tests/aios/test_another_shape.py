"""A real AIOS that was changed under the hooks: off it runs, on it says in one line why it does not start."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aios_overlay import Aios

from eccos_aios.sandbox.server import SandboxCore

ECCOS = {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml"}}
FILES = {"cores.yaml": "cores: [{name: first}]"}


@pytest.fixture
def cores() -> Iterator[list[SandboxCore]]:
    with SandboxCore("first") as core:
        yield [core]


def rename(old: str) -> Callable[[Path], None]:
    """Rename it wherever AIOS says it."""

    def change(aios: Path) -> None:
        for file in aios.rglob("*.py"):
            content = file.read_text(encoding="utf-8")
            file.write_text(re.sub(rf"\b{old}\b", f"renamed_{old}", content), encoding="utf-8")

    return change


def uvicorn(_: Path, port: int) -> list[str]:
    return ["-m", "uvicorn", "runtime.launch:app", "--port", str(port)]


def serve(folder: Path, port: int) -> list[str]:
    command = "from eccos_aios.cli.main import main; main()"
    return ["-c", command, "serve", "--aios", str(folder), "--port", str(port)]


@pytest.mark.parametrize(
    "old", ["fifo_scheduler_nonblock", "execute_llm_syscall"], ids=["factory", "adapter"]
)
@pytest.mark.aios_long
def test_a_renamed_hook_target(aios: Aios, cores: list[SandboxCore], old: str) -> None:
    change = rename(old)
    with aios.kernel(cores, {}, FILES, change=change) as kernel:
        assert kernel.query("still served?")["status_code"] == 200
        assert len([line for line in kernel.output if "eccos-aios:" in line]) == 1
        assert "Traceback" not in kernel.text
    for arguments in (None, uvicorn, serve):
        with aios.kernel(
            cores, ECCOS, FILES, change=change, arguments=arguments, hooked=arguments is not serve
        ) as kernel:
            assert kernel.process.wait(60) != 0
            [line] = [line for line in kernel.output if "2155966" in line]
            assert f"{old} is missing" in line
            assert "written for revision" in line
            assert "Traceback" not in kernel.text


def test_a_real_aios_has_every_place_that_eccos_relies_on(aios: Aios, cores: list[SandboxCore]) -> None:
    with aios.kernel(cores, {}) as kernel:
        assert kernel.query("served?")["status_code"] == 200
        assert "eccos" not in kernel.text
