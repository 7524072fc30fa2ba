"""CallThreads: the threads in which calls are with their cores."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

IDLE_S = 30.0  # seconds that a thread without work stays for the next


class CallThreads:
    """Threads named ``eccos-call-N``, as many as calls are in flight at once; an idle one ends by itself.

    `reserve` comes before a slot is taken, so that a process which can start no more threads is noticed
    while nothing is held. Every thread is a daemon: a client that hangs must not keep the process.
    """

    def __init__(self, name: str = "eccos-call", idle_s: float = IDLE_S) -> None:
        self._name = name
        self._idle_s = idle_s
        # Guards everything below.
        self._changed = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()
        self._waiting = 0  # threads that wait for a task
        self._reserved = 0  # promised, and not yet given a task
        self._started = 0
        self._closed = False

    def reserve(self) -> bool:
        """Have a thread ready for one `run`; False where none is idle and none can be started."""
        with self._changed:
            if self._waiting - len(self._tasks) <= self._reserved:
                if not self._start():
                    return False
                self._waiting += 1
            self._reserved += 1
            return True

    def cancel(self) -> None:
        """Give a reserved thread back."""
        with self._changed:
            self._reserved -= 1

    def run(self, task: Callable[[], None]) -> None:
        """Do `task`, which must not raise, in the thread that was reserved for it."""
        with self._changed:
            self._reserved -= 1
            self._tasks.append(task)
            self._changed.notify()

    def close(self) -> None:
        """End the threads that are idle, and the others after their task."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start(self) -> bool:
        """Start a thread; the lock is held."""
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started + 1}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # what CPython raises where the system gives no thread
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
                idle = not self._changed.wait(self._idle_s) and not self._tasks
                if idle and self._waiting > self._reserved:
                    self._waiting -= 1
                    return None
            self._waiting -= 1
            return self._tasks.popleft()
