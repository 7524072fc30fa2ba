"""BudgetFile: keeps what is spent of the budgets on disk, so that a restart does not refill them."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.config import EccosConfig
from eccos_aios.log_once import LogOnce
from eccos_aios.schedule import Scheduler
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

SUFFIX = ".budgets.json"
SAVED_S = 1.0  # seconds that a kill may cost of what is known to be spent
LARGEST_FILE = 1 << 20  # bytes; thousands of agents


def budget_path(config: EccosConfig) -> Path | None:
    """The file beside the history, or beside the manifest where there is none; None without budgets."""
    if config.budget is None and not config.agent_budgets:
        return None
    beside = config.history or config.manifest
    return beside.with_name(beside.name + SUFFIX)


class BudgetFile:
    """Writes the scheduler's budgets each second in which they change. Any thread may call any method.

    It owns the thread ``eccos-budgets``, which starts with the first path and ends with `close`.

    Parameters
    ----------
    scheduler : Scheduler
    clock : Clock, optional
    """

    def __init__(self, scheduler: Scheduler, clock: Clock = MONOTONIC_CLOCK) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._changed = threading.Condition()  # guards every field below
        self._path: Path | None = None
        self._thread: SupervisedThread | None = None
        self._closed = False
        self._fault = ""
        self._saving = threading.Lock()  # held while the file is written; guards `_saved`
        self._saved: Mapping[str, Any] = {}
        self._log = LogOnce(logger)

    def save_to(self, path: Path | None) -> None:
        """Read what an earlier process has spent, and write to this file from now on; None: nowhere."""
        if path is not None:
            self._scheduler.restore_budgets(self._read(path))
        with self._changed:
            self._path = path
            if path is None or self._thread is not None or self._closed:
                return
            self._thread = SupervisedThread("eccos-budgets", self._run, clock=self._clock)
            self._thread.start()

    def close(self) -> None:
        """Write once more and end the thread; may be repeated."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.end()
            thread.join()

    def faults(self) -> list[str]:
        """Why what is spent would not survive a restart; empty where it would."""
        with self._changed:
            return [self._fault] if self._fault else []

    def restarts(self) -> list[str]:
        """A line about the thread, if an unexpected exception restarted it."""
        with self._changed:
            note = self._thread.note() if self._thread is not None else ""
        return [note] if note else []

    def _run(self) -> None:
        while True:
            with self._changed:
                self._clock.wait_for(self._changed, lambda: self._closed, self._clock.now_s() + SAVED_S)
                closed, path = self._closed, self._path
            if path is not None:
                self._write(path)
            if closed:
                return

    def _write(self, path: Path) -> None:
        state = self._scheduler.budget_state()
        with self._saving:
            if state == self._saved:
                return
            draft, fault = path.with_name(f"{path.name}.{os.getpid()}"), ""
            try:
                draft.write_text(json.dumps(state) + "\n", encoding="utf-8")
                draft.replace(path)
                self._saved = state
            except OSError as error:
                fault = f"{path.name} cannot be written: {error.strerror}"
                self._log.warning("unwritable", "%s; a restart refills the budgets", fault)
        with self._changed:
            self._fault = fault

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            with path.open("rb") as file:
                content = json.loads(file.read(LARGEST_FILE))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("%s cannot be read, the budgets begin anew: %s", path, error)
            return {}
        return content if isinstance(content, dict) else {}
