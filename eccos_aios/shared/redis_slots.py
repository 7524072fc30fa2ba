"""RedisSlotTable: the table of leases in Redis, for the kernels of any number of processes and machines."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from eccos_aios.shared.connection import RedisConnection, SharedUnavailableError, key_prefix
from eccos_aios.shared.slots import (
    GAP_S,
    GAP_SHARE,
    RECLAIM_S,
    SILENT_S,
    STALE_S,
    Answer,
    CoreClaim,
    CoreGrant,
    Exchange,
)

SCRIPT = files("eccos_aios.shared").joinpath("exchange.lua").read_text(encoding="utf-8")


class RedisSlotTable:
    """`SlotTable` in Redis: an exchange is one Lua script, timed by the server's clock.

    A core's leases are a sorted set of ``kernel:token`` by expiry. `exchange` and `wait` have a connection
    each, and are called by one thread each.

    Parameters
    ----------
    url : str
    name : str
        The kernels of one name share their cores.
    """

    def __init__(self, url: str, name: str) -> None:
        self._prefix = key_prefix(name)
        self._connection = RedisConnection(url)
        self._script = self._connection.client.register_script(SCRIPT)
        self._wakeups = RedisConnection(url)
        self._subscription: Any = None
        self._subscribed = 0  # connections that exchanges had made by then

    def exchange(self, exchange: Exchange) -> Answer:
        """As `SlotTable.exchange`."""
        cores = list(exchange.claims)
        keys = [self._prefix + key for key in ("meta", "kernels", "numbers", "awaited")]
        for core in cores:
            keys += [f"{self._prefix}leases:{core}", f"{self._prefix}needs:{core}"]
        content = {
            "kernel": exchange.kernel,
            "number": exchange.number,
            "lease_ms": int(exchange.lease_s * 1000),
            "reclaim_ms": int(RECLAIM_S * 1000),
            "gap_ms": int(1000 * min(GAP_S, GAP_SHARE * exchange.lease_s)),
            "silent_ms": int(SILENT_S * 1000),
            "stale_ms": int(STALE_S * 1000),
            "known": list(exchange.known),
            "leaves": exchange.leaves,
            "server": self._connection.server(),
            "channel": f"{self._prefix}wakeup:",
            "cores": cores,
            "claims": {core: _content(claim) for core, claim in exchange.claims.items()},
        }
        arguments = [json.dumps(content)]
        reply: Any = self._connection.call(lambda _: self._script(keys=keys, args=arguments))
        answer = json.loads(reply)
        if answer.get("late"):
            raise SharedUnavailableError("the exchange came after a later one")
        grants = {core: _grant(grant) for core, grant in dict(answer["grants"]).items()}
        return Answer(grants, tuple(answer["kernels"]), bool(answer["reclaiming"]))

    def wait(self, kernel: str, timeout_s: float) -> bool:
        """As `SlotTable.wait`."""
        # Nobody may have closed a connection to a server that is gone, but an exchange notices.
        connects = self._connection.connects
        if connects > max(1, self._subscribed):
            self._unsubscribe()
        try:
            if self._subscription is None:
                self._subscribed = connects
                client: Any = self._wakeups.client
                self._subscription = client.pubsub(ignore_subscribe_messages=True)
                channel = f"{self._prefix}wakeup:{kernel}"
                self._wakeups.call(lambda _: self._subscription.subscribe(channel))
            message = self._wakeups.call(lambda _: self._subscription.get_message(timeout=timeout_s))
        except SharedUnavailableError:
            self._unsubscribe()
            raise
        return message is not None

    def close(self) -> None:
        """As `SlotTable.close`."""
        self._connection.close()
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._wakeups.close()


def _content(claim: CoreClaim) -> dict[str, object]:
    return {
        "quota": claim.quota,
        "used": list(claim.used),
        "idle": list(claim.idle),
        "pending": claim.pending,
    }


def _grant(content: dict[str, Any]) -> CoreGrant:
    # Lua does not distinguish an empty list from an empty mapping.
    return CoreGrant(
        tuple(content["granted"]),
        tuple(content["lost"]),
        content["share"],
        content["recalled"],
        content["waiting"],
        content["quota"],
        content["most_quota"],
    )
