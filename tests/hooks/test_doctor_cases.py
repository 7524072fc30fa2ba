"""A table of set-ups that go wrong: each is a finding with a remedy, and decides the exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aios_stand_in import FILES
from click.testing import CliRunner

from eccos_aios.cli.main import main
from eccos_aios.sandbox import SandboxCore

MANIFEST = "cores: [{name: small, quota: 2, price: {input: 0.1, output: 0.4}}]\n"
RECORD = {"query": "q", "outputs": [{"model_name": "small", "correctness": True}]}


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxCore]:
    with SandboxCore("small") as core:
        yield core


class Setup:
    """A sound checkout, to be spoilt."""

    def __init__(self, folder: Path, hostname: str) -> None:
        self.folder, self.config_folder = folder, folder / "aios" / "config"
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self.manifest(MANIFEST)
        self.model: dict[str, Any] = {"name": "small", "backend": "vllm", "hostname": hostname}
        self.content: dict[str, Any] = {
            "llms": {"models": [self.model], "use_context_manager": False},
            "scheduler": {
                "log_mode": "console",
                "scheduler_type": "eccos",
                "eccos": {"manifest": "cores.yaml", "history": "history.db"},
            },
        }
        self.config_text: str | None = None

    def manifest(self, text: str) -> None:
        (self.config_folder / "cores.yaml").write_text(text)

    def findings(self) -> tuple[int, list[dict[str, str]]]:
        text = yaml.safe_dump(self.content) if self.config_text is None else self.config_text
        if text:
            (self.config_folder / "config.yaml").write_text(text)
        done = CliRunner().invoke(main, ["doctor", "--aios", str(self.folder), "--json"])
        return done.exit_code, json.loads(done.stdout)


def rename(section: str | None, key: str, to: str) -> Callable[[Setup], None]:
    def spoil(setup: Setup) -> None:
        of = setup.content if section is None else setup.content[section]
        of[to] = of.pop(key)

    return spoil


def set_model(**entries: Any) -> Callable[[Setup], None]:
    return lambda setup: setup.model.update(entries)


def write_manifest(text: str) -> Callable[[Setup], None]:
    return lambda setup: setup.manifest(text)


def write_config(text: str) -> Callable[[Setup], None]:
    def spoil(setup: Setup) -> None:
        setup.config_text = text

    return spoil


def without_v1(setup: Setup) -> None:
    setup.model["hostname"] = setup.model["hostname"].removesuffix("/v1")


def another_model(setup: Setup) -> None:
    setup.model["name"] = "tiny"
    setup.manifest(MANIFEST.replace("small", "tiny"))


def more_models(setup: Setup) -> None:
    setup.content["llms"]["models"].append({"name": "extra", "backend": "hflocal"})


def other_environment(setup: Setup) -> None:
    (setup.folder / ".venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (setup.folder / ".venv" / "pyvenv.cfg").touch()


def installed_elsewhere(setup: Setup) -> None:
    other_environment(setup)
    (setup.folder / ".venv" / "lib" / "python3.11" / "site-packages" / "eccos-aios.pth").touch()


def other_hooks(setup: Setup) -> None:
    adapter = setup.folder / "aios" / "llm_core" / "adapter.py"
    adapter.write_text(adapter.read_text().replace("def execute_llm_syscall", "def execute"))


def bad_record(setup: Setup) -> None:
    setup.content["scheduler"]["eccos"]["history"] = "history.jsonl"
    (setup.config_folder / "history.jsonl").write_text('{"query": "q"}\n')


def out_of_reach(setup: Setup) -> None:
    setup.content["scheduler"]["eccos"] |= {"history": "history.jsonl", "quality_target": 0.9}
    records = [
        {"query": f"{number}?", "outputs": [{"model_name": "small", "correctness": number % 2 == 0}]}
        for number in range(90)
    ]
    (setup.config_folder / "history.jsonl").write_text("\n".join(map(json.dumps, records)))


def set_section(**entries: Any) -> Callable[[Setup], None]:
    return lambda setup: setup.content["scheduler"]["eccos"].update(entries)


@dataclass(frozen=True)
class Case:
    name: str
    spoil: Callable[[Setup], object]
    level: str
    subject: str
    message: str
    remedy: str


CASES = [
    Case("model not listed", another_model, "fail", "core tiny", "does not list 'tiny', but small", "name one of those"),
    Case("no /v1", without_v1, "fail", "core small", "lacks /v1", "set hostname: http://127.0.0.1:"),
    Case("no hostname", set_model(hostname=None), "fail", "core small", "no hostname", "http://HOST:PORT/v1"),
    Case("unknown backend", set_model(backend="vlm"), "fail", "core small", "backend 'vlm' is none of", "write backend: vllm"),
    Case("schedular_type", rename("scheduler", "scheduler_type", "schedular_type"), "fail", "spelling", "scheduler.schedular_type", "write it scheduler_type"),
    Case("scheduler_typ", rename("scheduler", "scheduler_type", "scheduler_typ"), "fail", "spelling", "scheduler.scheduler_typ", "write it scheduler_type"),
    Case("ecos", rename("scheduler", "eccos", "ecos"), "fail", "spelling", "scheduler.ecos", "write it eccos"),
    Case("schedule", rename(None, "scheduler", "schedule"), "fail", "spelling", "schedule: ", "write it scheduler"),
    Case("value ecos", lambda setup: setup.content["scheduler"].update(scheduler_type="ecos"), "fail", "spelling", "'ecos'", "write it eccos"),
    Case("at the top", lambda setup: setup.content.update(eccos=setup.content["scheduler"].pop("eccos")), "fail", "spelling", "eccos is ignored there", "into the section scheduler"),
    Case("option", set_section(qualty_target=0.9), "fail", "config", "did you mean quality_target?", "fix that value"),
    Case("manifest option", write_manifest("cores: [{name: small, qouta: 2}]"), "fail", "config", "did you mean quota?", "fix that value"),
    Case("core not in manifest", more_models, "warn", "manifest", "it lacks extra", "add each to the manifest"),
    Case("core not in AIOS", write_manifest("cores: [{name: small}, {name: other}]"), "fail", "config", "cores[1].name: 'other'", "take it out of the manifest"),
    Case("context manager", lambda setup: setup.content["llms"].update(use_context_manager=True), "fail", "context manager", "every LLM call", "use_context_manager: false"),
    Case("no quota", write_manifest("cores: [{name: small, price: {input: 1}}]"), "warn", "quotas", "small: no quota", "quota: N"),
    Case("a quota that nobody has", write_manifest(MANIFEST.replace("quota: 2", "quota: 20000")), "warn", "quotas", "no server holds 20000 calls", "--max-num-seqs"),
    Case("another AIOS", lambda setup: shutil.rmtree(setup.folder / "aios" / "hooks"), "fail", "hooks", "another AIOS", "git clone https://github.com/agiresearch/AIOS"),
    Case("other hooks", other_hooks, "fail", "hooks", "execute_llm_syscall is missing", "check out AIOS at 2155966"),
    Case("no AIOS", lambda setup: (setup.folder / "runtime" / "launch.py").unlink(), "fail", "AIOS", "is not an AIOS checkout", "--aios DIR (git clone"),
    Case("no config", write_config(""), "fail", "AIOS", "there is no such file", "cp "),
    Case("bad config", write_config("llms: [\n"), "fail", "AIOS", "is not YAML", "correct the YAML of"),
    Case("scheduler no section", write_config("scheduler: fifo\n"), "fail", "config", "scheduler: 'fifo'", "fix that value"),
    Case("no models", lambda setup: setup.content["llms"].update(models=None), "fail", "cores", "lists none", "name your cores"),
    Case("bad manifest", write_manifest("cores: ]\n"), "fail", "config", "cores.yaml: is not YAML", "correct the YAML of"),
    Case("no manifest", lambda setup: (setup.config_folder / "cores.yaml").unlink(), "fail", "config", "there is no such file", "eccos-aios init --aios"),
    Case("no section", lambda setup: setup.content["scheduler"].pop("eccos"), "fail", "config", "required by scheduler_type", "eccos-aios init --aios"),
    Case("bad record", bad_record, "fail", "history", "history.jsonl", "--skip-bad-records"),
    Case("target out of reach", out_of_reach, "warn", "target", "0.9 is out of reach", "set quality_target: 0."),
    Case("not in AIOS's environment", other_environment, "fail", "environment", "not in AIOS's environment", "-m pip install eccos-aios"),
    Case("doctor in another environment", installed_elsewhere, "warn", "environment", "doctor runs in", "bin/eccos-aios doctor"),
    Case("server down", set_model(hostname="http://127.0.0.1:9/v1"), "fail", "core small", "cannot be reached", "start that server"),
    Case("no key", set_model(backend="anthropic"), "fail", "core small", "no API key", "ANTHROPIC_API_KEY"),
]  # fmt: skip


def test_a_sound_setup_has_no_failure(tmp_path: Path, server: SandboxCore) -> None:
    code, findings = Setup(tmp_path, server.base_url).findings()
    assert (code, [each for each in findings if each["level"] == "fail"]) == (0, [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_is_found_with_a_remedy(
    case: Case, tmp_path: Path, server: SandboxCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    setup = Setup(tmp_path, server.base_url)
    case.spoil(setup)
    code, findings = setup.findings()
    found = [each for each in findings if each["subject"] == case.subject and case.message in each["message"]]
    assert [each["level"] for each in found] == [case.level], findings
    assert case.remedy in found[0]["remedy"]
    assert code == (2 if any(each["level"] == "fail" for each in findings) else 0)
    if case.level == "warn":
        assert code == 0
