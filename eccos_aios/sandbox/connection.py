"""Kept-alive HTTP connections to one core."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 600.0  # seconds without a byte; the default of OpenAI's client


class CoreError(Exception):
    """A core did not answer, or answered with an error status.

    Attributes
    ----------
    status : int or None
        The HTTP status; None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class CoreConnections:
    """Sends requests to one core, from any thread, over connections that it keeps alive.

    Parameters
    ----------
    base_url : str
        With its ``/v1``.
    timeout_s : float
        Seconds without a byte after which a request fails.
    """

    def __init__(self, base_url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(base_url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._path = f"{parts.path.rstrip('/')}/chat/completions"
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # guards _idle, _busy and _closed
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False

    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The core's answer to a chat completion.

        Raises
        ------
        TimeoutError
            No byte came for the given time.
        CoreError
            No connection, no answer, or an error status.
        ValueError
            The answer is not JSON.
        """
        connection = self._taken()
        kept = False
        try:
            connection.request(
                "POST", self._path, json.dumps(request).encode(), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            body = response.read()
            kept = not response.will_close
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise CoreError(f"Connection error: {type(error).__name__}") from error
        finally:
            self._give_back(connection, kept)
        if response.status != 200:
            raise CoreError(f"Error code: {response.status}", response.status)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def close(self) -> None:
        """End every connection; requests under way fail, and later ones too."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for connection in idle:
            connection.close()
        for connection in busy:
            _shut(connection)

    def _taken(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._closed:
                raise CoreError("Connection error: the kernel is stopped")
            connection = self._idle.pop() if self._idle else None
            if connection is None or not _is_alive(connection):
                connection = http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
            self._busy.add(connection)
        return connection

    def _give_back(self, connection: http.client.HTTPConnection, kept: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            kept = kept and not self._closed
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()


def _is_alive(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection is still open at both ends: an open one has nothing to read."""
    return connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]


def _shut(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is None:
        return
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed in the meantime
