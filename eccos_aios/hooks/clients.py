"""Client: the client of one ``/query`` request, which may disconnect before its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

GONE = "the agent has gone before the call was sent"
GONE_STATUS = 499  # of a response to a client that has disconnected; nginx logs such requests with it


class Client:
    """One request's client.

    Attributes
    ----------
    refusal : Exception or None
        Why the request must be answered with 503, whatever AIOS would answer.
    refusal_counted : bool
        Whether the scheduler has counted that refusal.
    trace : dict of str to str
        The request's trace context, by header name; empty without one.

    Parameters
    ----------
    trace : dict of str to str, optional
    """

    def __init__(self, trace: dict[str, str] | None = None) -> None:
        self.trace = trace or {}
        self.refusal: Exception | None = None
        self.refusal_counted = False
        # Guards what follows; never held while a callback runs.
        self._lock = threading.Lock()
        self._gone = False
        self._dropped = 0
        self._drops: list[Callable[[], bool]] = []

    @property
    def gone(self) -> bool:
        """Whether the client has disconnected."""
        with self._lock:
            return self._gone

    @property
    def dropped(self) -> int:
        """Calls that were dropped before a scheduler had them, since the client has disconnected."""
        with self._lock:
            return self._dropped

    def when_gone(self, drop: Callable[[], bool]) -> None:
        """Register a callback for the client's disconnection; it is called at once if that has happened.

        Parameters
        ----------
        drop : callable
            Drops what the client waits for; returns whether there was anything.
        """
        with self._lock:
            gone = self._gone
            if not gone:
                self._drops.append(drop)
        if gone:
            drop()

    def leave(self) -> None:
        """Note that the client has disconnected; may be repeated."""
        with self._lock:
            self._gone = True
            drops, self._drops = self._drops, []
        for drop in drops:
            drop()

    def withdraw(self) -> bool:
        """Drop a waiting call although the client is still there; False if none waits."""
        with self._lock:
            drops = list(reversed(self._drops))
        return any(drop() for drop in drops)

    def note_dropped(self) -> None:
        """Count a call that was dropped before a scheduler had it."""
        with self._lock:
            self._dropped += 1


CLIENT: ContextVar[Client | None] = ContextVar("eccos_client", default=None)
"""The client of the current request; `asyncio.to_thread` copies it into its thread."""


def client_of(syscall: Any) -> Client | None:
    """The client that waits for a syscall; None if it is unknown."""
    return getattr(syscall, "eccos_client", None)


def drop_if_client_gone(syscall: Any) -> bool:
    """Attach the client to a syscall before it is queued; answer a call at once whose client has gone.

    So a request of several steps (``call_tool``, ``operate_file``) sends no further calls to cores after its
    client has gone. Returns whether the syscall was answered.
    """
    client = CLIENT.get()
    if client is None or not hasattr(syscall, "query"):
        return False
    syscall.eccos_client = client
    if not client.gone or not hasattr(syscall.query, "messages"):
        return False
    from eccos_aios.hooks.syscall import answer, cerebrum_response

    client.note_dropped()
    answer(syscall, cerebrum_response("llm", GONE, GONE_STATUS))
    return True
