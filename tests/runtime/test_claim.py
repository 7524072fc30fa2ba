"""One process schedules with a manifest; the second one is refused, or waits if a server made it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from eccos_aios.errors import ConfigError
from eccos_aios.runtime.claim import claim, keep_only

WAIT_S = 30.0
ANOTHER = """
import sys
from pathlib import Path
from eccos_aios.runtime.claim import claim
claim(Path(sys.argv[1]), shared="shared" in sys.argv)
print("has it", flush=True)
sys.stdin.read()
"""
SERVER = """
import multiprocessing, os, signal, sys
from multiprocessing.connection import wait
from pathlib import Path

def tell(line):  # in one write, unlike print: the processes share the pipe
    os.write(1, f"{line}\\n".encode())

def work(manifest):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # a server's, which looks at it later
    from eccos_aios.runtime.claim import claim
    claim(Path(manifest), server=os.getppid())
    tell(f"worker {os.getpid()} has it")
    while True:
        signal.pause()

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=work, args=(sys.argv[1],)) for _ in range(int(sys.argv[2]))]
    for worker in workers:
        worker.start()
    running = {worker.sentinel: worker for worker in workers}
    while running:
        for sentinel in wait(list(running)):
            worker = running.pop(sentinel)
            worker.join()
            tell(f"worker {worker.pid} ended with {worker.exitcode}")
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "cores.yaml"
    path.write_text("cores: []")
    yield path
    path.parent.chmod(0o755)
    keep_only(None)


def another(manifest: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(manifest), *options],
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


def test_kernels_that_share_their_cores_have_it_together_and_one_alone_is_refused(manifest: Path) -> None:
    claim(manifest, shared=True)
    sharing = another(manifest, "shared")
    assert has_it(sharing)
    _, told = another(manifest).communicate(timeout=WAIT_S)
    assert "cores.yaml: other kernel processes share the cores of this manifest" in told
    assert "scheduler.eccos.shared" in told
    sharing.communicate(timeout=WAIT_S)
    keep_only(None)
    claim(manifest)
    _, told = another(manifest, "shared").communicate(timeout=WAIT_S)
    assert f"another kernel process (process {os.getpid()}) schedules with this manifest alone" in told


@dataclass
class Server:
    """A server with two workers, one of which has the manifest."""

    process: subprocess.Popen[str]
    serving: int
    waiting: int

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def said(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()


def start_server(manifest: Path) -> subprocess.Popen[str]:
    script = manifest.with_name("server.py")
    script.write_text(SERVER)
    return subprocess.Popen(
        [sys.executable, str(script), str(manifest), "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def server(manifest: Path) -> Iterator[Server]:
    process = start_server(manifest)
    assert process.stdout is not None
    assert process.stderr is not None
    serving = int(process.stdout.readline().split()[1])
    line = process.stderr.readline()
    assert f"cores.yaml: another kernel process (process {serving}) schedules with this manifest" in line
    assert "--workers 1" in line
    yield Server(process, serving, int(line.split(" waits in reserve")[0].split()[-1]))
    process.kill()
    with suppress(ProcessLookupError):
        os.kill(serving, signal.SIGKILL)
    process.communicate(timeout=WAIT_S)


def test_a_worker_in_reserve_takes_over_when_the_one_that_serves_ends(server: Server) -> None:
    os.kill(server.serving, signal.SIGKILL)
    told = {server.told(), server.told()}
    assert told == {
        f"worker {server.serving} ended with {-signal.SIGKILL}\n",
        f"worker {server.waiting} has it\n",
    }
    server.serving = server.waiting
    os.kill(server.waiting, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_in_reserve_ends_when_it_is_told_to(server: Server, number: signal.Signals) -> None:
    os.kill(server.waiting, number)
    assert server.told() == f"worker {server.waiting} ended with {128 + number}\n"


def test_a_worker_in_reserve_does_not_outlive_its_server(server: Server) -> None:
    server.process.kill()
    assert "the server of this worker has ended" in server.said()


def test_a_server_none_of_whose_workers_may_serve_is_ended(manifest: Path) -> None:
    claim(manifest)
    process = start_server(manifest)
    _, told = process.communicate(timeout=WAIT_S)
    assert process.returncode == -signal.SIGTERM
    assert f"another kernel process (process {os.getpid()}) schedules with this manifest" in told
    assert "scheduler.eccos.shared" in told
