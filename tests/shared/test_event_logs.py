"""The log of events and the kernel's side of it, the same in this process and in Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from experiments.redis_server import RedisServer

from eccos_aios.shared import Event, EventLog, EventRelay, LocalEventLog, RedisEventLog
from eccos_aios.shared.events import START

WAIT_S = 10.0
MakeLog = Callable[[], EventLog]


@pytest.fixture(params=["local", pytest.param("redis", marks=pytest.mark.integration)])
def make_log(request: pytest.FixtureRequest) -> Iterator[MakeLog]:
    if request.param == "local":
        log = LocalEventLog()
        yield lambda: log
        return
    url = request.getfixturevalue("redis_server").url
    made: list[RedisEventLog] = []

    def make() -> EventLog:
        made.append(RedisEventLog(url, "test"))
        return made[-1]

    yield make
    for log in made:
        log.close()


class Inbox:
    """Collects what a relay hands on or writes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.events: list[Event] = []

    def __call__(self, *events: Event) -> None:
        with self.changed:
            self.events += events
            self.changed.notify_all()

    def write(self, events: Sequence[Event]) -> None:
        self(*events)

    def await_numbers(self, wanted: set[int]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: wanted <= {event.number for event in self.events}, WAIT_S), (
                self.events
            )


def outcome(kernel: str, number: int) -> Event:
    return Event(kernel, number, "outcome", {"call_id": f"{kernel}{number}"})


def test_events_are_read_in_order_by_every_kernel(make_log: MakeLog) -> None:
    log = make_log()
    end = log.end()
    assert end == START
    log.append([outcome("a", 1), outcome("a", 2)])
    log.append([outcome("b", 1)])
    first = log.read(end, 2, 0.1)
    assert [logged.event for logged in first] == [outcome("a", 1), outcome("a", 2)]
    assert [logged.event for logged in log.entries(first[-1].place, 10)] == [outcome("b", 1)]
    assert log.read(log.end(), 10, 0.05) == []


def test_reading_waits_for_the_next_event(make_log: MakeLog) -> None:
    log, other = make_log(), make_log()
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(log.read, START, 10, 1.0)
        other.append([outcome("a", 1)])
        assert [logged.event for logged in reading.result()] == [outcome("a", 1)]


def test_one_kernel_writes_until_its_lease_ends(make_log: MakeLog) -> None:
    log = make_log()
    place = log.append([outcome("a", 1)])[0]
    assert log.lead("a", 0.2)
    assert not log.lead("b", 0.2)
    assert log.note_written("a", place)
    assert not log.note_written("b", START)
    assert log.written() == place
    time.sleep(0.25)
    assert log.lead("b", 0.2)
    assert not log.note_written("a", START), "it has lost the lease"
    log.resign("b")
    assert log.lead("a", 0.2)


def await_places(relays: Sequence[EventRelay]) -> None:
    """Wait until each reads the log from its end."""
    deadline_s = time.monotonic() + WAIT_S
    while not all(relay._place for relay in relays) and time.monotonic() < deadline_s:
        time.sleep(0.01)


def test_every_kernel_learns_of_events_and_one_of_them_stores_each_once(make_log: MakeLog) -> None:
    learned, stored = [Inbox() for _ in range(3)], Inbox()
    relays = [EventRelay(make_log(), inbox, stored.write) for inbox in learned]
    for relay in relays:
        relay.start()
    try:
        await_places(relays)
        relays[0].send("outcome", {"call_id": "x"})
        relays[1].send("grade", {"call_id": "x", "quality": 1.0})
        for inbox in learned[1:]:
            inbox.await_numbers({1})
        with stored.changed:
            assert stored.changed.wait_for(lambda: len(stored.events) == 2, WAIT_S)
    finally:
        for relay in relays:
            relay.stop()
    assert sorted(event.kind for event in stored.events) == ["grade", "outcome"]
    assert [event.kind for event in learned[0].events] == ["grade"], "not its own"


def test_outcomes_survive_a_log_that_was_away_and_came_back_empty(redis_server: RedisServer) -> None:
    stored = Inbox()
    writable = threading.Event()

    def write(events: Sequence[Event]) -> None:
        if not writable.is_set():
            raise OSError("no disk yet")
        stored(*events)

    relay = EventRelay(RedisEventLog(redis_server.url, "test"), lambda event: None, write)
    relay.start()
    try:
        relay.send("outcome", {"call_id": "before"})
        deadline_s = time.monotonic() + WAIT_S
        while not relay._unwritten and time.monotonic() < deadline_s:
            time.sleep(0.01)
        redis_server.kill()
        relay.send("outcome", {"call_id": "meanwhile"})
        while not relay.degraded() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        writable.set()
        redis_server.start()
        stored.await_numbers({1, 2})
        while relay.degraded() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert relay.degraded() == []
    finally:
        relay.stop()


def test_events_are_heard_from_a_server_whose_clock_is_behind_that_of_the_one_before(
    redis_server: RedisServer,
) -> None:
    import redis

    def place_ahead() -> None:
        ahead_ms = int(1000 * (time.time() + 3600))
        fields = {"kernel": "c", "number": 1, "kind": "grade", "content": "{}"}
        redis.Redis(port=redis_server.port).xadd("{eccos:test}:events", fields, id=f"{ahead_ms}-0")

    heard = Inbox()
    relays = [EventRelay(RedisEventLog(redis_server.url, "test"), on_event) for on_event in (heard, Inbox())]
    for relay in relays:
        relay.start()
    try:
        await_places(relays)
        place_ahead()
        heard.await_numbers({1})
        redis_server.kill()
        redis_server.start()
        deadline_s = time.monotonic() + WAIT_S
        while len(heard.events) == 1 and time.monotonic() < deadline_s:
            relays[1].send("grade", {"call_id": "x", "quality": 1.0})
            time.sleep(0.01)
        assert len(heard.events) > 1
    finally:
        for relay in relays:
            relay.stop()
