from __future__ import annotations

import importlib.util
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from aios_stand_in import FILES, OFF, ON, StandIn
from click.testing import CliRunner

from eccos_aios.cli.main import main
from eccos_aios.hooks.doctor import Finding, diagnose
from eccos_aios.sandbox import SandboxCore


def checkout(
    folder: Path, config: dict[str, Any], manifest: str = "cores: [{name: small, quota: 2}]"
) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
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


def test_without_httpx_a_core_is_not_checked_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "httpx" else find_spec(name)
    )
    finding = by_subject(diagnose(checkout(tmp_path, config("http://127.0.0.1:9"))))["core small"]
    assert finding.level == "warn"
    assert "not checked: httpx is not installed: pip install 'eccos-aios[collect]'" in finding.message


def test_a_core_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    findings = diagnose(checkout(tmp_path, config("http://me:swordfish@127.0.0.1:9/v1")))
    finding = by_subject(findings)["core small"]
    assert finding.level == "fail"
    assert "127.0.0.1:9/v1/models cannot be reached: connection failed" in finding.message
    assert "swordfish" not in finding.message


def section(history: str, **more: Any) -> dict[str, Any]:
    return {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml", "history": history, **more}}


def test_a_store_that_does_not_exist_yet_is_fine_and_stays_so(tmp_path: Path) -> None:
    aios = checkout(tmp_path, config("http://127.0.0.1:9", **section("history.db")))
    finding = by_subject(diagnose(aios))["outcomes"]
    assert (finding.level, "does not exist yet" in finding.message) == ("ok", True)
    assert not (aios / "aios" / "config" / "history.db").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aios = checkout(tmp_path, config("http://127.0.0.1:9", **section("history.db")))
    monkeypatch.setattr("os.access", lambda place, _: Path(place) != aios / "aios" / "config")
    finding = by_subject(diagnose(aios))["outcomes"]
    assert finding.level == "fail"
    assert str(aios / "aios" / "config") in finding.remedy


@pytest.mark.parametrize("name", ["history.jsonl", "past calls.json"])
def test_a_history_that_is_only_read_is_told_with_a_command_that_works(tmp_path: Path, name: str) -> None:
    aios = checkout(tmp_path, config("http://127.0.0.1:9", **section(name)))
    record = {"query": "q", "outputs": [{"model_name": "small", "correctness": True}]}
    (aios / "aios" / "config" / name).write_text(json.dumps([record]))
    finding = by_subject(diagnose(aios))["outcomes"]
    assert finding.level == "warn"
    command = shlex.split(finding.remedy.partition(", and name ")[0])
    assert CliRunner().invoke(main, command[1:]).exit_code == 0
    mended = {"scheduler": section(Path(command[3]).name)}
    (aios / "aios" / "config" / "config.yaml").write_text(
        yaml.safe_dump({**config("http://127.0.0.1:9"), **mended})
    )
    findings = diagnose(aios)
    assert by_subject(findings)["outcomes"].level == "ok"
    assert any("1 records in" in finding.message for finding in findings)


def test_that_shadow_mode_keeps_nothing_is_told(tmp_path: Path) -> None:
    aios = checkout(tmp_path, config("http://127.0.0.1:9", **section("history.db", mode="shadow")))
    finding = by_subject(diagnose(aios))["outcomes"]
    assert (finding.level, "mode: schedule" in finding.remedy) == ("warn", True)


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


def test_cores_without_a_price_with_little_room_or_of_one_name_are_told(tmp_path: Path) -> None:
    content = config("http://127.0.0.1:9")
    content["llms"]["models"] += [
        {"name": "small", "backend": "vllm", "hostname": "http://127.0.0.1:8"},
        {"name": "own", "backend": "ollama"},
        {"name": "priced", "backend": "vllm", "hostname": "http://127.0.0.1:9"},
    ]
    manifest = """
        cores:
          - {name: small, context_window: 1024}
          - {name: own, context_window: 32768}
          - {name: priced, price: {input: 0, output: 0}}
    """
    found = by_subject(diagnose(checkout(tmp_path, content, manifest)))
    assert found["prices"].level == found["windows"].level == found["names"].level == "warn"
    assert found["prices"].message.startswith("small: no price")
    assert "leaves 24 of its context window of 1024" in found["windows"].message
    assert all(host in found["names"].message for host in ("http://127.0.0.1:9", "http://127.0.0.1:8"))


def test_nothing_is_said_of_cores_that_lack_nothing(tmp_path: Path) -> None:
    manifest = "cores: [{name: small, price: {input: 0, output: 0}, context_window: 8192}]"
    found = by_subject(diagnose(checkout(tmp_path, config("http://127.0.0.1:9"), manifest)))
    assert not {"prices", "windows", "names"} & set(found)


def hooks_findings(aios: StandIn) -> list[Finding]:
    return [finding for finding in diagnose(aios.checkout) if finding.subject in ("hooks", "revision")]


def test_an_aios_of_the_known_shape_is_fine(tmp_path: Path) -> None:
    [finding] = hooks_findings(StandIn(tmp_path))
    assert finding.level == "ok"


def test_what_aios_lacks_is_told_without_importing_it(tmp_path: Path) -> None:
    aios = StandIn(tmp_path)
    aios.replace("aios/llm_core/adapter.py", "def execute_llm_syscall", "def execute")
    aios.write("aios/__init__.py", "raise AssertionError('imported')")
    for config, level in ((OFF, "warn"), (ON, "fail")):
        aios.write("aios/config/config.yaml", config)
        [finding] = hooks_findings(aios)
        assert finding.level == level
        assert finding.message.startswith("aios.llm_core.adapter.LLMAdapter.execute_llm_syscall is missing")
        assert "2155966" in finding.remedy


@pytest.mark.parametrize("packed", [False, True])
def test_an_aios_of_another_revision_is_told(tmp_path: Path, packed: bool) -> None:
    aios = StandIn(tmp_path)
    aios.write(".git/HEAD", "ref: refs/heads/main\n")
    if packed:
        aios.write(".git/packed-refs", f"# pack-refs with: peeled\n{'ab' * 20} refs/heads/main\n")
    else:
        aios.write(".git/refs/heads/main", f"{'ab' * 20}\n")
    revision = hooks_findings(aios)[0]
    assert (revision.level, "AIOS is at abababa, ECCOS was written for 2155966" in revision.message) == (
        "warn",
        True,
    )
    aios.write(".git/HEAD", f"2155966{'0' * 33}\n")
    assert [finding.level for finding in hooks_findings(aios)] == ["ok"]
