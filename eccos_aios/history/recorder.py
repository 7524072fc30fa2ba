"""OutcomeRecorder: writes the outcomes of a running kernel to the store without slowing a call."""

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
from eccos_aios.log_once import LogOnce
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

CAPACITY = 10_000  # outcomes that may wait for the disk
BATCH = 256  # outcomes of one commit
RETRY_S = 1.0  # seconds between two attempts at a store that cannot be written
SINGLE_ATTEMPTS = 3  # at an outcome that the store rejects while it accepts others
SINGLE_RETRY_S = 0.05  # seconds between two of these; other outcomes wait meanwhile
LATE_S = 10.0  # seconds that a disk may take before the delay is reported as a fault
CLOSE_S = 30.0  # seconds that `close` waits for the disk: three times what one writer waits for another
WRONG_VALUES = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


class OutcomeRecorder:
    """Accepts outcomes from any thread without waiting; one thread writes them.

    The recorder owns the thread ``eccos-history-writer``, which starts here and ends with `close`. While the
    store cannot be written, outcomes wait and the thread retries; outcomes beyond the capacity, and those
    still waiting at the end of `close`, are dropped and counted. An outcome that the store rejects while it
    accepts others is dropped and counted on its own.

    Parameters
    ----------
    store : HistoryStore
        Owned by the caller, who closes it after the recorder.
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
        self._batch: list[CallOutcome] = []  # taken from those, neither on disk nor dropped
        self._since_s = 0.0  # when the first of these was taken
        self._reason = ""  # why they are not on disk
        self._accepted = 0
        self._settled = 0  # of the accepted, those that are on disk or dropped
        self._recorded = 0
        self._dropped = 0
        self._closed = False
        self._log = LogOnce(logger)
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
        """How many outcomes never reached the store: beyond the capacity, too late, or not writable."""
        with self._changed:
            return self._dropped

    @property
    def alive(self) -> bool:
        """Whether the writing thread runs."""
        return self._thread.alive

    def restarts(self) -> list[str]:
        """A line about the writing thread if an unexpected exception restarted it."""
        return [note] if (note := self._thread.note()) else []

    def faults(self) -> list[str]:
        """Reasons why outcomes are not written, a line each; empty if all is well."""
        with self._changed:
            since_s, reason = (self._clock.now_s() - self._since_s if self._batch else 0.0), self._reason
            closed = self._closed
        if not closed and not self.alive:
            return ["the history's writer has ended"]
        if reason or since_s > LATE_S:
            return [
                f"outcomes have waited for the disk for {since_s:.0f} s: {reason or 'it does not answer'}"
            ]
        return []

    def record(self, outcome: CallOutcome) -> bool:
        """Accept an outcome without waiting for the disk; False if it is dropped and counted instead."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._capacity:
                self._dropped += 1
                return False
            self._waiting.append(outcome)
            self._accepted += 1
            self._changed.notify_all()
            return True

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all outcomes accepted so far are on disk or dropped; False if the time ran out."""
        with self._changed:
            goal = self._accepted
            until_s = None if timeout_s is None else self._clock.now_s() + timeout_s
            return self._clock.wait_for(self._changed, lambda: self._settled >= goal, until_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Stop accepting outcomes, write the waiting ones, end the thread."""
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
                    self._write_single(outcome)

    def _next_batch(self) -> list[CallOutcome]:
        """The next outcomes to write; after a restart of the thread first the batch that it had."""
        with self._changed:
            self._clock.wait_for(self._changed, lambda: bool(self._batch or self._waiting or self._closed))
            if not self._batch:
                self._since_s = self._clock.now_s()
                self._batch = list(islice(self._waiting, BATCH))
                for _ in self._batch:
                    self._waiting.popleft()
            return list(self._batch)

    def _written(self, batch: Sequence[CallOutcome]) -> bool:
        """Write outcomes, retrying while the store accepts none; False if it rejects just these."""
        while True:
            with self._changed:
                last = self._closed  # after `close`, a store that cannot be written gets one more attempt
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
                logger.warning("outcomes wait for the store, retrying every %g s: %s", RETRY_S, _cause(fault))
            with self._changed:
                self._clock.wait_for(self._changed, lambda: self._closed, self._clock.now_s() + RETRY_S)

    def _write_single(self, outcome: CallOutcome) -> None:
        """Write one outcome of a batch that was rejected, or drop it if the store rejects it too."""
        for attempt in range(SINGLE_ATTEMPTS):
            if attempt:
                self._clock.sleep(SINGLE_RETRY_S)
            if self._written((outcome,)):
                return
        self._log.warning("rejected", "an outcome is lost: the store rejects it while it accepts others")
        self._settle(1, recorded=False)

    def _attempt(self, batch: Sequence[CallOutcome]) -> BaseException | None:
        try:
            self._store.append_outcomes(batch)
        except BaseException as fault:  # noqa: BLE001 - one outcome must not cost the others, whatever it raises
            return fault
        return None

    def _settle(self, count: int, *, recorded: bool) -> None:
        """Note that the first of the batch are on disk, or dropped."""
        with self._changed:
            del self._batch[:count]
            self._settled += count
            if recorded:
                self._recorded += count
            else:
                self._dropped += count
            self._since_s, self._reason = self._clock.now_s(), ""
            self._changed.notify_all()


def _is_of_the_store(fault: BaseException) -> bool:
    """Whether a fault keeps all outcomes from the disk, and not just these."""
    return isinstance(fault, HistoryError) and not isinstance(fault.__cause__, WRONG_VALUES)


def _cause(fault: BaseException) -> str:
    """A fault in a line; without the message of foreign exceptions, which may repeat the query."""
    return str(fault) if isinstance(fault, HistoryError) else type(fault).__name__
