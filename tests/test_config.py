"""The ``scheduler.eccos`` section of AIOS's config."""

from __future__ import annotations

from pathlib import Path

import pytest

from eccos_aios.config import EccosConfig, read_eccos_config
from eccos_aios.core import read_yaml
from eccos_aios.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cores.yaml").write_text("cores: [{name: small}]")
    (tmp_path / "history.jsonl").write_text("")
    return tmp_path


def written(folder: Path, section: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(f"scheduler:\n  scheduler_type: eccos\n  eccos: {section}\n")
    return path


def fault_of(folder: Path, section: str) -> str:
    path = written(folder, section)
    with pytest.raises(ConfigError) as caught:
        read_eccos_config(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_relative_paths_start_at_the_configs_folder(folder: Path) -> None:
    config = read_eccos_config(
        written(folder, "{manifest: cores.yaml, history: history.jsonl, quality_target: 0.7}")
    )
    assert config.manifest == folder / "cores.yaml"
    assert config.history == folder / "history.jsonl"
    assert config.quality_target == 0.7
    assert config.read_manifest().names == ("small",)


def test_absolute_paths_stay(folder: Path) -> None:
    path = written(folder, f"{{manifest: {folder / 'cores.yaml'}}}")
    assert read_eccos_config(path).manifest == folder / "cores.yaml"


def test_all_but_the_manifest_has_a_default(folder: Path) -> None:
    config = read_eccos_config(written(folder, "{manifest: cores.yaml}"))
    assert config == EccosConfig(manifest=folder / "cores.yaml")
    assert config.history is None


def test_off_and_on_need_no_quotes(folder: Path) -> None:
    config = read_eccos_config(
        written(folder, "{manifest: cores.yaml, plans: off, affinity: off, telemetry: on}")
    )
    assert (config.plans, config.affinity, config.telemetry) == ("off", "off", "on")
    assert fault_of(folder, "{manifest: cores.yaml, plans: on}").startswith("scheduler.eccos.plans: 'on'")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("", ": required by scheduler_type: eccos, but absent"),
        ("[]", ": []: must be a mapping of keys to values"),
        ("{}", ".manifest: required, but absent"),
        ("{manifest: 5}", ".manifest: 5: "),
    ],
)
def test_a_wrong_section_is_named(folder: Path, section: str, message: str) -> None:
    assert fault_of(folder, section).startswith(f"scheduler.eccos{message}")


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ("quality_target: 1.5", "quality_target: 1.5: must be less than or equal to 1"),
        ("quality_target: '0.8'", "quality_target: '0.8': must be a number"),
        ("quality_target: yes", "quality_target: True: must be a number"),
        ("quality_target: .nan", "quality_target: nan: must be"),
        ("store_text: 'no'", "store_text: 'no': must be"),
        ("gather_ms: -1", "gather_ms: -1: must be greater than or equal to 0"),
        ("call_timeout_s: .inf", "call_timeout_s: inf: must be a finite number"),
        (
            "qualty_target: 1",
            "qualty_target: 1: unknown key; did you mean quality_target? known are manifest, history, quality_target, ",
        ),
    ],
)
def test_a_wrong_knob_is_named_with_value_and_what_is_allowed(folder: Path, knob: str, message: str) -> None:
    assert fault_of(folder, f"{{manifest: cores.yaml, {knob}}}").startswith(f"scheduler.eccos.{message}")


@pytest.mark.parametrize("key", ["manifest", "history"])
def test_a_file_that_is_not_there_is_named_with_its_key(folder: Path, key: str) -> None:
    named = {"manifest": "cores.yaml", "history": "history.jsonl", key: "gone.txt"}
    path = written(folder, f"{{manifest: {named['manifest']}, history: {named['history']}}}")
    with pytest.raises(ConfigError, match=rf"scheduler\.eccos\.{key}: .*gone\.t.*there is no such file"):
        read_eccos_config(path)


def test_a_store_may_be_absent_but_its_folder_may_not(folder: Path) -> None:
    config = read_eccos_config(written(folder, "{manifest: cores.yaml, history: history.db}"))
    assert config.history == folder / "history.db"
    assert config.store_text
    told = fault_of(folder, "{manifest: cores.yaml, history: gone/history.db}")
    assert (
        told
        == f"scheduler.eccos.history: '{folder / 'gone'}': there is no such folder to create the store in"
    )
    (folder / "folder.db").mkdir()
    assert "there is no such file" in fault_of(folder, "{manifest: cores.yaml, history: folder.db}")


def test_a_plug_in_of_a_file_is_looked_for_beside_the_config(folder: Path) -> None:
    section = "{manifest: cores.yaml, predictor: own/mine.py:Mine, embedder: package.module:Class}"
    config = read_eccos_config(written(folder, section))
    assert config.predictor == f"{folder.resolve()}/own/mine.py:Mine"
    assert config.embedder == "package.module:Class"


@pytest.mark.parametrize("content", ["{}", "scheduler: 5", "scheduler: {log_mode: console}"])
def test_a_config_without_the_section_says_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"scheduler\.eccos: required"):
        read_eccos_config(path)


def test_the_ready_config_snippet_loads_and_switches_eccos_on(folder: Path) -> None:
    snippet = Path(__file__).parents[1] / "manifests" / "aios-config-snippet.yaml"
    path = folder / "config.yaml"
    path.write_text(snippet.read_text())
    assert read_eccos_config(path).quality_target == 0.8
    assert read_yaml(path)["scheduler"]["scheduler_type"] == "eccos"


SECRET = "swordfish-1234"


def test_secrets_may_come_from_environment_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", f"{SECRET}\n")
    monkeypatch.setenv("MY_REDIS", f"redis://:{SECRET}@cache:6379/0")
    config = configured(folder, "token_env: MY_TOKEN, shared_env: MY_REDIS")
    assert config.token is not None
    assert config.token.get_secret_value() == SECRET
    assert config.shared is not None
    assert SECRET in config.shared.get_secret_value()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("token_env: UNSET_TOKEN", "token_env: 'UNSET_TOKEN': this environment variable is not set"),
        ("token_env: 3", "token_env: 3: must be text"),
        ("token_env: MY_TOKEN, token: swordfish-5678", "token_env: token is given, too"),
        ("token_env: SHORT", "scheduler.eccos.token: "),
        ("token: [swordfish]", "scheduler.eccos.token: "),
        ("shared: http://:swordfish@cache", "scheduler.eccos.shared: must begin with redis://"),
    ],
)
def test_a_wrong_secret_is_named_and_never_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str, message: str
) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    monkeypatch.setenv("SHORT", "sword")
    with pytest.raises(ConfigError) as refused:
        configured(folder, entries)
    assert message in str(refused.value)
    assert "sword" not in str(refused.value)


def configured(folder: Path, entries: str) -> EccosConfig:
    (folder / "config.yaml").write_text(
        f"scheduler: {{eccos: {{manifest: cores.yaml, {entries}}}}}\n", encoding="utf-8"
    )
    return read_eccos_config(folder / "config.yaml")
