"""What a Redis says of itself, and whether kernels can share over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eccos_aios.shared.connection import LEAST_VERSION, RedisConnection, key_prefix

CHECK_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class RedisFacts:
    """What matters about a server.

    Attributes
    ----------
    version : tuple of int
    policy : str
        What it evicts when its memory is full; empty if it does not say.
    used_memory, most_memory : int
        Bytes; `most_memory` is 0 where there is no limit.
    writable : bool
        False for a replica.
    """

    version: tuple[int, ...]
    policy: str
    used_memory: int
    most_memory: int
    writable: bool

    def problems(self) -> list[tuple[str, str]]:
        """What would go wrong, and the remedy, for each problem."""
        found = []
        if self.version < LEAST_VERSION:
            wanted = ".".join(map(str, LEAST_VERSION))
            found.append((f"is version {'.'.join(map(str, self.version))}", f"use {wanted} or later"))
        if not self.writable:
            found.append(("is a replica, which cannot be written", "name the primary in shared:"))
        if self.most_memory and self.policy.startswith("allkeys"):
            found.append(
                (
                    f"may evict leases and outcomes when its memory is full (maxmemory-policy {self.policy})",
                    "set maxmemory-policy to noeviction, or use a Redis of its own",
                )
            )
        return found


def inspect_redis(url: str, name: str) -> RedisFacts:
    """Ask a server about itself, and try to read a key of this name.

    Raises
    ------
    SharedUnavailableError
        It cannot be reached, or refuses.
    MissingExtraError
        redis-py is not installed.
    """
    connection = RedisConnection(url, CHECK_TIMEOUT_S)
    try:
        info: Any = connection.call(lambda client: client.info())
        connection.call(lambda client: client.exists(f"{key_prefix(name)}meta"))
    finally:
        connection.close()
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:3] if part.isdigit())
    return RedisFacts(
        version,
        str(info.get("maxmemory_policy", "")),
        int(info.get("used_memory", 0)),
        int(info.get("maxmemory", 0)),
        str(info.get("role", "master")) == "master",
    )
