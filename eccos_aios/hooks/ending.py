"""Ending: the process is asked to end, and does, whatever its cores do."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import FrameType
from typing import Any

from eccos_aios.errors import EccosError
from eccos_aios.hooks.active import ACTIVE

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SLACK_S = 1.5  # seconds that the process has after its grace to write answers and end by itself
KILLED = 128  # a shell's exit code of a process that a signal ended, less the signal's number
UNASKED = 0  # in place of a signal's number: the server ends for reasons of its own


class Ending:
    """Stops the scheduler as soon as the process is asked to end.

    uvicorn waits for open requests before it tells its application, and the requests wait for cores: so a
    signal begins the stop itself, and uvicorn's own handler has it as ever. Calls that are held get their
    answers within ``grace_s``. A process that is not gone `SLACK_S` later is ended: AIOS's threads are no
    daemons, and one that waits for a tool, an agent or a provider would hold it for ever.

    The thread ``eccos-stop`` waits from `watch` on and ends with the stop. A signal handler may do next to
    nothing, for the thread that it interrupts may hold any lock.

    Parameters
    ----------
    on_begin : callable
        Called in that thread before the scheduler is stopped.

    Attributes
    ----------
    begun : bool
    done : Future
        Has a result once the scheduler is stopped.
    """

    def __init__(self, on_begin: Callable[[], None]) -> None:
        self.begun = False  # only ever set, so that it needs no lock
        self.done: Future[None] = Future()
        self._on_begin = on_begin
        self._asked: SimpleQueue[int] = SimpleQueue()  # of signals' numbers; may be put to from a handler
        self._before: dict[int, Any] = {}  # the handlers that were there
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Begin to wait for signals, from the main thread; in any other, for `begin`. Twice does no harm."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._wait, name="eccos-stop", daemon=True)
            self._thread.start()
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if callable(before):
                self._before[number] = before
                signal.signal(number, self._on_signal)

    def begin(self) -> None:
        """End without a signal."""
        if not self.begun:
            self.begun = True
            self._asked.put(UNASKED)

    def release(self) -> None:
        """Put back the handlers that were there, from the thread that called `watch`."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.begun:
            self.begun = True
            self._asked.put(number)
        before = self._before.get(number)
        if before is not None:
            before(number, frame)

    def _wait(self) -> None:
        number = self._asked.get()
        try:
            self._stop(number)
        except Exception:
            logger.exception("the scheduler could not be stopped")
        finally:
            self.done.set_result(None)

    def _stop(self, number: int) -> None:
        scheduler = ACTIVE.ours
        if scheduler is None:
            return
        if number != UNASKED:
            limit_s = scheduler.config.grace_s + SLACK_S
            threading.Thread(
                target=_end_process, args=(limit_s, number), name="eccos-stop-limit", daemon=True
            ).start()
        logger.info("the kernel ends: calls that are held get %g seconds", scheduler.config.grace_s)
        self._on_begin()
        try:
            # Before the readers, one of which may be held up by a tool: agents are answered first.
            scheduler.clockwork.stop()
        except EccosError as error:
            logger.info("nothing to stop: %s", error)
        scheduler.stop()


def _end_process(after_s: float, number: int) -> None:
    time.sleep(after_s)
    logger.warning("the process has not ended within its grace, and is ended")
    os._exit(KILLED + number)
