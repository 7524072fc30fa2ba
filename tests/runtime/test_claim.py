"""One process schedules with a manifest; the second one is refused, or waits if a server made it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.errors import ConfigError
from eccos_aios.runtime.claim import claim, keep_only

WAIT_S = 30.0
ANOTHER = """
import sys
from pathlib import Path
from eccos_aios.runtime.claim import claim
claim(Path(sys.argv[1]), may_wait=True)
print("has it", flush=True)
sys.stdin.read()
"""
SERVER = """
import multiprocessing, os, signal, sys
from pathlib import Path

def work(manifest):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # a server's, which looks at it later
    from eccos_aios.runtime.claim import claim
    claim(Path(manifest), may_wait=True)
    print("worker has it", flush=True)

if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(sys.argv[1],))
    worker.start()
    print(worker.pid, flush=True)
    worker.join()
    print("worker ended with", worker.exitcode, flush=True)
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "cores.yaml"
    path.write_text("cores: []")
    yield path
    path.parent.chmod(0o755)
    keep_only(None)


def another(manifest: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(manifest)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def has_it(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "has it\n"


def test_a_second_process_is_refused_and_told_what_to_do(manifest: Path) -> None:
    claim(manifest)
    _, told = another(manifest).communicate(timeout=WAIT_S)
    assert f"cores.yaml: another kernel process (process {os.getpid()}) schedules with this manifest" in told
    assert "uvicorn --workers 1" in told


def test_one_process_may_schedule_twice_and_be_refreshed(manifest: Path) -> None:
    claim(manifest)
    claim(manifest)
    keep_only(manifest)
    process = another(manifest)
    process.communicate(timeout=WAIT_S)
    assert process.returncode != 0


def test_what_is_let_go_may_be_taken(manifest: Path) -> None:
    claim(manifest)
    keep_only(None)
    process = another(manifest)
    assert has_it(process)
    with pytest.raises(ConfigError, match=f"process {process.pid}"):
        claim(manifest)
    process.communicate(timeout=WAIT_S)
    claim(manifest)


def test_a_process_that_was_killed_holds_nothing(manifest: Path) -> None:
    process = another(manifest)
    assert has_it(process)
    process.kill()
    process.communicate(timeout=WAIT_S)
    claim(manifest)


def test_two_names_of_one_manifest_are_one(manifest: Path) -> None:
    link = manifest.parent / "link.yaml"
    link.symlink_to(manifest)
    claim(link)
    process = another(manifest)
    process.communicate(timeout=WAIT_S)
    assert process.returncode != 0


def test_two_manifests_of_one_folder_are_two(manifest: Path) -> None:
    claim(manifest)
    process = another(manifest.with_name("others.yaml"))
    assert has_it(process)
    process.communicate(timeout=WAIT_S)


def test_a_folder_that_cannot_be_written_to_is_no_way_round(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    manifest.parent.chmod(0o555)
    if os.access(manifest.parent, os.W_OK):
        # The superuser writes everywhere, but follows no link.
        (manifest.parent / ".cores.yaml.lock").symlink_to("nowhere")
    claim(manifest)
    assert list(runtime.iterdir())
    process = another(manifest)
    process.communicate(timeout=WAIT_S)
    assert process.returncode != 0


@pytest.fixture
def server(manifest: Path, tmp_path: Path) -> Iterator[Any]:
    """A server with one worker, which finds the manifest taken."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    claim(manifest)
    process = subprocess.Popen(
        [sys.executable, str(script), str(manifest)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate(timeout=WAIT_S)


def test_a_worker_of_a_server_waits_in_reserve(server: Any) -> None:
    told = server.stderr.readline()
    assert "eccos-aios: another worker process" in told
    assert "--workers 1" in told
    keep_only(None)
    server.stdout.readline()
    assert server.stdout.readline() == "worker has it\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_in_reserve_ends_when_it_is_told_to(server: Any, number: signal.Signals) -> None:
    worker = int(server.stdout.readline())
    server.stderr.readline()
    os.kill(worker, number)
    assert server.stdout.readline() == f"worker ended with {128 + number}\n"


def test_a_worker_in_reserve_does_not_outlive_its_server(server: Any) -> None:
    server.stdout.readline()
    server.stderr.readline()
    server.kill()
    assert "the server of this worker has ended" in server.stderr.read()  # which ends with the worker
