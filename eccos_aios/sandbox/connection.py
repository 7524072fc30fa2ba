"""Chat completions of a sandbox core, for the embedded kernel."""

from __future__ import annotations

import http.client
import json
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from eccos_aios.connections import Connections, NotSentError

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
    """Sends requests to one core, from any thread.

    Parameters
    ----------
    base_url : str
        With its ``/v1``.
    timeout_s : float
        Seconds without a byte after which a request fails.
    """

    def __init__(self, base_url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(base_url)
        make = partial(http.client.HTTPConnection, parts.hostname or "", parts.port or 80, timeout=timeout_s)
        self._path = f"{parts.path.rstrip('/')}/chat/completions"
        self._connections = Connections(make)

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
        body = json.dumps(request).encode()
        try:
            response, content = self._connections.post(self._path, body, {"Content-Type": "application/json"})
        except TimeoutError:
            raise
        except (NotSentError, OSError, http.client.HTTPException) as error:
            raise CoreError(f"Connection error: {type(error).__name__}") from error
        if response.status != 200:
            raise CoreError(f"Error code: {response.status}", response.status)
        answer: dict[str, Any] = json.loads(content)
        return answer

    def close(self) -> None:
        """End every connection; requests under way fail, and later ones too."""
        self._connections.close()
