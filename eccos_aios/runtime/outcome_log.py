"""OutcomeLog: the outcomes of a running service's calls, in its store and, the latest of them, in memory."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.config import EccosConfig
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import CallOutcome, HistoryStore, OutcomeRecorder
from eccos_aios.history.schema import is_store
from eccos_aios.log_once import LogOnce
from eccos_aios.predict import embedding_of
from eccos_aios.runtime.sharing import KernelSharing

logger = logging.getLogger(__name__)

REMEMBERED_OUTCOMES = 1000
FLUSH_S = 10.0  # seconds that feedback waits for outcomes that are on their way to the store


def open_store(config: EccosConfig) -> HistoryStore | None:
    """The store that the config names as its history, created if absent; None if it names none.

    Raises
    ------
    HistoryError
        It cannot be opened or made.
    """
    if config.history is None or not is_store(config.history):
        return None
    return HistoryStore(config.history, store_text=config.store_text, embed=embedding_of)


class OutcomeLog:
    """Owns the store that outcomes are written to, and its recorder; the store may be swapped at any time.

    Without a store the latest outcomes are remembered all the same. Any thread may call any method.

    Parameters
    ----------
    clock : Clock, optional
    sharing : KernelSharing, optional
        Where outcomes and grades go instead of the store; one of the kernels writes them there.
    """

    def __init__(self, clock: Clock = MONOTONIC_CLOCK, sharing: KernelSharing | None = None) -> None:
        self._clock = clock
        self._sharing = sharing
        # Guards every field below. Held while a recorder accepts an outcome, which never waits, so that no
        # outcome meets a recorder that has just been closed.
        self._changed = threading.Condition()
        self._store: HistoryStore | None = None
        self._recorder: OutcomeRecorder | None = None
        self._identity: tuple[object, ...] | None = None
        self._closed: list[OutcomeRecorder] = []  # of the stores before this one
        self._completing: dict[str, str] = {}  # id to agent of calls that are answered, not yet recorded
        self._recent: OrderedDict[str, CallOutcome] = OrderedDict()
        self._stages: dict[str, list[str]] = {}  # by call, the ids of its other stages' outcomes
        self._failed = 0  # outcomes that could not be made
        self._log = LogOnce(logger)

    @property
    def is_shared(self) -> bool:
        """Whether outcomes are shared with other kernels."""
        return self._sharing is not None

    @property
    def has_store(self) -> bool:
        """Whether outcomes are written to a store."""
        with self._changed:
            return self._store is not None

    def writes_to(self, path: Path | None) -> bool:
        """Whether that is the file that outcomes are written to now."""
        with self._changed:
            identity = self._identity
        return path is not None and path.exists() and identity is not None and identity[0] == _file(path)

    def write_to(self, store: HistoryStore | None) -> None:
        """Write to a store from now on, and own it; on return all earlier outcomes are on disk.

        If it is the same file as before, with the same `store_text`, the open one stays in use.
        """
        identity = None if store is None else _identity(store)
        with self._changed:
            same = identity is not None and identity == self._identity
        if same and store is not None:
            store.close()
            return
        # Raises if no thread can be started.
        writes = store is not None and self._sharing is None
        following = OutcomeRecorder(store, clock=self._clock) if store is not None and writes else None
        with self._changed:
            before, recorder = self._store, self._recorder
            self._store, self._identity, self._recorder = store, identity, following
            self._closed += [] if recorder is None else [recorder]
        _close(recorder, before)

    def close(self) -> None:
        """Write the waiting outcomes, end the recorder, close the store; may be repeated."""
        with self._changed:
            recorder, store = self._recorder, self._store
        _close(recorder, store)

    @contextmanager
    def completing(self, call_id: str, agent: str) -> Iterator[None]:
        """Delay feedback on a call until it is answered and recorded, which the body does."""
        with self._changed:
            self._completing[call_id] = agent
        try:
            yield
        finally:
            with self._changed:
                del self._completing[call_id]
                self._changed.notify_all()

    def record(self, make: Callable[[], CallOutcome | None], *, stage_of: str | None = None) -> None:
        """Record an outcome; never waits for the disk, never raises.

        Parameters
        ----------
        make : callable
            Makes the outcome; None: there is none. Where it raises, the outcome is lost and counted.
        stage_of : str, optional
            The id of the call, where this is the answer of a stage of its plan that was not given.
        """
        outcome, error = None, None
        try:
            outcome = make()
        except BaseException as fault:  # noqa: BLE001 - queries may hold anything; the call is answered already
            error = fault
        if outcome is None and error is None:
            return
        with self._changed:
            recorder = self._recorder
            if outcome is None:
                self._failed += recorder is not None
                stored = recorder is None
            else:
                self._remember(outcome, stage_of)
                stored = recorder is None or recorder.record(outcome)
        if outcome is not None and self._sharing is not None:
            stored = self._sharing.send_outcome(outcome, stage_of)
        if not stored:
            why = "the store cannot be written as fast" if error is None else type(error).__name__
            self._log.warning("lost", "an outcome is not stored: %s; /eccos/status counts them", why)

    def grade(self, call_id: str, quality: float) -> CallOutcome | None:
        """Set the quality, 0 to 1, of a finished call; with a store it is on disk on return.

        Returns
        -------
        CallOutcome or None
            The call's outcome with that quality, if it is remembered.

        Raises
        ------
        HistoryError
            With the key ``call_id``: the store holds no such call. With no key: it cannot be written.
        """
        store = self._flushed(lambda: call_id not in self._completing)
        if self._sharing is not None:
            self._sharing.send_grade(call_id, quality)
        elif store is not None:
            store.give_quality(call_id, quality)
        return self.note_grade(call_id, quality)

    def remember(self, outcome: CallOutcome, stage_of: str | None) -> None:
        """Remember another kernel's outcome, so that feedback on it can be learned here; as `record`."""
        with self._changed:
            self._remember(outcome, stage_of)

    def note_grade(self, call_id: str, quality: float) -> CallOutcome | None:
        """The outcome of a call with its quality, if it is remembered."""
        with self._changed:
            outcome = self._recent.get(call_id)
            if outcome is None:
                return None
            self._recent[call_id] = graded = outcome.model_copy(update={"quality": quality})
            return graded

    def stages_of(self, call_id: str) -> list[CallOutcome]:
        """The answers of a call's other stages, where they are remembered."""
        with self._changed:
            ids = self._stages.get(call_id, ())
            return [self._recent[stage_id] for stage_id in ids if stage_id in self._recent]

    def _remember(self, outcome: CallOutcome, stage_of: str | None) -> None:
        """Remember an outcome, and forget the oldest beyond the limit; the lock is held."""
        self._recent[outcome.call_id] = outcome
        if stage_of is not None:
            self._stages.setdefault(stage_of, []).append(outcome.call_id)
        if len(self._recent) > REMEMBERED_OUTCOMES:
            forgotten, _ = self._recent.popitem(last=False)
            for call_id in (forgotten, forgotten.rpartition("/")[0]):
                self._stages.pop(call_id, None)

    def agent_of(self, call_id: str) -> str | None:
        """The agent of a call, if it is remembered."""
        with self._changed:
            outcome = self._recent.get(call_id)
        return None if outcome is None else outcome.agent

    def latest_call(self, agent: str) -> str | None:
        """The id of the agent's call that finished last, from the store; None without a store.

        Raises
        ------
        HistoryError
            With the key ``agent``: the store holds no call of this agent. With no key: it is unreadable.
        """
        with self._changed:
            calls = {call_id for call_id, name in self._completing.items() if name == agent}
            if self._sharing is not None:  # the store lags behind
                for call_id, outcome in reversed(self._recent.items()):
                    if outcome.agent == agent and call_id.rpartition("/")[0] not in self._recent:
                        return call_id
        store = self._flushed(lambda: calls.isdisjoint(self._completing))
        return None if store is None else store.latest_call(agent)

    def restarts(self) -> list[str]:
        """A line about each writing thread that an unexpected exception restarted."""
        return [note for recorder in self._recorders() for note in recorder.restarts()]

    def faults(self) -> list[str]:
        """What currently keeps outcomes from the disk, a line each."""
        with self._changed:
            recorder = self._recorder
        return [] if recorder is None else recorder.faults()

    def status(self) -> dict[str, object]:
        """The ``history`` of ``/eccos/status``: the store's file, outcomes on disk, outcomes lost.

        Where kernels share, ``recorded`` are those of all live kernels.
        """
        recorders = self._recorders()
        shared = 0 if self._sharing is None else self._sharing.recorded
        with self._changed:
            place = {} if self._store is None else {"path": self._store.path.name}
            failed = self._failed
        return {
            **place,
            "recorded": sum(recorder.recorded for recorder in recorders) + shared,
            "dropped": failed + sum(recorder.dropped for recorder in recorders),
        }

    def _recorders(self) -> list[OutcomeRecorder]:
        with self._changed:
            return [*self._closed, *([] if self._recorder is None else [self._recorder])]

    def _flushed(self, is_recorded: Callable[[], bool]) -> HistoryStore | None:
        """The store, once the calls in question are recorded and all recorded outcomes are on disk."""
        with self._changed:
            done = self._clock.wait_for(self._changed, is_recorded, self._clock.now_s() + FLUSH_S)
            recorder, store = self._recorder, self._store
        if recorder is not None and store is not None and not (done and recorder.flush(FLUSH_S)):
            raise HistoryError(str(store.path), "", ABSENT, "the store cannot be written at the moment")
        return store


def _identity(store: HistoryStore) -> tuple[object, ...]:
    """Identifies a store's file, by whatever name, and how it is written."""
    return (_file(store.path), store.store_text)


def _file(path: Path) -> tuple[int, int]:
    found = path.stat()
    return (found.st_dev, found.st_ino)


def _close(recorder: OutcomeRecorder | None, store: HistoryStore | None) -> None:
    if recorder is not None:
        recorder.close()
    if store is not None:
        store.close()
