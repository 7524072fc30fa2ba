"""AIOS's own FIFO scheduler, for comparison."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any

from eccos_aios.sandbox.syscall import Syscall

BATCH_INTERVAL_S = 1.0  # seconds that AIOS's FIFOScheduler sleeps before it looks at its queue

logger = logging.getLogger(__name__)


class FifoScheduler:
    """AIOS's FIFO: sleep a second, take all queued syscalls, wait until all are answered, repeat.

    Memory, storage and tool syscalls go one by one, each kind in its own thread; as in AIOS, one
    that raises is logged and never answered.

    Parameters
    ----------
    llm : object
        Has ``execute_llm_syscalls(batch)``.
    memory_manager, storage_manager, tool_manager : object
        Have ``address_request(syscall)``.
    log_mode : str
        Not used.
    get_llm_syscall, get_memory_syscall, get_storage_syscall, get_tool_syscall : callable
        Give the next syscall or raise ``queue.Empty``.
    batch_interval : float
        Seconds of the sleep.
    """

    def __init__(
        self,
        llm: Any,
        memory_manager: Any,
        storage_manager: Any,
        tool_manager: Any,
        log_mode: str,
        get_llm_syscall: Callable[[], Any],
        get_memory_syscall: Callable[[], Any],
        get_storage_syscall: Callable[[], Any],
        get_tool_syscall: Callable[[], Any],
        batch_interval: float = BATCH_INTERVAL_S,
    ) -> None:
        self.llm = llm
        self.batch_interval = batch_interval
        self._get_llm_syscall = get_llm_syscall
        self._services = {
            "memory": (get_memory_syscall, memory_manager),
            "storage": (get_storage_syscall, storage_manager),
            "tool": (get_tool_syscall, tool_manager),
        }
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start one thread for each kind of syscall."""
        self._stopping.clear()
        self._threads = [threading.Thread(target=self._schedule_llm, name="fifo-llm", daemon=True)]
        self._threads += [
            threading.Thread(target=self._serve, args=(kind,), name=f"fifo-{kind}", daemon=True)
            for kind in self._services
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after their current syscalls; queued syscalls stay unanswered."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _schedule_llm(self) -> None:
        while not self._stopping.wait(self.batch_interval):
            batch = self._queued()
            for syscall in batch:
                syscall.set_status("executing")
                syscall.set_start_time(time.time())
            if batch:
                self.llm.execute_llm_syscalls(batch)

    def _queued(self) -> list[Syscall]:
        batch: list[Syscall] = []
        with suppress(Empty):
            while True:
                batch.append(self._get_llm_syscall())
        return batch

    def _serve(self, kind: str) -> None:
        get_syscall, service = self._services[kind]
        while not self._stopping.is_set():
            try:
                syscall = get_syscall()
            except Empty:
                continue
            syscall.set_status("executing")
            syscall.set_start_time(time.time())
            try:
                response = service.address_request(syscall)
            except Exception as error:  # noqa: BLE001 - whatever a service raises, AIOS loses the syscall
                logger.error("a %s syscall raised %s and is lost", kind, type(error).__name__)
                continue
            syscall.set_response(response)
            syscall.set_status("done")
            syscall.set_end_time(time.time())
            syscall.event.set()
