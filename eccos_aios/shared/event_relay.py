"""EventRelay: sends this kernel's events to the log and hands on those of others, on threads of its own."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.log_once import LogOnce
from eccos_aios.shared.connection import SharedUnavailableError
from eccos_aios.shared.events import Event, EventKind, EventLog, LoggedEvent, place_order
from eccos_aios.shared.slots import LEASE_S
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

CAPACITY = 10_000  # events that wait for the log, or for the store
BATCH = 256
TICK_S = 0.5  # seconds between two looks at who writes, and what is written
RETRY_S = 0.2
JOIN_S = 3.0

OnEvent = Callable[[Event], None]
Write = Callable[[Sequence[Event]], None]


class EventRelay:
    """Two threads: ``eccos-events`` appends, and in one kernel of all writes to the store; the other,
    ``eccos-event-reader``, calls `on_event` with each event of another kernel, once.

    An event is remembered until it is in the store, and appended again if the log was lost before. Events
    beyond `CAPACITY` are dropped and counted.

    Parameters
    ----------
    log : EventLog
    on_event : callable
        Must not block for long; an exception is logged.
    write : callable, optional
        Stores events, this kernel's own among them. It must accept an event twice. What it raises is
        retried. None: there is no store.
    on_tick : callable, optional
        Called each half second by the first thread, to send what is sent regularly.
    kernel : str, optional
        Default: a new UUID.
    lease_s : float
        Seconds after which another kernel writes if the one that writes has ended.
    clock : Clock, optional
    """

    def __init__(
        self,
        log: EventLog,
        on_event: OnEvent,
        write: Write | None = None,
        *,
        on_tick: Callable[[], None] = lambda: None,
        kernel: str | None = None,
        lease_s: float = LEASE_S,
        clock: Clock = MONOTONIC_CLOCK,
    ) -> None:
        self.kernel = kernel or uuid.uuid4().hex
        self._log = log
        self._on_event = on_event
        self._write = write
        self._on_tick = on_tick
        self._lease_s = lease_s
        self._clock = clock
        self._changed = threading.Condition()  # guards everything down to `_looks`
        self._waiting: deque[Event] = deque()
        self._number = 0
        self._dropped = 0
        self._stopping = False
        self._leads = False
        self._fault = ""
        self._looks = 0  # at the store
        self._unwritten: deque[LoggedEvent] = deque(maxlen=CAPACITY)  # used by the first thread only
        self._generation = ""  # likewise
        self._store_at_s = float("-inf")  # likewise; when the store is looked at next
        self._place: str | None = None  # used by the second thread only
        self._seen: dict[str, int] = {}  # likewise; the last number by kernel
        self._log_once = LogOnce(logger)
        self._threads = (
            SupervisedThread("eccos-events", self._run, clock=clock),
            SupervisedThread("eccos-event-reader", self._read, clock=clock),
        )

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Append what waits, if the log answers, and end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.end()
        ended = [thread.join(JOIN_S) for thread in self._threads]
        if all(ended):
            self._log.close()

    def send(self, kind: EventKind, content: dict[str, Any]) -> bool:
        """Queue an event without waiting; False if it is dropped."""
        with self._changed:
            if len(self._waiting) >= CAPACITY:
                self._dropped += 1
                return False
            self._number += 1
            self._waiting.append(Event(self.kernel, self._number, kind, content))
            self._changed.notify_all()
            return True

    def settle(self, timeout_s: float) -> bool:
        """Wait until what has happened so far is in the store, whichever kernel writes; False on a timeout.

        The others look as often as this kernel does, so three looks here mean one there.
        """
        with self._changed:
            wanted, until_s = self._looks + 3, self._clock.now_s() + timeout_s
            return self._clock.wait_for(
                self._changed, lambda: self._looks >= wanted or self._stopping, until_s
            )

    @property
    def leads(self) -> bool:
        """Whether this is the kernel that writes the store and fits."""
        with self._changed:
            return self._leads

    @property
    def dropped(self) -> int:
        """Number of events that were never logged."""
        with self._changed:
            return self._dropped

    def degraded(self) -> list[str]:
        """Why events are late, a line each; empty where they are not."""
        with self._changed:
            waiting, fault = len(self._waiting), self._fault
        lines = [f"{waiting} outcomes and changes of cores wait for the shared log: {fault}"] if fault else []
        return lines + [note for thread in self._threads if (note := thread.note())]

    def _run(self) -> None:
        while True:
            with self._changed:
                until_s = self._clock.now_s() + TICK_S
                self._clock.wait_for(self._changed, lambda: bool(self._waiting) or self._stopping, until_s)
                stopping = self._stopping
            is_tick = stopping or self._clock.now_s() >= self._store_at_s
            if is_tick:
                self._on_tick()
            try:
                self._check_generation()
                self._append_waiting()
                if is_tick:
                    self._write_to_store()
                    self._store_at_s = self._clock.now_s() + TICK_S
                    with self._changed:
                        self._looks += 1
                        self._changed.notify_all()
                self._note_fault("")
                if stopping:
                    self._log.resign(self.kernel)
                    return
            except SharedUnavailableError as error:
                self._note_fault(str(error))
                if stopping:
                    return
                self._pause()

    def _check_generation(self) -> None:
        """Append again what a log that was lost held, and the store does not."""
        generation = self._log.generation()
        if self._generation and generation != self._generation:
            # A reader recognises an event that it has seen.
            again = [logged.event for logged in self._unwritten]
            places = self._log.append(again)
            self._unwritten = deque(map(LoggedEvent, places, again), maxlen=CAPACITY)
        self._generation = generation

    def _append_waiting(self) -> None:
        while True:
            with self._changed:
                batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
            if not batch:
                return
            places = self._log.append(batch)
            self._unwritten.extend(map(LoggedEvent, places, batch))
            with self._changed:
                for _ in batch:
                    self._waiting.popleft()

    def _write_to_store(self) -> None:
        """Write if this kernel leads; forget what is written in any case."""
        write = self._write
        leads = write is not None and self._log.lead(self.kernel, self._lease_s)
        with self._changed:
            self._leads = leads
        place = self._log.written()
        if leads and write is not None:
            place = self._write_after(place, write)
        written = place_order(place)
        while self._unwritten and place_order(self._unwritten[0].place) <= written:
            self._unwritten.popleft()

    def _write_after(self, place: str, write: Write) -> str:
        while batch := self._log.entries(place, BATCH):
            try:
                write([logged.event for logged in batch])
            except Exception as error:  # noqa: BLE001 - a store may fail in any way, and is tried again
                self._log_once.warning(
                    type(error).__name__, "the store cannot be written; outcomes wait", exc_info=error
                )
                return place
            place = batch[-1].place
            if not self._log.note_written(self.kernel, place):
                with self._changed:
                    self._leads = False
                return place
        return place

    def _read(self) -> None:
        is_back = False
        while True:
            with self._changed:
                if self._stopping:
                    return
            try:
                if self._place is None:
                    self._place = self._log.end()
                elif is_back:
                    # Places are times of the server's clock, and another server's may be behind.
                    self._place = min(self._place, self._log.end(), key=place_order)
                is_back = False
                batch = self._log.read(self._place, BATCH, TICK_S)
            except SharedUnavailableError:  # the other thread reports it
                is_back = True
                self._pause()
                continue
            for logged in batch:
                self._place = logged.place
                self._hand_on(logged.event)

    def _hand_on(self, event: Event) -> None:
        if event.kernel == self.kernel or event.number <= self._seen.get(event.kernel, 0):
            return
        self._seen[event.kernel] = event.number
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001 - one event must not cost the others
            self._log_once.error(type(error).__name__, "an event of another kernel", exc_info=error)

    def _note_fault(self, fault: str) -> None:
        with self._changed:
            self._fault = fault
            if fault:
                self._leads = False

    def _pause(self) -> None:
        with self._changed:
            until_s = self._clock.now_s() + RETRY_S
            self._clock.wait_for(self._changed, lambda: self._stopping, until_s)
