"""Refit: a fit of a store in a separate process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from eccos_aios.predict import PredictorSpec
from eccos_aios.runtime.planner import Planner

KILL_S = 1.0  # seconds between terminating the process and killing it
SHOWN_BYTES = 4096  # of the end of its standard error


class Refit:
    """Fits a store's predictor and plans, and saves them beside the store; starts at once.

    In this process a fit would delay every round: it takes seconds of computing, for a million records
    minutes, and memory. The new process has a low priority. Its owner polls `ended` and then calls `fault`,
    or calls `cancel`. It ends when this process ends, however that happens: it reads from a pipe whose only
    other end is here.

    Parameters
    ----------
    store : Path
    spec : PredictorSpec
        The predictor to fit.
    planner : Planner, optional
        Whose plans to fit. Default: none.

    Raises
    ------
    OSError
        The process cannot be started.
    """

    def __init__(self, store: Path, spec: PredictorSpec, planner: Planner | None = None) -> None:
        module = "eccos_aios.runtime.fit_process"
        command = [sys.executable, "-m", module, str(store), str(os.getpid())]
        # through the pipe: options may hold secrets, and any user can list the arguments of a process
        plans = None if planner is None else planner.to_dict()
        content = json.dumps({"spec": spec.as_json(), "path": sys.path, "plans": plans}).encode() + b"\n"
        # a file, because a pipe that is not read would block a process that writes a lot
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._stderr
            )
        except BaseException:
            self._stderr.close()
            raise
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already; `fault` says why
            self._process.stdin.write(content)
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def fault(self) -> str | None:
        """Why there is no new fit; None if there is one. Waits for the end; call it once."""
        self._process.communicate()
        with self._stderr:
            self._stderr.seek(-min(SHOWN_BYTES, self._stderr.seek(0, 2)), 2)
            text = self._stderr.read().decode(errors="replace")
        if self._process.returncode == 0:
            return None
        last = (text.strip().splitlines() or ["no message"])[-1]
        return f"the fit ended with {self._process.returncode}: {last}"

    def cancel(self) -> None:
        """End the process; an unfinished fit leaves no file."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._stderr.close()
