"""RedisPair: a primary Redis and its replica behind one address, which fail over as a sentinel would have them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.redis_server import STARTS_S, RedisServer
from experiments.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    import redis

OPTIONS = ("--repl-diskless-sync-delay", "0")
NOWHERE = 1  # a port where nothing listens
NOTICED_S = 0.5  # seconds until a dead primary is noticed and replaced


class RedisPair:
    """Two redis-servers, one the replica of the other; `url` leads to whichever is the primary.

    The replica follows over a connection that can be cut, so that what it lacks when it takes over is known.
    """

    def __init__(self, folder: Path) -> None:
        self._servers = [RedisServer(folder / name) for name in ("one", "other")]
        for name in ("one", "other"):
            (folder / name).mkdir()
        self._primary, self._replica = self._servers
        self._address = TcpProxy(self._primary.port)
        self._link = TcpProxy(self._primary.port)
        self.url = f"redis://127.0.0.1:{self._address.port}/0"

    def start(self) -> None:
        """Start both, and wait until the replica has what the primary has."""
        self._primary.start(*OPTIONS)
        self._follow(self._replica)

    def fail_over(self, lost_s: float = 0.0, *, silent: bool = False) -> None:
        """Kill the primary and let the replica take over, without what was written in the last `lost_s`.

        `silent`: as if its machine had gone, so that nobody closes the connections to it.
        """
        self._cut_link()
        time.sleep(lost_s)
        if silent:
            self._address.freeze()
        self._primary.kill()
        time.sleep(NOTICED_S)
        self._promote()
        self._address.move_to(self._primary.port, disconnect=not silent)

    def hand_over(self, lost_s: float = 0.0) -> None:
        """Let the replica take over while the primary lives; connections stay with it until it is demoted.

        What is written to it for `lost_s` after that is lost, as in a network that is parted.
        """
        self._cut_link()
        before = self._primary
        self._promote()
        self._address.move_to(self._primary.port, disconnect=False)
        time.sleep(lost_s)
        self.client(before).replicaof("127.0.0.1", str(self._primary.port))

    def rejoin(self) -> None:
        """Let the server that failed, or was demoted, follow the primary."""
        self._replica.kill()
        self._follow(self._replica)

    def kill(self) -> None:
        for server in self._servers:
            server.kill()
        for proxy in (self._address, self._link):
            proxy.close()

    def client(self, server: RedisServer | None = None) -> redis.Redis:
        """A client of one of the servers; default: the primary."""
        import redis

        return redis.Redis(port=(server or self._primary).port)

    def _promote(self) -> None:
        self.client(self._replica).replicaof("NO", "ONE")
        self._primary, self._replica = self._replica, self._primary

    def _cut_link(self) -> None:
        self._link.move_to(NOWHERE)

    def _follow(self, server: RedisServer) -> None:
        self._link.move_to(self._primary.port)
        server.start(*OPTIONS, "--replicaof", f"127.0.0.1 {self._link.port}")
        client = self.client(server)

        def follows() -> bool:
            state: Any = client.info("replication")
            return bool(state.get("master_link_status") == "up")

        _await(follows)


def _await(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + STARTS_S
    while not condition():
        assert time.monotonic() < end_s, "the replica does not follow"
        time.sleep(0.02)
