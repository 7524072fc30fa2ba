from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from eccos_aios.cli.main import main
from eccos_aios.config import read_eccos_config

CONFIG = """\
api_keys:
  openai: "sk-swordfish-1234567"  # ours
llms:
  models:
    # the local one
    - name: qwen3:4b
      backend: ollama
    - name: own
      backend: vllm
      hostname: http://127.0.0.1:9/v1
scheduler:
  log_mode: console  # or file
"""


@pytest.fixture
def aios(tmp_path: Path) -> Path:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "launch.py").touch()
    (tmp_path / "aios" / "config").mkdir(parents=True)
    (tmp_path / "aios" / "config" / "config.yaml").write_text(CONFIG)
    return tmp_path


def run(aios: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", "--aios", str(aios), *arguments])


def test_manifest_and_config_are_written_and_a_second_run_changes_nothing(aios: Path) -> None:
    folder = aios / "aios" / "config"
    file = folder / "config.yaml"
    file.chmod(0o600)
    done = json.loads(run(aios, "--yes", "--json", "--quota", "own=16", "--price", "own=0.1,0.4").stdout)
    assert file.read_text().startswith(CONFIG)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [Path(backup).read_text() for backup in done["backups"]] == [CONFIG]
    config = read_eccos_config(file)
    own = config.read_manifest().cores[1]
    assert (own.name, own.slots, own.price and own.price.output) == ("own", 16, 0.4)
    assert config.history == folder / "history.db"

    again = json.loads(run(aios, "--yes", "--json").stdout)
    assert (again["changed"], again["written"], again["backups"]) == ([], False, [])


def test_a_dry_run_shows_the_change_without_secrets_and_writes_nothing(aios: Path) -> None:
    file = aios / "aios" / "config" / "config.yaml"
    file.write_text(CONFIG.replace("  log_mode", "  token: swordfish-too\n  log_mode"))
    before = file.read_text()
    done = run(aios, "--dry-run")
    assert done.exit_code == 0
    assert "+  scheduler_type: eccos" in done.output
    assert "+  - name: qwen3:4b" in done.output
    assert "swordfish" not in done.output
    assert file.read_text() == before
    assert not (file.parent / "cores.yaml").exists()


def test_where_nobody_can_be_asked_nothing_is_written(aios: Path) -> None:
    done = run(aios)
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert not (aios / "aios" / "config" / "cores.yaml").exists()


def test_options_that_are_set_stay_unless_they_are_given(aios: Path) -> None:
    file = aios / "aios" / "config" / "config.yaml"
    file.write_text(CONFIG + "  eccos: {quality_target: 0.7, plans: agree}\n")
    run(aios, "--yes")
    section = yaml.safe_load(file.read_text())["scheduler"]["eccos"]
    assert section == {
        "quality_target": 0.7,
        "plans": "agree",
        "manifest": "cores.yaml",
        "history": "history.db",
    }
    run(aios, "--yes", "--quality-target", "0.9")
    assert yaml.safe_load(file.read_text())["scheduler"]["eccos"] == {**section, "quality_target": 0.9}


def test_a_manifest_that_exists_is_kept_and_what_it_lacks_is_named(aios: Path) -> None:
    manifest = aios / "aios" / "config" / "cores.yaml"
    manifest.write_text("cores: [{name: own, quota: 3}]\n")
    done = run(aios, "--yes")
    assert manifest.read_text() == "cores: [{name: own, quota: 3}]\n"
    assert "it lacks qwen3:4b" in done.stderr


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("scheduler: {}\n", "llms.models: lists no models"),
        ("llms: {models: [{name: a}]}\n", "llms.models[0].backend: must be text"),
        (
            "llms: {models: [{name: a, backend: vllm}]}\nscheduler: fifo\n",
            "scheduler: 'fifo': must be a mapping",
        ),
        (
            "llms: {models: [{name: a, backend: vllm}]}\nscheduler: {scheduler_type: priority}\n",
            "scheduler.scheduler_type: 'priority': must be one of fifo, rr, eccos",
        ),
        (
            "x: &s {log_mode: file}\nllms: {models: [{name: a, backend: vllm}]}\nscheduler: *s\n",
            "scheduler is an alias of another section: write these lines there yourself: scheduler_type: eccos",
        ),
        ("llms: [\n", "is not YAML"),
    ],
)
def test_an_odd_config_is_refused_and_stays(aios: Path, config: str, named: str) -> None:
    file = aios / "aios" / "config" / "config.yaml"
    file.write_text(config)
    done = run(aios, "--yes")
    assert done.exit_code == 2
    assert named in done.stderr
    assert file.read_text() == config
    assert not (file.parent / "cores.yaml").exists()


@pytest.mark.parametrize("option", [["--quota", "other=2"], ["--price", "own=1"], ["--quota", "own=0"]])
def test_a_wrong_option_is_refused(aios: Path, option: list[str]) -> None:
    done = run(aios, "--yes", *option)
    assert done.exit_code == 2
    assert option[0] in done.stderr
