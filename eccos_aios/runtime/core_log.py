"""CoreLog: a line in the log when a core opens, pauses or recovers, and while none serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

# Cores are looked at rather than reporting themselves: their locks are held then, and a pause of a few
# milliseconds, of which a busy provider causes hundreds, is not worth a line.
LOOK_S = 0.5
NONE_SERVES_S = 60.0  # seconds between lines while no core takes calls
JOIN_S = 2.0
DOWN = ("open", "half-open")


class CoreLog:
    """Looks at the cores' states now and then, in a thread of its own, and logs what has changed.

    Parameters
    ----------
    status : callable
        Returns the body of ``GET /eccos/status``.
    clock : Clock, optional
    """

    def __init__(self, status: Callable[[], Mapping[str, Any]], clock: Clock = MONOTONIC_CLOCK) -> None:
        self._status = status
        self._clock = clock
        self._states: dict[str, str] = {}  # as logged last; used by the thread only
        self._said_s = float("-inf")
        self._changed = threading.Condition()  # guards `_ending`
        self._ending = False
        self._thread = SupervisedThread("eccos-core-log", self._run, clock=clock)

    def start(self) -> None:
        """Start the thread, unless it has been started before."""
        if not self._thread.started:
            self._thread.start()

    def stop(self) -> None:
        """End the thread; may be repeated."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.end()
        self._thread.join(JOIN_S)

    def look(self) -> None:
        """Log the changes since the last look."""
        status = self._status()
        cores = dict(status["cores"])
        for name, core in cores.items():
            before, state = self._states.get(name, "ok"), core["state"]
            kind = "down" if state in DOWN else state
            if kind != before:
                self._log(name, kind, core.get("cause", ""))
            self._states[name] = kind
        self._states = {name: state for name, state in self._states.items() if name in cores}
        now_s = self._clock.now_s()
        if cores and all(state == "down" for state in self._states.values()):
            if now_s - self._said_s >= NONE_SERVES_S:
                self._said_s = now_s
                whys = "; ".join(f"{name}: {core.get('cause', 'down')}" for name, core in cores.items())
                logger.error("no core serves, %d calls wait: %s", status["pending"], whys)
        else:
            self._said_s = float("-inf")

    def _log(self, name: str, state: str, cause: str) -> None:
        if state == "down":
            logger.warning("core %s is down and gets no calls until a probe succeeds: %s", name, cause)
        elif state == "paused":
            logger.warning("core %s is paused: %s", name, cause)
        else:
            logger.info("core %s serves again", name)

    def _run(self) -> None:
        while True:
            until_s = self._clock.now_s() + LOOK_S
            with self._changed:
                if self._clock.wait_for(self._changed, lambda: self._ending, until_s):
                    return
            self.look()
