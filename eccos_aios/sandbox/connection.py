"""Chat completions of a sandbox core, for the embedded kernel."""

from __future__ import annotations

import http.client
import json
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from eccos_aios.sandbox.http_connections import Connections, NotSentError
from eccos_aios.schedule import Attempt, current_attempt

TIMEOUT_S = 600.0  # seconds without a byte; the default of OpenAI's client


class CoreError(Exception):
    """A core did not answer, or answered with an error status.

    Attributes
    ----------
    status : int or None
        The HTTP status; None if there was none.
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
        self._timeout_s = timeout_s
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
        body, attempt = json.dumps(request).encode(), current_attempt() or Attempt(self._path)
        attempt.note_request()
        headers, timeout_s = {"Content-Type": "application/json"}, min(self._timeout_s, attempt.left_s())
        try:
            response, content = self._connections.post(self._path, body, headers, timeout_s)
        except (NotSentError, OSError, http.client.HTTPException) as error:
            attempt.note_error(error)
            if isinstance(error, TimeoutError):
                raise
            raise CoreError(f"Connection error: {type(error).__name__}") from error
        attempt.note_response(response.status, dict(response.getheaders()), content)
        if response.status != 200:
            raise CoreError(f"Error code: {response.status}", response.status)
        try:
            answer: dict[str, Any] = json.loads(content)
        except ValueError as error:
            attempt.note_error(error)
            raise
        _note_answer(attempt, answer)
        return answer

    def close(self) -> None:
        """End every connection; requests under way fail, and later ones too."""
        self._connections.close()


def _note_answer(attempt: Attempt, answer: Any) -> None:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not choices:
        return
    message = choices[0].get("message") or {}
    attempt.note_answer(
        message.get("content"),
        bool(message.get("tool_calls")),
        choices[0].get("finish_reason"),
        refused=bool(message.get("refusal")),
    )
    usage = answer.get("usage") or {}
    attempt.note_usage(usage.get("prompt_tokens"), usage.get("completion_tokens"))
