"""Ending: stops the scheduler when the process is asked to end, and bounds how long that takes."""

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

from eccos_aios.hooks.active import ACTIVE

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SLACK_S = 1.5  # seconds that the process has after its grace to write answers and end by itself
KILLED = 128  # plus the signal's number: the exit code, by a shell's convention
NO_SIGNAL = 0  # in place of a signal's number: the server ends without a signal


class Ending:
    """Stops the scheduler as soon as the process is asked to end.

    uvicorn waits for open requests before it notifies its application, and the requests wait for cores. So
    the signal itself starts the stop, and is then passed on to uvicorn's handler. Pending calls are answered
    within ``grace_s``. `SLACK_S` later the process is killed if it still runs: AIOS's threads are not
    daemons, and one that waits for a tool, an agent or a provider would keep the process for ever.

    The thread ``eccos-stop`` starts with `watch` and ends with the stop. The signal handler only wakes it,
    since the thread that a handler interrupts may hold any lock.

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
        self._signals: SimpleQueue[int] = SimpleQueue()  # numbers; a handler may put to it
        self._before: dict[int, Any] = {}  # the previous handlers
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Wait for signals and for `begin`; outside the main thread for `begin` only. May be repeated."""
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
        """Start the stop without a signal."""
        if not self.begun:
            self.begun = True
            self._signals.put(NO_SIGNAL)

    def release(self) -> None:
        """Restore the previous handlers, from the thread that called `watch`."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.begun:
            self.begun = True
            self._signals.put(number)
        before = self._before.get(number)
        if before is not None:
            before(number, frame)

    def _wait(self) -> None:
        number = self._signals.get()
        try:
            self._stop(number)
        except Exception:
            logger.exception("the scheduler could not be stopped")
        finally:
            self.done.set_result(None)

    def _stop(self, number: int) -> None:
        scheduler = ACTIVE.scheduler
        if scheduler is None:
            return
        if number != NO_SIGNAL:
            limit_s = scheduler.config.grace_s + SLACK_S
            threading.Thread(
                target=_end_process, args=(limit_s, number), name="eccos-stop-limit", daemon=True
            ).start()
        logger.info("the kernel ends: pending calls get %g seconds", scheduler.config.grace_s)
        self._on_begin()
        scheduler.stop()


def _end_process(after_s: float, number: int) -> None:
    time.sleep(after_s)
    logger.warning("the process has not ended within its grace, and is killed")
    os._exit(KILLED + number)
