"""PredictorPublication: the fitted predictor that kernels share, as the bytes of its saved file."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from eccos_aios.shared.connection import RedisConnection, key_prefix

if TYPE_CHECKING:
    import redis

CHUNK = 1 << 20  # bytes of one key, so that no answer takes long
MOST_BYTES = 1 << 30
OLD_S = 600  # seconds that a replaced predictor stays, for those who are reading it


class Published(NamedTuple):
    """What is published now.

    Attributes
    ----------
    sha256 : str
        Of the content; identifies it.
    size : int
        Bytes.
    """

    sha256: str
    size: int


class PredictorPublication(Protocol):
    """Where a kernel publishes a predictor and others find it. Methods raise `SharedUnavailableError`."""

    def publish(self, content: bytes) -> Published:
        """Replace what is published."""

    def latest(self) -> Published | None:
        """What is published; None if nothing is."""

    def content(self, published: Published) -> bytes | None:
        """The bytes, checked by their hash; None if they were replaced meanwhile, or are damaged."""

    def close(self) -> None:
        """Close connections."""


class LocalPublication:
    """`PredictorPublication` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the content
        self._content: bytes | None = None

    def publish(self, content: bytes) -> Published:
        """As `PredictorPublication.publish`."""
        with self._lock:
            self._content = content
        return published_of(content)

    def latest(self) -> Published | None:
        """As `PredictorPublication.latest`."""
        with self._lock:
            return None if self._content is None else published_of(self._content)

    def content(self, published: Published) -> bytes | None:
        """As `PredictorPublication.content`."""
        with self._lock:
            content = self._content
        return content if content is not None and published_of(content) == published else None

    def close(self) -> None:
        """As `PredictorPublication.close`."""


class RedisPublication:
    """`PredictorPublication` in Redis: the content in chunks by its hash, and a key that names the hash.

    Parameters
    ----------
    url : str
    name : str
    """

    def __init__(self, url: str, name: str) -> None:
        self._prefix = f"{key_prefix(name)}predictor"
        self._connection = RedisConnection(url, timeout_s=2.0)

    def publish(self, content: bytes) -> Published:
        """As `PredictorPublication.publish`; what was there before expires after `OLD_S`."""
        published, before = published_of(content), self.latest()
        for number, first in enumerate(range(0, len(content), CHUNK)):
            key, chunk = self._key(published, number), content[first : first + CHUNK]
            self._connection.call(partial(_set, key, chunk))
        value = f"{published.sha256} {published.size}"
        self._connection.call(partial(_set, self._prefix, value.encode()))
        if before is not None and before != published:
            for number in range(_chunks(before)):
                key = self._key(before, number)
                self._connection.call(partial(_expire, key))
        return published

    def latest(self) -> Published | None:
        """As `PredictorPublication.latest`."""
        value = self._connection.call(partial(_get, self._prefix))
        if not isinstance(value, bytes):
            return None
        sha256, _, size = value.decode().partition(" ")
        return Published(sha256, int(size))

    def content(self, published: Published) -> bytes | None:
        """As `PredictorPublication.content`."""
        if not 0 <= published.size <= MOST_BYTES:
            return None
        chunks = []
        for number in range(_chunks(published)):
            key = self._key(published, number)
            chunk = self._connection.call(partial(_get, key))
            if not isinstance(chunk, bytes):
                return None
            chunks.append(chunk)
        content = b"".join(chunks)
        return content if published_of(content) == published else None

    def close(self) -> None:
        """As `PredictorPublication.close`."""
        self._connection.close()

    def _key(self, published: Published, number: int) -> str:
        return f"{self._prefix}:{published.sha256}:{number}"


def published_of(content: bytes) -> Published:
    """The hash and the size of some bytes."""
    return Published(hashlib.sha256(content).hexdigest(), len(content))


def _set(key: str, value: bytes, client: redis.Redis) -> object:
    return client.set(key, value)


def _get(key: str, client: redis.Redis) -> object:
    return client.get(key)


def _expire(key: str, client: redis.Redis) -> object:
    return client.expire(key, OLD_S)


def _chunks(published: Published) -> int:
    return -(-published.size // CHUNK)
