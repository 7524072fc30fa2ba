"""Client: whoever waits for the answer to one ``/query``, and may leave before it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

GONE = "the agent has gone before the call was sent"
GONE_STATUS = 499  # of a response that nobody reads; what nginx logs for a client that closed its request


class Client:
    """One request's client.

    Attributes
    ----------
    refusal : Exception or None
        Why the request is to be answered with 503, whatever AIOS makes of it.
    """

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        # Guards the three below; no function of them is called under it.
        self._lock = threading.Lock()
        self._gone = False
        self._dropped = 0
        self._drops: list[Callable[[], bool]] = []

    @property
    def gone(self) -> bool:
        """Whether nobody waits any more."""
        with self._lock:
            return self._gone

    @property
    def dropped(self) -> int:
        """Calls that were dropped before a scheduler had them, because it has gone."""
        with self._lock:
            return self._dropped

    def when_gone(self, drop: Callable[[], bool]) -> None:
        """Have something dropped when the client goes, or at once if it has gone.

        Parameters
        ----------
        drop : callable
            Returns whether there was something to drop.
        """
        with self._lock:
            gone = self._gone
            if not gone:
                self._drops.append(drop)
        if gone:
            drop()

    def leave(self) -> None:
        """The client has gone; twice does no harm."""
        with self._lock:
            self._gone = True
            drops, self._drops = self._drops, []
        for drop in drops:
            drop()

    def withdraw(self) -> bool:
        """Drop what waits although the client is there; False where nothing waits."""
        with self._lock:
            drops = list(reversed(self._drops))
        return any(drop() for drop in drops)

    def note_dropped(self) -> None:
        """Count a call that was dropped before a scheduler had it."""
        with self._lock:
            self._dropped += 1


CLIENT: ContextVar[Client | None] = ContextVar("eccos_client", default=None)
"""The client of the request that runs; `asyncio.to_thread` takes it along into its thread."""


def client_of(syscall: Any) -> Client | None:
    """The client that waits for a syscall; None where that is not known."""
    return getattr(syscall, "eccos_client", None)


def is_for_nobody(syscall: Any) -> bool:
    """Give a syscall its client before it is queued; if that has gone, a call to a core is answered at once.

    So a request of several steps (``call_tool``, ``operate_file``) goes on asking no core for a client that
    left during the first.
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
