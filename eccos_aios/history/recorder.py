"""From the calls of a running kernel to the store, without slowing a call."""

from __future__ import annotations

import logging
import threading
from collections import deque
from types import TracebackType

from eccos_aios.errors import HistoryError
from eccos_aios.history.call_outcome import CallOutcome
from eccos_aios.history.store import HistoryStore

logger = logging.getLogger(__name__)

CAPACITY = 10_000  # outcomes that may wait for the disk
BATCH = 256  # outcomes that are committed at once
RETRY_S = 1.0  # seconds between two attempts at a store that cannot be written
CLOSE_S = 30.0  # seconds that `close` gives what still waits: three times what one writer waits for another


class OutcomeRecorder:
    """Takes outcomes from any thread at once; one thread writes them.

    The recorder owns the thread ``eccos-history-writer``: it begins here and ends with `close`. While the
    store cannot be written outcomes wait, and the thread tries again; what finds no room is dropped and
    counted, and so is what still waits when `close` has waited long enough.

    Parameters
    ----------
    store : HistoryStore
        Where they go. It stays the caller's, who closes it after the recorder.
    capacity : int
        Outcomes that may wait.
    """

    def __init__(self, store: HistoryStore, *, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: {capacity}: must be at least 1")
        self._store = store
        self._capacity = capacity
        # Guards every field below. Never held while the store is called.
        self._changed = threading.Condition()
        self._waiting: deque[CallOutcome] = deque()
        self._accepted = 0
        self._settled = 0  # of the accepted, those that are on disk or dropped
        self._recorded = 0
        self._dropped = 0
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="eccos-history-writer", daemon=True)
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
            return self._changed.wait_for(lambda: self._settled >= goal, timeout_s)

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
            stored = self._persist(batch)
            with self._changed:
                self._settled += len(batch)
                if stored:
                    self._recorded += len(batch)
                else:
                    self._dropped += len(batch)
                self._changed.notify_all()

    def _next_batch(self) -> list[CallOutcome]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _persist(self, batch: list[CallOutcome]) -> bool:
        """Write a batch, trying until it is written or nobody waits for it any more."""
        told = False
        while True:
            with self._changed:
                last = self._closed  # once closed, a store that cannot be written gets one attempt more
            try:
                self._store.append_outcomes(batch)
            except HistoryError as error:
                if last:
                    logger.warning("%d outcomes are lost: %s", len(batch), error)
                    return False
                if not told:
                    logger.warning("outcomes wait, trying again every %g s: %s", RETRY_S, error)
                told = True
            else:
                return True
            with self._changed:
                self._changed.wait_for(lambda: self._closed, RETRY_S)
