"""SupervisedThread: a thread that restarts its work after an exception."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.log_once import LogOnce

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.01  # seconds until work that raised is restarted; doubles while it keeps raising
LONGEST_PAUSE_S = 1.0


class SupervisedThread:
    """Runs `work` in a named daemon thread and restarts it whenever it raises anything.

    `work` returns when it is time to end. Its state must be consistent after an exception: `on_restart`
    deals with what it was working on.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        Without arguments.
    on_restart : callable, optional
        Called before every restart with what `work` raised; an exception in it is logged.
    clock : Clock, optional
        Times the pause before a restart and the wait of `join`.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        on_restart: Callable[[BaseException], None] | None = None,
        clock: Clock = MONOTONIC_CLOCK,
    ) -> None:
        self.name = name
        self._work = work
        self._on_restart = on_restart
        self._clock = clock
        self._log = LogOnce(logger)
        self._changed = threading.Condition()  # guards everything below
        self._ending = False
        self._ended = False
        self._restarts = 0
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; may be called once."""
        self._thread.start()

    def end(self) -> None:
        """Stop restarting the work. Ending the work under way is up to the caller."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the thread has ended; False on a timeout. A thread that never started has ended."""
        if self._thread.ident is None:
            return True
        if self._thread is threading.current_thread():
            return False
        until_s = None if timeout_s is None else self._clock.now_s() + timeout_s
        with self._changed:
            ended = self._clock.wait_for(
                self._changed, lambda: self._ended or not self._thread.is_alive(), until_s
            )
        if ended:
            self._thread.join()
        return ended

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._thread.ident is not None

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._thread.is_alive()

    @property
    def restarts(self) -> int:
        """How often the work was restarted."""
        with self._changed:
            return self._restarts

    @property
    def fault(self) -> str:
        """The type of the last exception; empty if there was none."""
        with self._changed:
            return self._fault

    def note(self) -> str:
        """How often the work was restarted and why, in one line; empty if it never was."""
        with self._changed:
            if not self._restarts:
                return ""
            return f"{self.name} was restarted {self._restarts} times, last after {self._fault}"

    def _run(self) -> None:
        try:
            self._run_until_ended()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _run_until_ended(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._work()
                return
            except BaseException as error:  # noqa: BLE001 - SystemExit of a plug-in must not end it either
                self._count(error)
                if self._on_restart is not None:
                    self._recover(self._on_restart, error)
            until_s = self._clock.now_s() + pause_s
            with self._changed:
                if self._clock.wait_for(self._changed, lambda: self._ending, until_s):
                    return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _count(self, error: BaseException) -> None:
        kind = type(error).__name__
        with self._changed:
            self._restarts, self._fault = self._restarts + 1, kind
        self._log.error(kind, "thread %s raised %s and goes on", self.name, kind, exc_info=error)

    def _recover(self, on_restart: Callable[[BaseException], None], error: BaseException) -> None:
        try:
            on_restart(error)
        except BaseException as fault:
            logger.error("thread %s: recovering raised", self.name, exc_info=fault)
