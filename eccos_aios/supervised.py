"""SupervisedThread: a thread of ours that one exception does not end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.01  # seconds until work that raised is begun again; doubles while it goes on raising
LONGEST_PAUSE_S = 1.0


class SupervisedThread:
    """Runs `work` in a named daemon thread, and begins it again where it raises, whatever it raises.

    `work` returns when it is time to end. Its state must hold after an exception: what it had in hand is
    the business of `on_restart`.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        Without arguments.
    on_restart : callable, optional
        Called with what `work` raised, before it is begun again; what it raises itself is logged.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        on_restart: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.name = name
        self._work = work
        self._on_restart = on_restart
        self._ending = threading.Event()  # ends a pause early
        self._lock = threading.Lock()  # guards the two below
        self._restarts = 0
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def end(self) -> None:
        """Begin no more work after what is under way; `work` itself has to be told to return."""
        self._ending.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the thread; False where the time ran out. One never started has ended."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._thread.ident is not None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    @property
    def restarts(self) -> int:
        """How often work raised and was begun again."""
        with self._lock:
            return self._restarts

    @property
    def fault(self) -> str:
        """The kind of what was raised last; empty where nothing was."""
        with self._lock:
            return self._fault

    def note(self) -> str:
        """How often it was begun again and why, in a line; empty where it never was."""
        with self._lock:
            if not self._restarts:
                return ""
            return f"{self.name} was begun again {self._restarts} times, last after {self._fault}"

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._work()
                return
            except BaseException as error:  # noqa: BLE001 - SystemExit of a plug-in must not end it either
                self._count(error)
                if self._on_restart is not None:
                    self._recover(self._on_restart, error)
            if self._ending.wait(pause_s):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _count(self, error: BaseException) -> None:
        kind = type(error).__name__
        with self._lock:
            self._restarts += 1
            first, self._fault = kind != self._fault, kind
        if first:
            logger.error("thread %s raised %s and goes on (logged once)", self.name, kind, exc_info=error)

    def _recover(self, on_restart: Callable[[BaseException], None], error: BaseException) -> None:
        try:
            on_restart(error)
        except BaseException as fault:
            logger.error("thread %s: recovering raised", self.name, exc_info=fault)
