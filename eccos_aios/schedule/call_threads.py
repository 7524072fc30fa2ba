"""CallThreads: the threads in which calls are sent to their cores."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from eccos_aios.clock import MONOTONIC_CLOCK, Clock

logger = logging.getLogger(__name__)

IDLE_S = 30.0  # seconds until a thread without work ends


class CallThreads:
    """Threads named ``eccos-call-N``, as many as calls are in flight at once; idle ones end.

    `reserve` a thread before taking a slot: a process that can start no more threads is then noticed while
    no slot is held. Every thread is a daemon, so that a hanging client cannot keep the process alive.

    Parameters
    ----------
    name : str
        Prefix of the threads' names.
    idle_s : float
        Seconds until a thread without work ends.
    clock : Clock, optional
    """

    def __init__(
        self, name: str = "eccos-call", idle_s: float = IDLE_S, clock: Clock = MONOTONIC_CLOCK
    ) -> None:
        self._name = name
        self._idle_s = idle_s
        self._clock = clock
        # Guards everything below.
        self._changed = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()
        self._waiting = 0  # threads that wait for a task
        self._reserved = 0  # without a task yet
        self._started = 0
        self._closed = False

    def reserve(self) -> bool:
        """Reserve a thread for one `run`; False if none is idle and none can be started."""
        with self._changed:
            if self._waiting - len(self._tasks) <= self._reserved:
                if not self._start():
                    return False
                self._waiting += 1
            self._reserved += 1
            return True

    def cancel(self) -> None:
        """Release a reserved thread."""
        with self._changed:
            self._reserved -= 1

    def run(self, task: Callable[[], None]) -> None:
        """Run `task` in a reserved thread; what it raises is logged."""
        with self._changed:
            self._reserved -= 1
            self._tasks.append(task)
            self._changed.notify()

    def close(self) -> None:
        """End the idle threads now and the others after their task."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start(self) -> bool:
        """Start a thread; the lock is held."""
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started + 1}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # CPython's exceptions for a system that is out of threads
            return False
        self._started += 1
        return True

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException as error:
                logger.error("a task of %s raised", threading.current_thread().name, exc_info=error)
            with self._changed:
                self._waiting += 1

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._tasks:
                if self._closed:
                    self._waiting -= 1
                    return None
                until_s = self._clock.now_s() + self._idle_s
                idle = not self._clock.wait(self._changed, until_s) and not self._tasks
                if idle and self._waiting > self._reserved:
                    self._waiting -= 1
                    return None
            self._waiting -= 1
            return self._tasks.popleft()
