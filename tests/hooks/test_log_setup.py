"""What a kernel logs at its start, and its form."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.hooks.log_setup import set_up_log, start_line
from eccos_aios.predict import PredictorSpec


@pytest.fixture(autouse=True)
def package_log() -> Iterator[logging.Logger]:
    package = logging.getLogger("eccos_aios")
    before = package.level, package.propagate, list(package.handlers)
    yield package
    package.level, package.propagate, package.handlers = before


def test_json_is_an_object_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log("json")
    set_up_log("json")
    logging.getLogger("eccos_aios.hooks").warning("core %s\nis down", "a")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said["message"] == "core a\nis down"
    assert said["level"] == "warning"
    assert said["time"].endswith("Z")


def test_the_start_is_one_line_with_cores_target_history_and_predictor(tmp_path: Path) -> None:
    config = EccosConfig(manifest=tmp_path / "cores.yaml", quality_target=0.75)
    line = start_line(config, [Core(name="a", quota=2), Core(name="b", quota=3)], PredictorSpec().make())
    assert "2 cores (quota: a 2, b 3)" in line
    assert "quality target 0.75" in line
    assert "history: none" in line
    assert "predictor hybrid" in line
    assert "\n" not in line
