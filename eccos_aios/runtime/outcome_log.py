"""What a running kernel keeps of its calls: the store, its recorder, and the last outcomes."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eccos_aios.config import EccosConfig
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import CallOutcome, HistoryStore, OutcomeRecorder
from eccos_aios.history.schema import is_store
from eccos_aios.predict import embedding_of
from eccos_aios.runtime.feedback_limit import FeedbackLimit

logger = logging.getLogger(__name__)

REMEMBERED_OUTCOMES = 1000
FLUSH_S = 10.0  # seconds that feedback waits for outcomes that are on their way to the store


def open_store(config: EccosConfig) -> HistoryStore | None:
    """The store that the config names as its history, made where it is absent; None: nothing is written.

    Raises
    ------
    HistoryError
        It cannot be opened or made.
    """
    if config.history is None or not is_store(config.history):
        return None
    return HistoryStore(config.history, store_text=config.store_text, embed=embedding_of)


class OutcomeLog:
    """Owns the store that a kernel writes to, and its recorder, for as long as its scheduler runs.

    A scheduler that takes another's place takes this over, so that also the calls that the first has in
    flight find the store that counts. Without a store the last outcomes are remembered all the same.

    Attributes
    ----------
    feedback_limit : FeedbackLimit
        Of the feedback on these calls.
    """

    def __init__(self) -> None:
        self.feedback_limit = FeedbackLimit()
        # Guards every field below. Held while a recorder takes an outcome, which never waits, so that no
        # outcome meets a recorder that has just been closed.
        self._changed = threading.Condition()
        self._store: HistoryStore | None = None
        self._recorder: OutcomeRecorder | None = None
        self._identity: tuple[object, ...] | None = None
        self._ended: list[OutcomeRecorder] = []  # of stores that were written to before
        self._coming: dict[str, str] = {}  # id to agent of calls that are being answered and not yet recorded
        self._recent: OrderedDict[str, CallOutcome] = OrderedDict()
        self._lost = 0  # outcomes that could not be made
        self._told = False

    @property
    def has_store(self) -> bool:
        """Whether what calls give is written anywhere."""
        with self._changed:
            return self._store is not None

    def writes_to(self, path: Path | None) -> bool:
        """Whether that is the very file that is written to now."""
        with self._changed:
            identity = self._identity
        return path is not None and path.exists() and identity is not None and identity[0] == _file(path)

    def write_to(self, store: HistoryStore | None) -> None:
        """Write to a store from now on and own it; what the one before was given is on disk on return.

        The same file as before, with as much text, stays in use as it is.
        """
        identity = None if store is None else _identity(store)
        with self._changed:
            same = identity is not None and identity == self._identity
        if same and store is not None:
            store.close()
            return
        following = None if store is None else OutcomeRecorder(store)  # raises where there is no thread
        with self._changed:
            before, recorder = self._store, self._recorder
            self._store, self._identity, self._recorder = store, identity, following
            self._ended += [] if recorder is None else [recorder]
        _end(recorder, before)

    def close(self) -> None:
        """Write what is on its way, end the recorder, then close the store; twice does no harm."""
        with self._changed:
            recorder, store = self._recorder, self._store
        _end(recorder, store)

    @contextmanager
    def coming(self, call_id: str, agent: str) -> Iterator[None]:
        """While a call is answered and then recorded: feedback on it waits until that is over."""
        with self._changed:
            self._coming[call_id] = agent
        try:
            yield
        finally:
            with self._changed:
                del self._coming[call_id]
                self._changed.notify_all()

    def record(self, make: Callable[[], CallOutcome]) -> None:
        """Take an outcome; never waits for the disk, never raises.

        Parameters
        ----------
        make : callable
            Makes it. What it raises costs the outcome, and is counted.
        """
        error: BaseException | None = None
        try:
            outcome = make()
        except BaseException as fault:  # noqa: BLE001 - queries may hold anything; what was served stays served
            error = fault
        with self._changed:
            if error is not None:
                self._lost += self._recorder is not None
                kept = self._recorder is None
            else:
                self._recent[outcome.call_id] = outcome
                if len(self._recent) > REMEMBERED_OUTCOMES:
                    self._recent.popitem(last=False)
                kept = self._recorder is None or self._recorder.record(outcome)
            first = not kept and not self._told
            self._told = self._told or first
        if first:
            why = "the store cannot be written as fast" if error is None else type(error).__name__
            logger.warning("an outcome is not kept: %s; /eccos/status counts them (logged once)", why)

    def give_quality(self, call_id: str, quality: float) -> CallOutcome | None:
        """Say how good a finished call's answer was; with a store it is on disk on return.

        Returns
        -------
        CallOutcome or None
            The call's, with that quality, where it is remembered.

        Raises
        ------
        HistoryError
            With the key ``call_id``: the store holds no such call. With no key: it cannot be written.
        """
        recorder = self._settled(lambda: call_id not in self._coming)
        if recorder is not None:
            recorder.give_quality(call_id, quality)
        with self._changed:
            outcome = self._recent.get(call_id)
            if outcome is None:
                return None
            self._recent[call_id] = graded = outcome.model_copy(update={"quality": quality})
            return graded

    def agent_of(self, call_id: str) -> str | None:
        """Whose call it was, where that is remembered."""
        with self._changed:
            outcome = self._recent.get(call_id)
        return None if outcome is None else outcome.agent

    def latest_call(self, agent: str) -> str | None:
        """The id of the agent's call that finished last, as the store knows it; None without a store.

        Raises
        ------
        HistoryError
            With the key ``agent``: the store holds no call of this agent. With no key: it is unreadable.
        """
        with self._changed:
            ours = {call_id for call_id, name in self._coming.items() if name == agent}
        self._settled(lambda: ours.isdisjoint(self._coming))
        with self._changed:
            store = self._store
        return None if store is None else store.latest_call(agent)

    @property
    def alive(self) -> bool:
        """Whether outcomes are taken to the disk; True also where there is no store to take them to."""
        with self._changed:
            recorder = self._recorder
        return recorder is None or recorder.alive

    def restarts(self) -> list[str]:
        """The threads that write, where they raised something unforeseen and went on, a line each."""
        return [note for recorder in self._recorders() for note in recorder.restarts()]

    def faults(self) -> list[str]:
        """What keeps outcomes from the disk at the moment, a line each; empty where nothing does."""
        with self._changed:
            recorder = self._recorder
        return [] if recorder is None else recorder.faults()

    def status(self) -> dict[str, object]:
        """The ``history`` of ``/eccos/status``: the store's file, outcomes on disk, outcomes lost."""
        recorders = self._recorders()
        with self._changed:
            place = {} if self._store is None else {"path": self._store.path.name}
            lost = self._lost
        return {
            **place,
            "recorded": sum(recorder.recorded for recorder in recorders),
            "dropped": lost + sum(recorder.dropped for recorder in recorders),
        }

    def _recorders(self) -> list[OutcomeRecorder]:
        """Those of the stores that were written to before, and the one that writes."""
        with self._changed:
            return [*self._ended, *([] if self._recorder is None else [self._recorder])]

    def _settled(self, recorded: Callable[[], bool]) -> OutcomeRecorder | None:
        """The recorder, once the calls in question are handed to it and all it was handed is on disk."""
        with self._changed:
            done = self._changed.wait_for(recorded, FLUSH_S)
            recorder, store = self._recorder, self._store
        if recorder is not None and store is not None and not (done and recorder.flush(FLUSH_S)):
            raise HistoryError(str(store.path), "", ABSENT, "the store cannot be written at the moment")
        return recorder


def _identity(store: HistoryStore) -> tuple[object, ...]:
    """Tells one file from another, whatever it is called; a file that has taken its place is another."""
    return (_file(store.path), store.store_text)


def _file(path: Path) -> tuple[int, int]:
    found = path.stat()
    return (found.st_dev, found.st_ino)


def _end(recorder: OutcomeRecorder | None, store: HistoryStore | None) -> None:
    if recorder is not None:
        recorder.close()
    if store is not None:
        store.close()
