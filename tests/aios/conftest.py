"""A real AIOS kernel as a subprocess, from a copy of the checkout, with ECCOS installed beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
AIOS_HOME = Path(os.environ.get("AIOS_HOME", "~/AIOS")).expanduser()
AIOS_PYTHON = Path(os.environ.get("AIOS_PYTHON", AIOS_HOME / ".venv" / "bin" / "python")).expanduser()
START_TIMEOUT_S = 180.0  # seconds; AIOS imports torch, transformers and chromadb
ANSWER_TIMEOUT_S = 60.0
READY = "Uvicorn running on"

# Runs the overlay's .pth file, as site does for a package that is installed in the environment itself.
SITECUSTOMIZE = "import os, site\nsite.addsitedir(os.environ['ECCOS_TEST_OVERLAY'])\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.aios)


@pytest.fixture(scope="session")
def aios_python() -> Path:
    """The interpreter of a real AIOS with Cerebrum, or a skip that says what is missing."""
    if not (AIOS_HOME / "runtime" / "launch.py").is_file():
        pytest.skip(f"needs a real AIOS: no checkout at AIOS_HOME = {AIOS_HOME}")
    if not AIOS_PYTHON.is_file():
        pytest.skip(f"needs a real AIOS: no interpreter at AIOS_PYTHON = {AIOS_PYTHON}")
    probe = "import importlib.util as u; print([n for n in ('cerebrum', 'litellm', 'fastapi') if not u.find_spec(n)])"
    missing = subprocess.run([AIOS_PYTHON, "-c", probe], capture_output=True, text=True, check=True).stdout.strip()
    if missing != "[]":
        pytest.skip(f"needs a real AIOS: {AIOS_PYTHON} lacks {missing}")
    return AIOS_PYTHON


@pytest.fixture(scope="session")
def overlay(aios_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This package and what AIOS's environment lacks of its needs, without touching that environment."""
    target = tmp_path_factory.mktemp("overlay")
    wanted = {"faiss": "faiss-cpu>=1.8.0.post1,<1.9", "scipy": "scipy", "sklearn": "scikit-learn", "wrapt": "wrapt"}
    probe = f"import importlib.util as u; print(*[n for n in {list(wanted)} if not u.find_spec(n)])"
    missing = subprocess.run([aios_python, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    pip = [sys.executable, "-m", "pip", "--python", str(aios_python), "install", "--quiet", "--no-deps"]
    installed = subprocess.run(
        [*pip, "--target", str(target), str(REPOSITORY), *(wanted[name] for name in missing)],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"this package could not be installed for {aios_python}: {installed.stderr[-500:]}")
    (target / "boot").mkdir()
    (target / "boot" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return target


class Kernel:
    """A running AIOS kernel."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], port: int) -> None:
        self.folder = folder
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.output: list[str] = []
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read, name="kernel-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if READY in line:
                self.ready.set()
        self.ready.set()

    def request(self, path: str, body: Any = None, timeout: float = ANSWER_TIMEOUT_S) -> Any:
        """The JSON that the kernel answers; an HTTP error is raised."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)

    def post(self, path: str) -> Any:
        """POST without a body."""
        request = urllib.request.Request(self.url + path, b"", method="POST")
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as response:
            return json.load(response)

    def query(self, text: str, agent: str = "tester", timeout: float = ANSWER_TIMEOUT_S, **query: Any) -> dict[str, Any]:
        """The response to one LLM call, sent as any agent without the SDK would."""
        data = {"messages": [{"role": "user", "content": text}], "action_type": "chat", **query}
        body = {"query_type": "llm", "agent_name": agent, "query_data": data}
        answer: dict[str, Any] = self.request("/query", body, timeout)["response"]
        return answer

    @property
    def text(self) -> str:
        return "".join(self.output)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(20)
        self._reader.join(5)


class Aios:
    """Starts kernels from copies of the checkout, so that its own config stays as it is."""

    def __init__(self, python: Path, overlay: Path, folder: Path) -> None:
        self.python = python
        self.overlay = overlay
        self.folder = folder

    def environment(self, hooked: bool = True) -> dict[str, str]:
        """With or without the start-up hook."""
        boot = [str(self.overlay / "boot")] if hooked else []
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*boot, str(self.overlay)]),
            "ECCOS_TEST_OVERLAY": str(self.overlay),
            "PYTHONUNBUFFERED": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "ANONYMIZED_TELEMETRY": "False",
            "HF_HUB_OFFLINE": "1",
        }

    def checkout(self, config: dict[str, Any]) -> Path:
        """A copy of the checkout with this config."""
        for name in ("aios", "runtime"):
            shutil.copytree(AIOS_HOME / name, self.folder / name)
        (self.folder / "aios" / "config" / "config.yaml").write_text(yaml.safe_dump(config))
        return self.folder

    def launch(self, port: int, command: list[str] | None = None, hooked: bool = True) -> Kernel:
        """Start the copy's kernel; `Kernel.ready` is set when it serves, or has ended."""
        process = subprocess.Popen(
            [str(self.python), *(command or ["-m", "runtime.launch"])],
            cwd=self.folder,
            env=self.environment(hooked),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return Kernel(self.folder, process, port)

    def run(self, script: str, kernel: Kernel) -> str:
        """Run a script as an agent's author would, with the SDK pointed at the kernel."""
        done = subprocess.run(
            [str(self.python), "-c", script],
            env={**self.environment(), "CEREBRUM_KERNEL_URL": kernel.url},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def aios_config(
    cores: list[Any], port: int, scheduler: dict[str, Any], backends: dict[str, str] | None = None, **llms: Any
) -> dict[str, Any]:
    """An AIOS config over sandbox cores, behind AIOS's vllm backend where no other is named."""
    backends = backends or {}
    return {
        "api_keys": {},
        "llms": {
            "models": [
                {"name": core.name, "backend": backends.get(core.name, "vllm"), "hostname": core.base_url}
                for core in cores
            ],
            "router": {"strategy": "sequential"},
            "log_mode": "console",
            "use_context_manager": False,
            **llms,
        },
        "memory": {"log_mode": "console", "provider": "in-house"},
        "storage": {"root_dir": "root", "use_vector_db": False},
        "tool": {"mcp_server_script_path": "aios/tool/mcp_server.py"},
        "scheduler": {"log_mode": "console", **scheduler},
        "agent_factory": {"log_mode": "console", "max_workers": 64},
        "server": {"host": "127.0.0.1", "port": port},
    }


KernelFactory = Callable[..., Any]


@pytest.fixture(scope="session")
def running_kernel(
    aios_python: Path, overlay: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """A context manager that runs a kernel: ``running_kernel(cores, scheduler, files, **llms)``."""

    @contextmanager
    def run(
        cores: list[Any],
        scheduler: dict[str, Any],
        files: dict[str, str] | None = None,
        command: Callable[[Path, int], list[str]] | None = None,
        hooked: bool = True,
        **llms: Any,
    ) -> Iterator[tuple[Kernel, Aios]]:
        folder = tmp_path_factory.mktemp("kernel")
        aios, port = Aios(aios_python, overlay, folder), free_port()
        aios.checkout(aios_config(cores, port, scheduler, **llms))
        for name, content in (files or {}).items():
            (folder / "aios" / "config" / name).write_text(content)
        kernel = aios.launch(port, command and command(folder, port), hooked)
        try:
            assert kernel.ready.wait(START_TIMEOUT_S), "the kernel did not start:\n" + kernel.text[-3000:]
            yield kernel, aios
        finally:
            kernel.stop()

    return run
