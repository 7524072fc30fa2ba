"""A real AIOS kernel as a subprocess over sandbox cores, from a copy of its checkout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from eccos_aios.sandbox.server import LOOPBACK, SandboxCore

START_TIMEOUT_S = 180.0  # seconds; AIOS imports torch, transformers and chromadb
ANSWER_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
READY = "Uvicorn running on"
SHOWN_OUTPUT = 400  # characters of the end of what a kernel has printed
CONFIG_FOLDER = Path("aios") / "config"

# No kernel under test asks the network for prices, models or telemetry.
QUIET_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_OFFLINE": "1",
}


class AiosKernel:
    """A running kernel, or one that has refused to start.

    Parameters
    ----------
    folder : Path
        The checkout that it runs from.
    command : sequence of str
        What starts it.
    port : int
        Where its config has it listen.
    environment : mapping of str to str
        In addition to this process's.
    token : str, optional
        Sent with every request.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        port: int,
        environment: Mapping[str, str],
        token: str | None = None,
    ) -> None:
        self.folder = folder
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self.url = f"http://{LOOPBACK}:{port}"
        self.output: list[str] = []
        self.process = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**os.environ, **QUIET_ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._settled = threading.Event()
        self._reader = threading.Thread(target=self._read, name="aios-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.output.append(line)
            if READY in line:
                self._settled.set()
        self._settled.set()

    @property
    def text(self) -> str:
        """All that it has printed."""
        return "".join(self.output)

    @property
    def refusal(self) -> str | None:
        """What a kernel that has ended printed last; None while it runs."""
        return None if self.process.poll() is None else self.text.strip()[-SHOWN_OUTPUT:]

    def wait_until_settled(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it serves or has ended.

        Raises
        ------
        TimeoutError
            It has done neither in time.
        """
        if not self._settled.wait(timeout_s):
            raise TimeoutError(f"the kernel in {self.folder} did not start within {timeout_s:g} seconds")

    def request(self, path: str, body: Any = None, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Send a request to the kernel; returns the JSON answer.

        Parameters
        ----------
        path : str
            With its leading slash.
        body : Any, optional
            Sent as JSON by POST. Default: a GET.
        timeout_s : float
            Seconds without a byte.

        Raises
        ------
        urllib.error.HTTPError
            The status is not a success.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self._headers)
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)

    def query(
        self, text: str, agent: str = "agent", *, timeout_s: float = ANSWER_TIMEOUT_S, **query: Any
    ) -> dict[str, Any]:
        """Send one LLM call as an agent without the SDK would; returns its response.

        Parameters
        ----------
        text : str
            The user's message.
        agent : str
            The agent's name.
        timeout_s : float
            Seconds without a byte.
        **query : Any
            Further keys of ``query_data``, such as ``llms`` or ``tools``.
        """
        data = {"messages": [{"role": "user", "content": text}], "action_type": "chat", **query}
        body = {"query_type": "llm", "agent_name": agent, "query_data": data}
        response: dict[str, Any] = self.request("/query", body, timeout_s)["response"]
        return response

    def stop(self) -> None:
        """End the kernel and all processes that it started."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, sign)
                try:
                    self.process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    continue
        self._reader.join(STOP_TIMEOUT_S)


def aios_config(
    cores: Sequence[SandboxCore],
    port: int,
    scheduler: Mapping[str, Any],
    backends: Mapping[str, str] | None = None,
    **llms: Any,
) -> dict[str, Any]:
    """An AIOS config over sandbox cores.

    Parameters
    ----------
    cores : sequence of SandboxCore
    port : int
        The kernel's.
    scheduler : mapping of str to Any
        The ``scheduler`` section.
    backends : mapping of str to str, optional
        AIOS's backend by core. Default: vllm.
    **llms : Any
        Further keys of the ``llms`` section.
    """
    backends = backends or {}
    models = [
        {"name": core.name, "backend": backends.get(core.name, "vllm"), "hostname": core.base_url}
        for core in cores
    ]
    return {
        "api_keys": {},
        "llms": {
            "models": models,
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
        "server": {"host": LOOPBACK, "port": port},
    }


@contextmanager
def aios_kernel(
    checkout: Path,
    folder: Path,
    config: Mapping[str, Any],
    command: Sequence[str],
    files: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    change: Callable[[Path], None] | None = None,
) -> Iterator[AiosKernel]:
    """Run a kernel from a copy of a checkout, so that the checkout's own config stays as it is.

    Parameters
    ----------
    checkout : Path
        An AIOS checkout.
    folder : Path
        Where the copy goes; must not hold one already.
    config : mapping
        What the copy's ``config.yaml`` says; see `aios_config`.
    command : sequence of str
        What starts the kernel, run in `folder`.
    files : mapping of str to str, optional
        More files beside the config: a manifest, a history.
    environment : mapping of str to str, optional
        In addition to this process's.
    change : callable, optional
        Given the copy before the kernel starts.

    Raises
    ------
    TimeoutError
        It neither serves nor ends.
    """
    for name in ("aios", "runtime"):
        shutil.copytree(checkout / name, folder / name)
    for name, content in {"config.yaml": yaml.safe_dump(dict(config)), **(files or {})}.items():
        (folder / CONFIG_FOLDER / name).write_text(content, encoding="utf-8")
    if change is not None:
        change(folder)
    eccos = config["scheduler"].get("eccos") or {}
    kernel = AiosKernel(folder, command, config["server"]["port"], environment or {}, eccos.get("token"))
    try:
        kernel.wait_until_settled()
        yield kernel
    finally:
        kernel.stop()


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
