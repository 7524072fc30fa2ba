"""Sandbox cores with a manifest, and a set of sums to ask them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.sandbox import Reply, SandboxCore
from eccos_aios.sandbox.reply import last_user_text


def sum_reply(request: dict[str, Any]) -> Reply:
    """What is right: “What is 3 + 4?” gives 7, in 20 tokens of 10."""
    numbers = [int(number) for number in re.findall(r"\d+", last_user_text(request["messages"]))]
    return Reply(f"The answer is {sum(numbers)}.", input_tokens=10, output_tokens=20)


def wrong_reply(request: dict[str, Any]) -> Reply:
    return Reply("The answer is -1.", input_tokens=10, output_tokens=20)


@pytest.fixture
def start() -> Iterator[Callable[..., SandboxCore]]:
    """Starts sandbox cores, and stops them at the end."""
    with ExitStack() as stack:

        def start(name: str, reply: Any = sum_reply, **more: Any) -> SandboxCore:
            return stack.enter_context(SandboxCore(name, reply, **more))

        yield start


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Path]:
    def write(*cores: SandboxCore, **keys: Any) -> Path:
        path = tmp_path / "cores.yaml"
        listed = [{"name": core.name, "base_url": core.base_url, **keys} for core in cores]
        path.write_text(json.dumps({"cores": listed}))
        return path

    return write


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """Forty sums."""
    path = tmp_path / "sums.jsonl"
    lines = (
        {"question": f"What is {n} + {n + 1}?", "answer": 2 * n + 1, "grader": "numeric"} for n in range(40)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
