"""Chat completions of one core over HTTP: one attempt, and what it gave or why it failed."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from eccos_aios.collect.endpoint import Endpoint
from eccos_aios.collect.proxy import AUTHENTICATION_REQUIRED, proxy_of
from eccos_aios.connections import Connections, NotSentError
from eccos_aios.errors import without_secrets
from eccos_aios.version import __version__

DEFAULT_TIMEOUT_S = 300.0  # seconds without a byte; a local core may think for minutes before its first
RETRIED_STATUSES = frozenset({408, 429, *range(500, 600)})
REFUSED_STATUSES = frozenset({401, 403})  # the key is wrong: no other call will fare better
LONGEST_CODE = 80  # characters of a provider's error code that are shown


@dataclass(frozen=True)
class Answer:
    """What a core answered.

    Attributes
    ----------
    text : str
        Empty where it only called tools.
    tool_calls : list of dict or None
        In OpenAI's format.
    input_tokens, output_tokens : int or None
        As the provider counted them; None where it does not say.
    latency_s : float
        Seconds from sending the request to the end of the answer.
    """

    text: str
    tool_calls: list[dict[str, Any]] | None
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float


class AttemptError(Exception):
    """An attempt gave no answer.

    Attributes
    ----------
    status : int or None
        The HTTP status; None where the connection failed or what came is no completion.
    may_cost : bool
        Whether the provider may send a bill all the same: it had the request and gave no error.
    retry_after_s : float or None
        What the provider asks for.
    parameter : str or None
        The parameter of the request that the provider says is wrong.
    timed_out : bool
        Whether no answer came in time, so that the core may hold the call for a moment longer.
    unreachable : bool
        Whether there was no connection.
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
    def may_pass(self) -> bool:
        """Whether the same request may succeed another time."""
        return self.status is None or self.status in RETRIED_STATUSES

    @property
    def refused(self) -> bool:
        """Whether the key is refused, so that no call of this core can succeed."""
        return self.status in REFUSED_STATUSES


class Client:
    """Sends requests to one endpoint, from any thread, over connections that it keeps alive.

    A proxy that the environment names is used, as `proxy_of` says.

    Raises
    ------
    ConfigError
        The environment names a proxy that is none.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        parts = urlsplit(endpoint.url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._scheme, self._host, self._port = parts.scheme, parts.hostname or "", parts.port
        self._proxy = proxy_of(parts.scheme, self._host, self._port)
        self._path = f"{parts.path.rstrip('/')}/chat/completions"
        self._headers = {"Content-Type": "application/json", "User-Agent": f"eccos-aios/{__version__}"}
        if endpoint.key:
            self._headers["Authorization"] = f"Bearer {endpoint.key}"
        if self._proxy is not None and self._tls is None:
            self._path = f"http://{parts.netloc}{self._path}"
            self._headers.update(self._proxy.headers)
        self._key = endpoint.key
        self._timeout_s = timeout_s
        self._connections = Connections(self._connection)

    def complete(self, body: Mapping[str, Any]) -> Answer:
        """One attempt at a chat completion.

        Raises
        ------
        AttemptError
            No connection, no answer in time, an error status, or an answer that is no completion.
        """
        start = time.perf_counter()
        try:
            response, content = self._connections.post(self._path, json.dumps(body).encode(), self._headers)
        except NotSentError as error:
            raise AttemptError(
                self._why_unreachable(error), status=None, may_cost=False, unreachable=True
            ) from error
        except (OSError, http.client.HTTPException) as error:
            timed_out = isinstance(error, TimeoutError)
            raise AttemptError(_reason(error), status=None, may_cost=True, timed_out=timed_out) from error
        latency_s = time.perf_counter() - start
        if response.status != 200:
            error_body = _error(content)
            raise AttemptError(
                self._error_message(response.status, error_body),
                status=response.status,
                may_cost=False,
                retry_after_s=_retry_after(response),
                parameter=str(error_body.get("param")) if error_body.get("param") else None,
            )
        return _answer(content, latency_s)

    @property
    def under_way(self) -> int:
        """Requests that are sent and not yet answered."""
        return self._connections.under_way

    def close(self) -> None:
        """End every connection; requests under way fail, and later ones too."""
        self._connections.close()

    def _connection(self) -> http.client.HTTPConnection:
        proxy = self._proxy
        host, port = (self._host, self._port) if proxy is None else (proxy.host, proxy.port)
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
        if proxy is not None:
            connection.set_tunnel(self._host, self._port or 443, proxy.headers)
        return connection

    def _why_unreachable(self, error: NotSentError) -> str:
        cause = error.__cause__ or error
        refused = self._proxy.why_no_tunnel(cause) if self._proxy is not None else None
        if refused is not None:
            return refused
        through = "" if self._proxy is None else f" through the proxy {self._proxy.host}:{self._proxy.port}"
        return f"{_reason(cause)} ({self._host}:{self._port or self._scheme}{through})"

    def _error_message(self, status: int, error: Mapping[str, Any]) -> str:
        """The status and the provider's code of the error; its message may repeat the question or the key."""
        if status == AUTHENTICATION_REQUIRED and self._proxy is not None:
            return self._proxy.why_refused(status)
        code = str(error.get("code") or error.get("type") or "")
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
        raise AttemptError("status 200, but no chat completion", status=None, may_cost=True) from error


def _text(content: Any) -> str:
    if isinstance(content, list):  # parts, as some providers answer
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tokens(count: Any) -> int | None:
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _error(content: bytes) -> Mapping[str, Any]:
    """OpenAI's error object; empty where the body holds none."""
    try:
        error = json.loads(content)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _retry_after(response: http.client.HTTPResponse) -> float | None:
    try:
        seconds = float(response.getheader("Retry-After") or "")
    except ValueError:  # absent, or a date
        return None
    return max(0.0, seconds)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"connection failed: {getattr(error, 'strerror', None) or type(error).__name__}"
