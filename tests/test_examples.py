from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_the_example_runs_as_it_is(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


def test_the_own_predictor_of_the_example_decides() -> None:
    script = next(path for path in EXAMPLES if path.stem == "own_predictor")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    short, long = done.stdout.splitlines()
    assert short.endswith("small has answered 1, large 0")
    assert long.endswith("small has answered 1, large 1")
