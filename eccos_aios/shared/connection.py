"""Connections to the Redis that kernels share: short timeouts, no silent retries, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from eccos_aios.errors import EccosError, MissingExtraError

if TYPE_CHECKING:
    import redis

TIMEOUT_S = 0.5  # seconds that Redis gets to connect or to answer
LEAST_VERSION = (6, 2)

Result = TypeVar("Result")


class SharedUnavailableError(EccosError):
    """Redis cannot be reached, does not answer in time, or refuses to write."""


def key_prefix(name: str) -> str:
    """What every key of the kernels of one `shared_name` begins with.

    The braces put all keys of a name into one hash slot of a Redis Cluster, so that scripts may use them.
    """
    return f"{{eccos:{name}}}:"


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    place = parts.hostname or ""
    if parts.port is not None:
        place += f":{parts.port}"
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


class RedisConnection:
    """One connection, made anew after every failure. One thread uses it at a time.

    A command that failed is never repeated by itself: only the caller knows whether it may be.

    Parameters
    ----------
    url : str
        ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user and password if needed.
    timeout_s : float, optional
        To connect, and for each answer.

    Raises
    ------
    MissingExtraError
        redis-py is not installed.
    EccosError
        redis-py does not know an option in the URL.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise MissingExtraError("redis", "shared") from None
        self.url = url
        self._failures: tuple[type[BaseException], ...] = (redis.RedisError, OSError)
        self._pool = redis.ConnectionPool.from_url(
            url,
            max_connections=1,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._connected,
        )
        try:
            self._pool.connection_class(**self._pool.connection_kwargs)
        except TypeError as error:
            raise EccosError(f"an option in the URL of {without_password(url)} is wrong: {error}") from None
        self.client: redis.Redis = redis.Redis(connection_pool=self._pool)
        self._server: str | None = None
        self._connects = 0
        self._closes = 0

    def server(self) -> str:
        """Identifies the running server: another one after every restart or failover.

        Raises
        ------
        SharedUnavailableError
        """
        if self._server is None:
            info: Any = self.call(lambda client: client.info("server"))
            self._server = str(info.get("run_id", ""))
        return self._server

    def call(self, command: Callable[[redis.Redis], Result]) -> Result:
        """The result of a command.

        Raises
        ------
        SharedUnavailableError
            It failed, or ran at another server than the one that `server` names.
        """
        server, connects, closes = self._server, self._connects, self._closes
        try:
            result = command(self.client)
        except self._failures as error:
            self.close()
            raise SharedUnavailableError(_reason(error)) from error
        except (AttributeError, ValueError) as error:
            # redis-py reads on from a buffer that is gone or closed, if another thread calls `close`.
            if self._closes == closes:
                raise
            raise SharedUnavailableError("ConnectionError: the connection was closed") from error
        # redis-py replaces a connection that was closed while it was idle without a word.
        if server is not None and self._connects != connects:
            raise SharedUnavailableError("ConnectionError: the connection was closed")
        return result

    @property
    def connects(self) -> int:
        """Connections made so far."""
        return self._connects

    def _connected(self, connection: Any) -> None:
        self._connects += 1
        self._server = None
        connection.on_connect()

    def close(self) -> None:
        """Close the connection; the next command opens another one. Any thread may call it."""
        self._closes += 1
        self._server = None
        self._pool.disconnect()


def _reason(error: BaseException) -> str:
    """A line without the values that a command had."""
    words = " ".join(str(error).split())
    kind = type(error).__name__
    if kind in ("TimeoutError", "ConnectionError"):
        return f"{kind}: {words[:120]}"
    # An error of the server begins with its code, such as OOM, READONLY or NOAUTH.
    return f"{kind}: {words.split('.')[0][:120]}"
