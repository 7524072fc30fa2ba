"""Refit: a fit of a store in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

KILL_S = 5.0  # seconds that a process gets to end when it is told to


class Refit:
    """Fits a store's predictor and keeps it beside the store; begins at once.

    In this process a fit would hold up every round: it takes seconds of computing, for a million records
    minutes and memory. The process is nice to others. Its owner looks at `ended` and then asks for the
    `fault`, or calls `cancel`.

    Parameters
    ----------
    store : Path
    """

    def __init__(self, store: Path) -> None:
        command = [sys.executable, "-m", "eccos_aios.predict.refit", str(store)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def fault(self) -> str | None:
        """Why there is no new fit; None where there is one. Waits for the end, and is asked once."""
        _, told = self._process.communicate()
        if self._process.returncode == 0:
            return None
        last = (told.strip().splitlines() or ["it said nothing"])[-1]
        return f"the fit ended with {self._process.returncode}: {last}"

    def cancel(self) -> None:
        """End the process; what it has not finished leaves no trace."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
