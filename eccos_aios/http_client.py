"""HTTP by httpx, which comes with the extra ``collect``: proxies, TLS, and requests that can be dropped."""

from __future__ import annotations

import importlib.util
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eccos_aios.errors import MissingExtraError
from eccos_aios.proxy import AUTHENTICATION_REQUIRED, proxy_of
from eccos_aios.version import __version__

if TYPE_CHECKING:
    import httpx

STATUS = re.compile(r"\b[1-5]\d\d\b")


class NotSentError(Exception):
    """The request did not reach the server: the reason, without a key or a password."""


class NoResponseError(Exception):
    """The request was sent, and no whole response came: the reason.

    Attributes
    ----------
    timed_out : bool
        Whether no byte came in time.
    """

    def __init__(self, message: str, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


def require_httpx() -> None:
    """Raise `MissingExtraError` where httpx is not installed."""
    if importlib.util.find_spec("httpx") is None:
        raise MissingExtraError("httpx", "collect")


class HttpClient:
    """Sends requests to one server, from any thread, over connections that it keeps open.

    The environment's proxy is used, see `proxy_of`, and the system's certificates.

    Parameters
    ----------
    url : str
        Any address of the server.
    timeout_s : float
        Seconds without a byte after which a request fails.
    headers : mapping of str to str
        Sent with every request.

    Raises
    ------
    MissingExtraError
        httpx is not installed.
    ConfigError
        The environment names a proxy that cannot be used.
    """

    def __init__(self, url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        require_httpx()
        import httpx

        self._proxy = proxy_of(url)
        parsed = httpx.URL(url)
        self._place = f"{parsed.host}:{parsed.port or parsed.scheme}"
        self._client = httpx.Client(
            headers={"User-Agent": f"eccos-aios/{__version__}", **(headers or {})},
            timeout=httpx.Timeout(timeout_s, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None),
            verify=ssl.create_default_context(),
            proxy=None if self._proxy is None else self._proxy.url,
            trust_env=False,
        )
        self._lock = threading.Lock()  # guards the three below
        self._sockets: set[socket.socket] = set()
        self._under_way = 0
        self._closed = False

    def send(self, method: str, url: str, content: bytes | None = None) -> httpx.Response:
        """Send a request; returns the response, whatever its status, with its whole content.

        Parameters
        ----------
        method : str
            ``GET``, ``POST`` and so on.
        url : str
        content : bytes, optional
            The request's body.

        Raises
        ------
        NotSentError
            There is no connection, or the client is closed.
        NoResponseError
            The connection broke, no byte came in time, or the response is not HTTP.
        """
        with self._counted(), self._named_errors():
            response = self._client.request(
                method, url, content=content, extensions={"trace": self._note_socket}
            )
        if response.status_code == AUTHENTICATION_REQUIRED and self._proxy is not None:
            raise NotSentError(self._proxy.explain(response.status_code))
        return response

    @property
    def under_way(self) -> int:
        """Requests that are sent and not yet answered."""
        with self._lock:
            return self._under_way

    def close(self) -> None:
        """End every connection; requests under way fail, and later ones too."""
        with self._lock:
            self._closed = True
            sockets, self._sockets = self._sockets, set()
        for sock in sockets:
            _shut(sock)
        self._client.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise NotSentError("the client is closed")
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.ProxyError as error:
            raise NotSentError(self._explain_proxy(error)) from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            through = "" if self._proxy is None else f" through the proxy {self._proxy.place}"
            raise NotSentError(f"{_reason(error)} ({self._place}{through})") from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            timed_out = isinstance(error, httpx.TimeoutException)
            raise NoResponseError(_reason(error), timed_out) from error
        except RuntimeError as error:  # how httpx says that it was closed
            if not self._closed:
                raise
            raise NotSentError("the client is closed") from error

    def _explain_proxy(self, error: Exception) -> str:
        status = STATUS.search(str(error))
        if self._proxy is None or status is None:
            place = "" if self._proxy is None else f" {self._proxy.place}"
            return f"the proxy{place} does not open a tunnel"
        return self._proxy.explain(int(status[0]))

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember an opened socket: closing an httpx client does not wake a thread that reads from one."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        opened = info["return_value"].get_extra_info("socket")
        with self._lock:
            # A closed socket, or one that TLS took over, has no file descriptor any more.
            self._sockets = {sock for sock in self._sockets if sock.fileno() >= 0} | {opened}
            closed = self._closed
        if closed:
            _shut(opened)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already


def _reason(error: BaseException) -> str:
    """What the operating system or TLS says; httpx's own words may hold a whole address."""
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    cause: BaseException | None = error
    while cause is not None and not getattr(cause, "strerror", None):
        cause = cause.__cause__ or cause.__context__
    return f"connection failed: {getattr(cause, 'strerror', None) or type(error).__name__}"
