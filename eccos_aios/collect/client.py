"""Chat completions of one core over HTTP: one attempt, with its answer or the reason why it failed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eccos_aios.collect.endpoint import Endpoint
from eccos_aios.errors import without_secrets
from eccos_aios.http_client import HttpClient, NoResponseError, NotSentError

DEFAULT_TIMEOUT_S = 300.0  # seconds without a byte; a local core may take minutes before its first
RETRIED_STATUSES = frozenset({408, 429, *range(500, 600)})
REFUSED_STATUSES = frozenset({401, 403})  # the key is wrong: every call would fail
LONGEST_CODE = 80  # characters of a provider's error code that are shown


@dataclass(frozen=True)
class Answer:
    """The answer of a core.

    Attributes
    ----------
    text : str
        Empty where it only called tools.
    tool_calls : list of dict or None
        In OpenAI's format.
    input_tokens, output_tokens : int or None
        As the provider counted them; None if it does not report them.
    latency_s : float
        Seconds from sending the request to the end of the answer.
    """

    text: str
    tool_calls: list[dict[str, Any]] | None
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float


class AttemptError(Exception):
    """An attempt got no answer.

    Attributes
    ----------
    status : int or None
        The HTTP status; None if the connection failed or the response is not a completion.
    may_cost : bool
        Whether the provider may bill the attempt: it received the request and reported no error.
    retry_after_s : float or None
        Seconds that the provider asks to wait.
    parameter : str or None
        The parameter of the request that the provider refuses.
    timed_out : bool
        Whether no answer came in time; the core may hold the call for a moment longer.
    unreachable : bool
        Whether the request was not sent, for lack of a connection.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None,
        may_cost: bool,
        retry_after_s: float | None = None,
        parameter: str | None = None,
        timed_out: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.status = status
        self.may_cost = may_cost
        self.retry_after_s = retry_after_s
        self.timed_out = timed_out
        self.unreachable = unreachable

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in RETRIED_STATUSES

    @property
    def refused(self) -> bool:
        """Whether the key is refused, so that no call of this core can succeed."""
        return self.status in REFUSED_STATUSES


class Client:
    """Sends requests to one endpoint, from any thread.

    Raises
    ------
    MissingExtraError
        httpx is not installed.
    ConfigError
        The environment names a proxy that cannot be used.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        headers = {"Content-Type": "application/json"}
        if endpoint.key:
            headers["Authorization"] = f"Bearer {endpoint.key}"
        self._url = f"{endpoint.url.rstrip('/')}/chat/completions"
        self._key = endpoint.key
        self._http = HttpClient(self._url, timeout_s, headers)

    def complete(self, body: Mapping[str, Any]) -> Answer:
        """One attempt at a chat completion.

        Raises
        ------
        AttemptError
            No connection, no answer in time, an error status, or a response that is not a completion.
        """
        start = time.perf_counter()
        try:
            response = self._http.send("POST", self._url, json.dumps(body).encode())
        except NotSentError as error:
            raise AttemptError(str(error), status=None, may_cost=False, unreachable=True) from error
        except NoResponseError as error:
            raise AttemptError(str(error), status=None, may_cost=True, timed_out=error.timed_out) from error
        latency_s = time.perf_counter() - start
        if response.status_code != 200:
            error_body = _error(response.content)
            raise AttemptError(
                self._error_message(response.status_code, error_body),
                status=response.status_code,
                may_cost=False,
                retry_after_s=_retry_after(response.headers.get("Retry-After")),
                parameter=str(error_body.get("param")) if error_body.get("param") else None,
            )
        return _answer(response.content, latency_s)

    @property
    def under_way(self) -> int:
        """Requests that are sent and not yet answered."""
        return self._http.under_way

    def close(self) -> None:
        """End every connection; requests under way fail, and later ones too."""
        self._http.close()

    def _error_message(self, status: int, error: Mapping[str, Any]) -> str:
        """The status and the provider's code of the error; its message may repeat the question or the key."""
        code = " ".join(str(error.get("code") or error.get("type") or "").split())
        if self._key:
            code = code.replace(self._key, "…")
        shown = f"status {status}" + (f" ({without_secrets(code)[:LONGEST_CODE]})" if code else "")
        return f"{shown}: the key is refused" if status in REFUSED_STATUSES else shown


def _answer(content: bytes, latency_s: float) -> Answer:
    try:
        body = json.loads(content)
        message = body["choices"][0]["message"]
        text, tool_calls = _text(message.get("content")), message.get("tool_calls")
        usage = body.get("usage") or {}
        return Answer(
            text,
            [call for call in tool_calls if isinstance(call, dict)] if tool_calls else None,
            _tokens(usage.get("prompt_tokens")),
            _tokens(usage.get("completion_tokens")),
            latency_s,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AttemptError("status 200, but not a chat completion", status=None, may_cost=True) from error


def _text(content: Any) -> str:
    if isinstance(content, list):  # some providers answer in parts
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tokens(count: Any) -> int | None:
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _error(content: bytes) -> Mapping[str, Any]:
    """OpenAI's error object; empty if the body holds none."""
    try:
        error = json.loads(content)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _retry_after(header: str | None) -> float | None:
    try:
        seconds = float(header or "")
    except ValueError:  # absent, or a date
        return None
    return max(0.0, seconds)
