"""The ``learning`` experiment learns what there is to learn, and sees a core get worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from run import main

from eccos_aios.predict import forest

CORES = """cores:
  - {name: prover, price: {input: 1, output: 1}}
  - {name: poet, price: {input: 1, output: 1}}
"""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    lines = []
    for number in range(420):
        proof = number % 2 == 0
        ask = "prove the lemma about primes" if proof else "write a poem about the sea"
        outputs = [
            {
                "model_name": name,
                "correctness": bool(random.random() < (0.97 if good else 0.6)),
                "output_token_length": 20,
            }
            for name, good in (("prover", proof), ("poet", not proof))
        ]
        lines.append(json.dumps({"query": f"{ask} number {number}", "outputs": outputs}))
    folder = tmp_path_factory.mktemp("learning")
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "cores.yaml").write_text(CORES)
    return folder / "history.jsonl"


def arguments(history: Path) -> list[str]:
    cores = history.with_name("cores.yaml")
    return ["learning", "--history", str(history), "--cores", str(cores)]


def run(history: Path, *more: str) -> dict[str, list[dict[str, Any]]]:
    done = CliRunner().invoke(main, [*arguments(history), "--json", *more])
    assert done.exit_code == 0, done.output
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def test_from_nothing_to_what_a_complete_history_gives(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest, "TREES", 4)  # what is shown does not hang on it, and many fits take long
    (row,) = run(
        history, "--learned", "80", "--measured", "60", "--outcomes", "all", "--quality-target", "0.9"
    )["rows"]
    assert row["quality"] > 0.8
    assert row["quality"] == pytest.approx(row["offline_quality"], abs=0.15)
    assert row["outcomes_until_noticed"] is not None and row["outcomes_until_noticed"] <= 50
    assert row["share_after"] < row["share_before"]


def test_too_short_a_history_is_refused(history: Path) -> None:
    done = CliRunner().invoke(main, arguments(history))
    assert done.exit_code == 2
    assert "420 records of these cores: 3200 are replayed" in done.stderr
