"""The path of somebody who has no model: sandbox cores, a collection, the demo on it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from eccos_aios.cli.main import main
from eccos_aios.core import read_manifest
from eccos_aios.history import Outcome, Record, read_history


@contextmanager
def sandbox(*arguments: str, cwd: Path) -> Iterator[dict[str, str]]:
    """The command in a process of its own; gives the cores' addresses and ends it as Ctrl-C does."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from eccos_aios.cli.main import main; main()",
            "sandbox",
            "--json",
            *arguments,
        ],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["cores"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()


def eccos(*arguments: str) -> int:
    return CliRunner().invoke(main, list(arguments)).exit_code


def test_from_nothing_to_a_history_and_a_replay_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    questions = ("--questions", "builtin", "--limit", "30", "--yes")
    with sandbox("--write-manifest", "cores.yaml", "--time-scale", "0.02", cwd=tmp_path) as cores:
        assert list(cores) == ["large", "medium", "small"]
        assert eccos("collect", "--cores", "cores.yaml", *questions, "--out", "history.jsonl") == 0
    records = read_history("history.jsonl")
    right = {
        name: sum(o.graded_quality for record in records for o in record.outputs if o.model_name == name)
        for name in cores
    }
    assert len(records) == 30
    assert right["large"] > right["small"] > 0
    replayed = ("--history", "history.jsonl", "--write-manifest", "replay.yaml", "--time-scale", "0")
    with sandbox(*replayed, cwd=tmp_path):
        assert eccos("collect", "--cores", "replay.yaml", *questions, "--out", "again.jsonl") == 0
    qualities = [
        {
            record.query: {o.model_name: o.graded_quality for o in record.outputs}
            for record in read_history(name)
        }
        for name in ("history.jsonl", "again.jsonl")
    ]
    assert qualities[0] == qualities[1]
    with sandbox("--cores", "cores.yaml", cwd=tmp_path) as again:
        assert again == cores  # at the same addresses


def test_a_manifest_of_the_user_is_never_written_over(tmp_path: Path) -> None:
    manifest = tmp_path / "cores.yaml"
    manifest.write_text("cores: [{name: mine}]\n")
    run = CliRunner().invoke(main, ["sandbox", "--write-manifest", str(manifest)])
    assert (run.exit_code, manifest.read_text()) == (2, "cores: [{name: mine}]\n")
    assert "did not write it" in run.stderr


@pytest.mark.parametrize(
    ("manifest", "history", "fault"),
    [
        ("{name: large}", False, "cores[0].base_url: must be http://127.0.0.1:PORT/v1"),
        ("{name: large, base_url: 'https://api.openai.com/v1'}", False, "must be http://127.0.0.1:PORT/v1"),
        (
            "{name: own, base_url: 'http://localhost:9/v1'}",
            False,
            "the made-up cores are large, medium, small",
        ),
        ("{name: own, base_url: 'http://localhost:9/v1'}", True, "'own': the history has no outcomes of it"),
    ],
)
def test_cores_that_cannot_be_served_are_refused(
    tmp_path: Path, manifest: str, history: bool, fault: str
) -> None:
    (tmp_path / "cores.yaml").write_text(f"cores: [{manifest}]\n")
    record = Record(query="q", outputs=(Outcome(model_name="other", quality=1.0),))
    (tmp_path / "history.jsonl").write_text(record.model_dump_json(exclude_none=True))
    more = ["--history", str(tmp_path / "history.jsonl")] if history else []
    run = CliRunner().invoke(main, ["sandbox", "--cores", str(tmp_path / "cores.yaml"), *more])
    assert run.exit_code == 2
    assert fault in run.stderr
    assert run.stderr.count("\n") == 1


def test_without_a_manifest_it_says_what_it_needs() -> None:
    run = CliRunner().invoke(main, ["sandbox"])
    assert (run.exit_code, "needs --write-manifest" in run.stderr) == (2, True)


def test_the_players_manifest_has_prices_and_quotas(tmp_path: Path) -> None:
    with sandbox("--write-manifest", "cores.yaml", cwd=tmp_path):
        cores = read_manifest(tmp_path / "cores.yaml").cores
    assert [core.quota for core in cores] == [4, 6, 8]
    assert all(core.resolved_price.output for core in cores)
