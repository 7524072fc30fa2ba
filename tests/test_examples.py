from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eccos_aios import CallText, Record
from eccos_aios.history import Outcome
from eccos_aios.predict import PredictorSpec
from eccos_aios.verify import Answer, Question

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


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


def test_the_plug_ins_of_the_guide_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", (FOLDER / "plug_ins.md").read_text(encoding="utf-8"), re.DOTALL
    )
    mine = tmp_path / "mine.py"
    mine.write_text("\n".join(blocks))
    given = Record(query="what?", outputs=(Outcome(model_name="large", correctness=True),))
    predictor = PredictorSpec(predictor=f"{mine}:Means").make().fit([given])
    assert predictor.predict([CallText("why?", 3)], ["large", "new"]).quality.tolist() == [[1.0, 0.5]]
    embedder = PredictorSpec(embedder=f"{mine}:Letters").make_embedder()
    assert embedder is not None
    alike = embedder.fit([]).transform(["abc", "cab", "xyz"])
    assert np.allclose(alike @ alike[0], [1, 1, 0])
    monkeypatch.syspath_prepend(tmp_path)
    check = importlib.import_module("mine").NoApology()
    assert not check.check(Question("?"), Answer("I'm sorry, no.")).passes
    assert check.check(Question("?"), Answer("42")).passes
