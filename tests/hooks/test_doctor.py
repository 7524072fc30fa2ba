from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eccos_aios.hooks.doctor import Finding, diagnose
from eccos_aios.sandbox import SandboxCore


def checkout(
    folder: Path, config: dict[str, Any], manifest: str = "cores: [{name: small, quota: 2}]"
) -> Path:
    (folder / "runtime").mkdir()
    (folder / "runtime" / "launch.py").touch()
    (folder / "aios" / "config").mkdir(parents=True)
    (folder / "aios" / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "aios" / "config" / "cores.yaml").write_text(manifest)
    return folder


def config(hostname: str, **scheduler: Any) -> dict[str, Any]:
    scheduler = scheduler or {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml"}}
    return {
        "llms": {"models": [{"name": "small", "backend": "vllm", "hostname": hostname}]},
        "scheduler": scheduler,
    }


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_sound_checkout_has_no_failure(tmp_path: Path) -> None:
    with SandboxCore("small") as core:
        findings = diagnose(checkout(tmp_path, config(core.base_url)))
    assert [finding for finding in findings if finding.level == "fail"] == []
    assert by_subject(findings)["core small"].level == "ok"
    assert by_subject(findings)["history"].remedy  # there is none: said, with what to do


def test_a_core_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with SandboxCore("small") as core:
        address = core.base_url
    finding = by_subject(diagnose(checkout(tmp_path, config(address))))["core small"]
    assert finding.level == "fail"
    assert address in finding.message


def test_a_missing_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    content = config("")
    content["llms"]["models"] = [{"name": "small", "backend": "openai"}]
    finding = by_subject(diagnose(checkout(tmp_path, content)))["core small"]
    assert finding.level == "fail"
    assert "OPENAI_API_KEY" in finding.remedy


def test_what_would_stop_the_kernel_is_told(tmp_path: Path) -> None:
    findings = diagnose(checkout(tmp_path, config("http://127.0.0.1:9"), "cores: [{name: other}]"))
    assert "cores[0].name: 'other'" in by_subject(findings)["config"].message


def test_a_config_that_does_not_ask_is_told(tmp_path: Path) -> None:
    content = config("http://127.0.0.1:9", log_mode="console")
    findings = diagnose(checkout(tmp_path, content))
    assert any(finding.level == "warn" and "scheduler_type" in finding.remedy for finding in findings)
    assert [finding.subject for finding in findings if finding.level == "fail"] == ["core small"]


def test_a_folder_that_is_no_checkout_is_told(tmp_path: Path) -> None:
    (finding,) = diagnose(tmp_path)
    assert (finding.level, finding.subject) == ("fail", "AIOS")
    assert "--aios" in finding.remedy
