"""Where the real AIOS is, and this package beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.sandbox.aios import AiosKernel, aios_config, aios_kernel, free_port
from eccos_aios.sandbox.server import SandboxCore

REPOSITORY = Path(__file__).resolve().parents[2]
AIOS_HOME = Path(os.environ.get("AIOS_HOME", "~/AIOS")).expanduser()
AIOS_PYTHON = Path(os.environ.get("AIOS_PYTHON", AIOS_HOME / ".venv" / "bin" / "python")).expanduser()
AIOS_NEEDS = ("cerebrum", "litellm", "fastapi", "uvicorn")
OURS = {"faiss": "faiss-cpu>=1.8.0.post1,<1.9", "scipy": "scipy", "sklearn": "scikit-learn", "wrapt": "wrapt"}

# Runs the overlay's .pth file, as site does for a package that is installed in the environment itself.
SITECUSTOMIZE = "import os, site\nsite.addsitedir(os.environ['ECCOS_TEST_OVERLAY'])\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.aios)


def lacking(names: Sequence[str]) -> list[str]:
    """Those of the modules that AIOS's interpreter does not have."""
    probe = f"import importlib.util as u; print(*[n for n in {list(names)} if not u.find_spec(n)])"
    done = subprocess.run([AIOS_PYTHON, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture(scope="session")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This package, and what AIOS's environment lacks of its needs, without touching that environment."""
    if not (AIOS_HOME / "runtime" / "launch.py").is_file():
        pytest.skip(f"needs a real AIOS: no checkout at AIOS_HOME = {AIOS_HOME}")
    if not AIOS_PYTHON.is_file():
        pytest.skip(f"needs a real AIOS: no interpreter at AIOS_PYTHON = {AIOS_PYTHON}")
    if missing := lacking(AIOS_NEEDS):
        pytest.skip(f"needs a real AIOS: {AIOS_PYTHON} lacks {', '.join(missing)}")
    target = tmp_path_factory.mktemp("overlay")
    pip = [sys.executable, "-m", "pip", "--python", str(AIOS_PYTHON), "install", "--quiet", "--no-deps"]
    missing_packages = [OURS[name] for name in lacking(list(OURS))]
    done = subprocess.run(
        [*pip, "--target", str(target), str(REPOSITORY), *missing_packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this package could not be installed for {AIOS_PYTHON}: {done.stderr[-500:]}")
    (target / "boot").mkdir()
    (target / "boot" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return target


class Aios:
    """Runs kernels of the real AIOS, and agents with its SDK."""

    def __init__(self, overlay: Path, folders: pytest.TempPathFactory) -> None:
        self.overlay = overlay
        self.folders = folders

    def environment(self, hooked: bool = True) -> dict[str, str]:
        """With the start-up hook, as an installed package has it, or without."""
        boot = [str(self.overlay / "boot")] if hooked else []
        return {
            "PYTHONPATH": os.pathsep.join([*boot, str(self.overlay)]),
            "ECCOS_TEST_OVERLAY": str(self.overlay),
        }

    @contextmanager
    def kernel(
        self,
        cores: Sequence[SandboxCore],
        scheduler: Mapping[str, Any],
        files: Mapping[str, str] | None = None,
        *,
        arguments: Callable[[Path, int], list[str]] | None = None,
        hooked: bool = True,
        **config: Any,
    ) -> Iterator[AiosKernel]:
        """A kernel with this ``scheduler`` section, started as always unless `arguments` say otherwise."""
        folder, port = self.folders.mktemp("kernel"), free_port()
        command = arguments(folder, port) if arguments else ["-m", "runtime.launch"]
        with aios_kernel(
            AIOS_HOME,
            folder,
            aios_config(cores, port, scheduler, **config),
            [str(AIOS_PYTHON), *command],
            files,
            self.environment(hooked),
        ) as kernel:
            yield kernel

    def run_agent(self, script: str, kernel: AiosKernel) -> str:
        """Run a script as an agent's author would, with the SDK pointed at the kernel."""
        done = subprocess.run(
            [AIOS_PYTHON, "-c", script],
            env={**os.environ, **self.environment(), "CEREBRUM_KERNEL_URL": kernel.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def aios(overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Aios:
    return Aios(overlay, tmp_path_factory)
