"""RedisEventLog: the log of kernels as a Redis stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eccos_aios.shared.connection import TIMEOUT_S, RedisConnection, key_prefix
from eccos_aios.shared.events import START, Event, LoggedEvent

CAPACITY = 100_000  # events; older ones are trimmed, written or not

LEAD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
RESIGN = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
NOTE_WRITTEN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


class RedisEventLog:
    """`EventLog` as a Redis stream. `read` and `end` have a connection of their own, for another thread.

    Parameters
    ----------
    url : str
    name : str
        The kernels of one name share their events.
    """

    def __init__(self, url: str, name: str) -> None:
        prefix = key_prefix(name)
        self._stream, self._leader, self._written = (
            prefix + key for key in ("events", "writer", "events-written")
        )
        self._connection = RedisConnection(url)
        # Its answers come late on purpose: `read` waits in the server.
        self._reading = RedisConnection(url, timeout_s=TIMEOUT_S + 1.0)
        client = self._connection.client
        self._lead, self._resign, self._note = map(client.register_script, (LEAD, RESIGN, NOTE_WRITTEN))

    def append(self, events: Sequence[Event]) -> list[str]:
        """As `EventLog.append`."""
        if not events:
            return []

        def add(client: Any) -> list[bytes]:
            with client.pipeline(transaction=True) as pipeline:
                for event in events:
                    pipeline.xadd(self._stream, _fields(event), maxlen=CAPACITY, approximate=True)
                places: list[bytes] = pipeline.execute()
                return places

        return [place.decode() for place in self._connection.call(add)]

    def read(self, after: str, count: int, timeout_s: float) -> list[LoggedEvent]:
        """As `EventLog.read`; waits for a second at most."""
        wait_ms = max(1, int(1000 * min(timeout_s, 1.0)))
        found: Any = self._reading.call(
            lambda client: client.xread({self._stream: after}, count=count, block=wait_ms)
        )
        return [_logged(entry) for _, entries in found or () for entry in entries]

    def entries(self, after: str, count: int) -> list[LoggedEvent]:
        """As `EventLog.entries`."""
        found: Any = self._connection.call(
            lambda client: client.xrange(self._stream, min=f"({after}", count=count)
        )
        return [_logged(entry) for entry in found]

    def end(self) -> str:
        """As `EventLog.end`."""
        found: Any = self._reading.call(lambda client: client.xrevrange(self._stream, count=1))
        return found[0][0].decode() if found else START

    def lead(self, kernel: str, lease_s: float) -> bool:
        """As `EventLog.lead`."""
        arguments: list[str | int] = [kernel, int(1000 * lease_s)]
        return bool(self._connection.call(lambda _: self._lead(keys=[self._leader], args=arguments)))

    def resign(self, kernel: str) -> None:
        """As `EventLog.resign`."""
        self._connection.call(lambda _: self._resign(keys=[self._leader], args=[kernel]))

    def written(self) -> str:
        """As `EventLog.written`."""
        place: Any = self._connection.call(lambda client: client.get(self._written))
        return START if place is None else place.decode()

    def note_written(self, kernel: str, place: str) -> bool:
        """As `EventLog.note_written`."""
        keys = [self._leader, self._written]
        return bool(self._connection.call(lambda _: self._note(keys=keys, args=[kernel, place])))

    def generation(self) -> str:
        """As `EventLog.generation`."""
        return self._connection.server()

    def close(self) -> None:
        """As `EventLog.close`."""
        self._connection.close()
        self._reading.close()


def _fields(event: Event) -> dict[Any, Any]:
    content = json.dumps(event.content, allow_nan=False)
    return {"kernel": event.kernel, "number": event.number, "kind": event.kind, "content": content}


def _logged(entry: tuple[bytes, dict[bytes, bytes]]) -> LoggedEvent:
    place, fields = entry
    kind: Any = fields[b"kind"].decode()
    content = json.loads(fields[b"content"])
    event = Event(fields[b"kernel"].decode(), int(fields[b"number"]), kind, content)
    return LoggedEvent(place.decode(), event)
