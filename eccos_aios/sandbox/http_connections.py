"""Keep-alive HTTP connections to one address, by the standard library: the demo needs nothing installed."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from collections.abc import Callable, Mapping


class NotSentError(Exception):
    """There is no connection, so the server has seen nothing of the request."""


class Connections:
    """Sends requests, from any thread, over keep-alive connections.

    Parameters
    ----------
    make : callable
        Returns a new connection that is not open yet.
    """

    def __init__(self, make: Callable[[], http.client.HTTPConnection]) -> None:
        self._make = make
        self._lock = threading.Lock()  # guards _idle, _busy and _closed
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a POST request.

        Parameters
        ----------
        path : str
        body : bytes
        headers : mapping of str to str
        timeout_s : float, optional
            Seconds without a byte; default: the connection's own.

        Returns
        -------
        tuple of HTTPResponse and bytes
            The response, whatever its status, and its whole content.

        Raises
        ------
        NotSentError
            No connection could be made (the cause says why), or `close` was called.
        OSError, http.client.HTTPException
            The connection broke, or the response is not HTTP; TimeoutError where no byte came in time.
        """
        connection = self._acquire()
        reusable = False
        try:
            if timeout_s is not None:
                connection.timeout = timeout_s
            if connection.sock is None:
                _open(connection)
            elif timeout_s is not None:
                connection.sock.settimeout(timeout_s)
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
            reusable = not response.will_close
            return response, content
        finally:
            self._release(connection, reusable)

    @property
    def under_way(self) -> int:
        """Requests that are sent and not yet answered."""
        with self._lock:
            return len(self._busy)

    def close(self) -> None:
        """End every connection; requests under way fail, and later ones too."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for connection in idle:
            connection.close()
        for connection in busy:
            if connection.sock is not None:
                shut(connection.sock)

    def _acquire(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._closed:
                raise NotSentError("the connections are closed")
            connection = self._idle.pop() if self._idle else None
            if connection is not None and not _is_alive(connection):
                connection.close()
                connection = None
            connection = connection or self._make()
            self._busy.add(connection)
        return connection

    def _release(self, connection: http.client.HTTPConnection, reusable: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            reusable = reusable and not self._closed
            if reusable:
                self._idle.append(connection)
        if not reusable:
            connection.close()


def shut(sock: socket.socket) -> None:
    """End a connection at both ends, under another thread that reads from it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already


def _open(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except (OSError, http.client.HTTPException) as error:
        raise NotSentError(type(error).__name__) from error


def _is_alive(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection is still open at both ends: an open one has nothing to read."""
    try:
        return connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]
    except (OSError, ValueError):
        return False
