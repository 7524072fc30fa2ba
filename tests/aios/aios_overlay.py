"""Where the real AIOS is, and this package beside it, in an overlay that leaves AIOS's environment as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eccos_aios.sandbox.aios import AiosKernel, aios_config, aios_kernel, free_port
from eccos_aios.sandbox.server import SandboxCore

REPOSITORY = Path(__file__).resolve().parents[2]
AIOS_HOME = Path(os.environ.get("AIOS_HOME", "~/AIOS")).expanduser()
AIOS_NEEDS = ("cerebrum", "litellm", "fastapi", "uvicorn")
OURS = {"faiss": "faiss-cpu>=1.8.0.post1,<1.9", "scipy": "scipy", "sklearn": "scikit-learn", "wrapt": "wrapt"}

# Runs the overlay's .pth file, as site does for a package that is installed in the environment itself; a
# module of the boot folder that is named in ECCOS_TEST_BOOT is imported after it.
SITECUSTOMIZE = """
import importlib, os, site
site.addsitedir(os.environ["ECCOS_TEST_OVERLAY"])
if os.environ.get("ECCOS_TEST_BOOT"):
    importlib.import_module(os.environ["ECCOS_TEST_BOOT"])
"""


class NoAiosError(Exception):
    """There is no AIOS to run, or this package cannot be installed beside it."""


def python_of(home: Path) -> Path:
    """The interpreter of AIOS's environment: AIOS_PYTHON, or the checkout's own."""
    return Path(os.environ.get("AIOS_PYTHON", home / ".venv" / "bin" / "python")).expanduser()


def make_overlay(target: Path, home: Path, python: Path) -> None:
    """Install this package, and what AIOS's environment lacks of its needs, into a folder.

    Raises
    ------
    NoAiosError
        Says why not.
    """
    if not (home / "runtime" / "launch.py").is_file():
        raise NoAiosError(f"needs a real AIOS: no checkout at AIOS_HOME = {home}")
    if not python.is_file():
        raise NoAiosError(f"needs a real AIOS: no interpreter at AIOS_PYTHON = {python}")
    if missing := _lacking(python, AIOS_NEEDS):
        raise NoAiosError(f"needs a real AIOS: {python} lacks {', '.join(missing)}")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    missing_packages = [OURS[name] for name in _lacking(python, list(OURS))]
    done = subprocess.run(
        [*pip, "--target", str(target), str(REPOSITORY), *missing_packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoAiosError(f"this package could not be installed for {python}: {done.stderr[-500:]}")
    (target / "boot").mkdir()
    (target / "boot" / "sitecustomize.py").write_text(SITECUSTOMIZE)


def _lacking(python: Path, names: Sequence[str]) -> list[str]:
    """Those of the modules that an interpreter does not have."""
    probe = f"import importlib.util as u; print(*[n for n in {list(names)} if not u.find_spec(n)])"
    done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.split()


class Aios:
    """Runs kernels of the real AIOS, and agents with its SDK.

    Parameters
    ----------
    home, python, overlay : Path
        The checkout, its interpreter, and what `make_overlay` made.
    new_folder : callable
        An empty folder for a kernel's copy of the checkout.
    """

    def __init__(self, home: Path, python: Path, overlay: Path, new_folder: Callable[[], Path]) -> None:
        self.home = home
        self.python = python
        self.overlay = overlay
        self._new_folder = new_folder

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
        change: Callable[[Path], None] | None = None,
        environment: Mapping[str, str] | None = None,
        **config: Any,
    ) -> Iterator[AiosKernel]:
        """A kernel with this ``scheduler`` section, started as always unless `arguments` say otherwise.

        `change` is given the kernel's copy of AIOS before the start.
        """
        folder, port = self._new_folder(), free_port()
        command = arguments(folder, port) if arguments else ["-m", "runtime.launch"]
        with aios_kernel(
            self.home,
            folder,
            aios_config(cores, port, scheduler, **config),
            [str(self.python), *command],
            files,
            {**self.environment(hooked), **(environment or {})},
            change,
        ) as kernel:
            yield kernel

    def run_agent(self, script: str, kernel: AiosKernel) -> str:
        """Run a script as an agent's author would, with the SDK pointed at the kernel."""
        done = subprocess.run(
            [self.python, "-c", script],
            env={**os.environ, **self.environment(), "CEREBRUM_KERNEL_URL": kernel.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
