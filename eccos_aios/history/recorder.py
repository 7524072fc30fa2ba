"""From the calls of a running kernel to the store, without slowing a call."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice
from types import TracebackType

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.errors import HistoryError
from eccos_aios.history.call_outcome import CallOutcome
from eccos_aios.history.store import HistoryStore
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

CAPACITY = 10_000  # outcomes that may wait for the disk
BATCH = 256  # outcomes that are committed at once
RETRY_S = 1.0  # seconds between two attempts at a store that cannot be written
ALONE = 3  # attempts at an outcome that a store which takes others does not take
ALONE_S = 0.05  # seconds between two of these; others wait meanwhile
LATE_S = 10.0  # seconds that a disk may take before somebody should know
CLOSE_S = 30.0  # seconds that `close` gives what still waits: three times what one writer waits for another
WRONG_VALUES = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


class OutcomeRecorder:
    """Takes outcomes from any thread at once; one thread writes them.

    The recorder owns the thread ``eccos-history-writer``: it begins here and ends with `close`. While the
    store cannot be written outcomes wait, and the thread tries again; what finds no room is dropped and
    counted, and so is what still waits when `close` has waited long enough. An outcome that the store does
    not take, whatever it raises, while it would take others, is dropped and counted alone.

    Parameters
    ----------
    store : HistoryStore
        Where they go. It stays the caller's, who closes it after the recorder.
    capacity : int
        Outcomes that may wait.
    clock : Clock, optional
    """

    def __init__(
        self, store: HistoryStore, *, capacity: int = CAPACITY, clock: Clock = MONOTONIC_CLOCK
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: {capacity}: must be at least 1")
        self._store = store
        self._capacity = capacity
        self._clock = clock
        # Guards every field below. Never held while the store is called.
        self._changed = threading.Condition()
        self._waiting: deque[CallOutcome] = deque()
        self._in_hand: list[CallOutcome] = []  # taken from those, neither on disk nor dropped
        self._since_s = 0.0  # when the first of these was taken
        self._reason = ""  # why they are not on disk
        self._accepted = 0
        self._settled = 0  # of the accepted, those that are on disk or dropped
        self._recorded = 0
        self._dropped = 0
        self._closed = False
        self._refused = False  # an outcome was dropped alone, and that was logged
        self._thread = SupervisedThread("eccos-history-writer", self._write, clock=clock)
        self._thread.start()

    def __enter__(self) -> OutcomeRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def recorded(self) -> int:
        """How many outcomes are on disk."""
        with self._changed:
            return self._recorded

    @property
    def dropped(self) -> int:
        """How many outcomes never reached the store: no room, closed, or not writable to the end."""
        with self._changed:
            return self._dropped

    @property
    def alive(self) -> bool:
        """Whether the thread that writes runs."""
        return self._thread.alive

    def restarts(self) -> list[str]:
        """The thread that writes, where it raised something unforeseen and went on, in a line."""
        return [note] if (note := self._thread.note()) else []

    def faults(self) -> list[str]:
        """What keeps outcomes from the disk at the moment, a line each; empty where nothing does."""
        with self._changed:
            since_s, reason = (self._clock.now_s() - self._since_s if self._in_hand else 0.0), self._reason
            closed = self._closed
        if not closed and not self.alive:
            return ["the history's writer has ended"]
        if reason or since_s > LATE_S:
            return [f"outcomes wait for the disk since {since_s:.0f} s: {reason or 'it does not answer'}"]
        return []

    def record(self, outcome: CallOutcome) -> bool:
        """Take an outcome; False where there is no room for it, and it is dropped and counted.

        Never waits for the disk.
        """
        with self._changed:
            if self._closed or len(self._waiting) >= self._capacity:
                self._dropped += 1
                return False
            self._waiting.append(outcome)
            self._accepted += 1
            self._changed.notify_all()
            return True

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was taken so far is on disk or dropped; False where the time ran out."""
        with self._changed:
            goal = self._accepted
            until_s = None if timeout_s is None else self._clock.now_s() + timeout_s
            return self._clock.wait_for(self._changed, lambda: self._settled >= goal, until_s)

    def give_quality(self, call_id: str, quality: float, timeout_s: float = CLOSE_S) -> None:
        """As `HistoryStore.give_quality`, also for a call whose outcome is still on its way to the store.

        Raises
        ------
        HistoryError
            As `HistoryStore.give_quality`.
        """
        self.flush(timeout_s)
        self._store.give_quality(call_id, quality)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Take no more, write what waits, end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.end()
        self._thread.join(timeout_s)
        with self._changed:
            late = len(self._waiting)
            self._waiting.clear()
            self._settled += late
            self._dropped += late
            self._changed.notify_all()
        if late:
            logger.warning("%d outcomes are lost: the store was not writable in time", late)

    def _write(self) -> None:
        while batch := self._next_batch():
            if not self._written(batch):
                for outcome in batch:
                    self._write_alone(outcome)

    def _next_batch(self) -> list[CallOutcome]:
        """What is to be written now: first what was in hand when the thread was begun again."""
        with self._changed:
            self._clock.wait_for(self._changed, lambda: bool(self._in_hand or self._waiting or self._closed))
            if not self._in_hand:
                self._since_s = self._clock.now_s()
                self._in_hand = list(islice(self._waiting, BATCH))
                for _ in self._in_hand:
                    self._waiting.popleft()
            return list(self._in_hand)

    def _written(self, batch: Sequence[CallOutcome]) -> bool:
        """Write outcomes, trying as long as the store takes none; False where it is these that it refuses."""
        while True:
            with self._changed:
                last = self._closed  # once closed, a store that cannot be written gets one attempt more
            fault = self._attempt(batch)
            if fault is None:
                self._settle(len(batch), recorded=True)
                return True
            if not _is_of_the_store(fault) and self._attempt(()) is None:
                return False
            if last:
                logger.warning("%d outcomes are lost: %s", len(batch), _cause(fault))
                self._settle(len(batch), recorded=False)
                return True
            with self._changed:
                first, self._reason = not self._reason, _cause(fault).removeprefix(f"{self._store.path}: ")
            if first:
                logger.warning("outcomes wait, trying again every %g s: %s", RETRY_S, _cause(fault))
            with self._changed:
                self._clock.wait_for(self._changed, lambda: self._closed, self._clock.now_s() + RETRY_S)

    def _write_alone(self, outcome: CallOutcome) -> None:
        """Write one outcome of a batch that was refused, or drop it where it is the one."""
        for attempt in range(ALONE):
            if attempt:
                self._clock.sleep(ALONE_S)
            if self._written((outcome,)):
                return
        with self._changed:
            first, self._refused = not self._refused, True
        if first:
            logger.warning(
                "an outcome is lost: the store does not take it, though it takes others (logged once)"
            )
        self._settle(1, recorded=False)

    def _attempt(self, batch: Sequence[CallOutcome]) -> BaseException | None:
        try:
            self._store.append_outcomes(batch)
        except BaseException as fault:  # noqa: BLE001 - whatever one outcome raises must not cost the others
            return fault
        return None

    def _settle(self, count: int, *, recorded: bool) -> None:
        """The first of those in hand are on disk, or dropped."""
        with self._changed:
            del self._in_hand[:count]
            self._settled += count
            if recorded:
                self._recorded += count
            else:
                self._dropped += count
            self._since_s, self._reason = self._clock.now_s(), ""
            self._changed.notify_all()


def _is_of_the_store(fault: BaseException) -> bool:
    """Whether a fault is known to keep all outcomes from the disk, and not these alone."""
    return isinstance(fault, HistoryError) and not isinstance(fault.__cause__, WRONG_VALUES)


def _cause(fault: BaseException) -> str:
    """A fault in a line; never the message of one that is not ours, which may repeat what was asked."""
    return str(fault) if isinstance(fault, HistoryError) else type(fault).__name__
