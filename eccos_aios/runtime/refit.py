"""Refit: a fit of a store in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

KILL_S = 1.0  # seconds that a process gets to end when it is asked to
SHOWN_BYTES = 4096  # of what it says, from the end


class Refit:
    """Fits a store's predictor and keeps it beside the store; begins at once.

    In this process a fit would hold up every round: it takes seconds of computing, for a million records
    minutes and memory. The process is nice to others. Its owner looks at `ended` and then asks for the
    `fault`, or calls `cancel`. Where this process ends, however it ends, the other does too: it watches a
    pipe of which this one holds the only other end.

    Parameters
    ----------
    store : Path

    Raises
    ------
    OSError
        There is no process to be had.
    """

    def __init__(self, store: Path) -> None:
        command = [sys.executable, "-m", "eccos_aios.predict.refit", str(store), str(os.getpid())]
        # a file, since a pipe that nobody reads would hold up whoever says more than fits in it
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said
            )
        except BaseException:
            self._said.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def fault(self) -> str | None:
        """Why there is no new fit; None where there is one. Waits for the end, and is asked once."""
        self._process.communicate()
        with self._said:
            self._said.seek(-min(SHOWN_BYTES, self._said.seek(0, 2)), 2)
            said = self._said.read().decode(errors="replace")
        if self._process.returncode == 0:
            return None
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        return f"the fit ended with {self._process.returncode}: {last}"

    def cancel(self) -> None:
        """End the process; what it has not finished leaves no trace."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._said.close()
