"""What ``serve`` does where AIOS's start is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eccos_aios.errors import EccosError
from eccos_aios.hooks import serve

LAUNCH = 'from eccos_aios.hooks.shield import Refusal\nraise Refusal("eccos-aios: cores.yaml: is wrong")\n'


def test_a_refused_start_is_an_error_of_the_command_which_ends_with_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn", reason="needs uvicorn, which AIOS brings")
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "launch.py").write_text(LAUNCH)
    (tmp_path / "aios" / "config").mkdir(parents=True)
    (tmp_path / "aios" / "config" / "config.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(serve, "NEEDED", ())
    monkeypatch.setattr(serve, "_activate", lambda _: None)
    monkeypatch.delitem(sys.modules, "runtime", raising=False)
    with pytest.raises(EccosError, match=r"eccos-aios: cores\.yaml: is wrong"):
        serve.serve(tmp_path)
