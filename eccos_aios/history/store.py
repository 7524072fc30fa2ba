"""The durable store of past calls."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history.call_outcome import CallOutcome
from eccos_aios.history.change import Change
from eccos_aios.history.record import Embed, Record
from eccos_aios.history.rows import (
    RecordRow,
    good,
    is_utf8,
    outcome_row,
    read_change,
    read_outcome,
    read_record,
    record_row,
)
from eccos_aios.history.schema import connect, damage_of, faults_of
from eccos_aios.history.snapshot import (
    OnProgress,
    StoredRecords,
    StoreMark,
    is_held,
    places,
    read_mark,
)
from eccos_aios.history.statements import (
    ADD_CHANGE,
    ADD_FEEDBACK,
    ADD_OUTCOME,
    ADD_RECORD,
    CALLS_SINCE,
    CHANGES,
    GRADED,
    HOLDS_ANSWERS,
    OUTCOMES,
    OUTCOMES_AT_MARK,
    RECORDS_SINCE,
)
from eccos_aios.history.stats import StoreStats, read_stats

BATCH = 1_000  # rows of one commit, which is one write to disk and the longest that other writers wait


@dataclass(frozen=True)
class AddResult:
    """How many of the records that a store was given are new in it.

    Attributes
    ----------
    stored : int
        Records that are new.
    duplicates : int
        Records that it held already, by their id, or by their content where they have none.
    conflicts : int
        Those of the duplicates whose id belongs to other content; the first one stays.
    """

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0

    def __add__(self, other: AddResult) -> AddResult:
        return AddResult(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.conflicts + other.conflicts,
        )


class HistoryStore:
    """Records, outcomes and feedback in one SQLite file that survives any end of the process.

    Rows are only ever added. Once `extend`, `append_outcomes` or `give_quality` has returned, its rows are
    on disk, once, also after ``kill -9`` or a loss of power. A caller that got no answer may send the same
    again: an id is stored once. One process writes at a time and others wait for it; any number read
    meanwhile, each seeing the rows of the moment when it began.

    The interface is six operations: add records (`extend`), add outcomes (`append_outcomes`), grade a call
    (`give_quality`, with `latest_call` to find it), read in order (`records`, `outcomes`), read what came
    after a mark (`mark`, `records_until`, `records_since`), summarise (`stats`). None exposes rows, cursors
    or transactions, and every addition may be repeated. A backend that several kernels share needs unique
    ids, ordered appends and atomic batches, nothing else. File formats are handled elsewhere
    (`import_history`, `export_history`).

    Parameters
    ----------
    path : str or Path
        The file. A writer creates it if absent.
    read_only : bool
        Whether only to read; the file must exist.
    store_text : bool
        Whether queries, tools and answers are written. If not, only hash, length and embedding of the query,
        tokens, latency, cost and quality are, and no word of the text ever reaches the file.
    embed : callable, optional
        Gives the embedding that is stored of a call whose text is left out
        (`eccos_aios.predict.embedding_of`). Default: none is, and predictors learn only the cores' means
        from such a call.

    Raises
    ------
    HistoryError
        The file is no store, a newer version of the package made it, or it cannot be opened or made.

    Notes
    -----
    ``synchronous = FULL``: a commit waits for the disk. The batches of `extend` and of an
    `OutcomeRecorder` share one such wait among many rows, so a weaker promise would not be faster.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        read_only: bool = False,
        store_text: bool = True,
        embed: Embed | None = None,
    ) -> None:
        self.path = Path(path)
        self.store_text = store_text
        self._embed = embed
        self._lock = threading.Lock()  # guards the writing connection: one transaction at a time
        connection = connect(self.path, read_only=read_only)
        if read_only:
            connection.close()
        self._writer = None if read_only else connection

    def __enter__(self) -> HistoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Iterators under way are not affected."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()

    def extend(self, records: Iterable[Record]) -> AddResult:
        """Add records in their order, each once; each batch of `BATCH` is stored as a whole or not at all.

        Raises
        ------
        HistoryError
            The store cannot be written, or a record holds what JSON cannot; the batches before it stay.
        """
        added = AddResult()
        pending = iter(records)
        while batch := [self._row(record) for record in islice(pending, BATCH)]:
            with self._transaction() as write:
                stored = AddResult()
                for row in batch:
                    stored += _add_record(write, row)
            added += stored
        return added

    def append_outcomes(self, outcomes: Iterable[CallOutcome]) -> int:
        """Add outcomes of finished calls, all or none of them; returns how many are new.

        Raises
        ------
        HistoryError
            The store cannot be written.
        """
        rows = [
            outcome_row(outcome if self.store_text else outcome.without_text(self._embed))
            for outcome in outcomes
        ]
        with self._transaction() as write:
            return sum(write.execute(ADD_OUTCOME, row).rowcount for row in rows)

    def give_quality(self, call_id: str, quality: float) -> None:
        """Set the quality of a finished call; the last one counts.

        Parameters
        ----------
        call_id : str
            That of the call's outcome.
        quality : float
            0 to 1.

        Raises
        ------
        HistoryError
            With the key ``call_id``: the store holds no such call. With the key ``quality``: it is not a
            number from 0 to 1. With no key: the store cannot be written.
        """
        if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not 0 <= quality <= 1:
            raise HistoryError(str(self.path), "quality", quality, "must be a number from 0 to 1")
        if not isinstance(call_id, str) or not is_utf8(call_id):
            raise HistoryError(str(self.path), "call_id", call_id, "must be text")
        with self._transaction() as write:
            feedback = {"call_id": call_id, "quality": float(quality), "given_s": time.time()}
            found = write.execute(ADD_FEEDBACK, feedback).rowcount
        if not found:
            raise HistoryError(str(self.path), "call_id", call_id, "there is no finished call of this id")

    def note_changes(self, changes: Iterable[Change]) -> None:
        """Note that cores got better or worse; the last note on a core and a moment counts.

        Raises
        ------
        HistoryError
            The store cannot be written.
        """
        rows = [(each.core, each.since, each.lost, each.won, time.time()) for each in changes]
        with self._transaction() as write:
            write.executemany(ADD_CHANGE, rows)

    def changes(self) -> list[Change]:
        """The changes of cores, in the order in which they were noticed.

        Raises
        ------
        HistoryError
            The store cannot be read.
        """
        with self._reading() as read:
            return [read_change(row, self.path) for row in read.execute(CHANGES)]

    def latest_call(self, agent: str) -> str:
        """The id of the agent's call that finished last.

        Raises
        ------
        HistoryError
            With the key ``agent``: the store holds no call of this agent.
        """
        query = "SELECT call_id FROM outcomes WHERE agent = ? ORDER BY seq DESC LIMIT 1"
        if isinstance(agent, str) and is_utf8(agent):
            with self._reading() as read:
                found = read.execute(query, (agent,)).fetchone()
                if found:
                    return str(found[0])
        raise HistoryError(str(self.path), "agent", agent, "there is no finished call of this agent")

    def records(self) -> Iterator[Record]:
        """The records that predictors learn from: those that were added, then the calls of known quality.

        Where the text was left out, `Record.query` is empty and `Record.query_hash` is set.

        Raises
        ------
        HistoryError
            The store cannot be read, or a row is damaged.
        """
        for found in self.candidates():
            yield good(found)

    def candidates(self) -> Iterator[Record | HistoryError]:
        """As `records`, with a fault in place of each damaged row."""
        with self._reading() as read:
            for seq, body in read.execute("SELECT seq, body FROM records ORDER BY seq"):
                yield read_record(seq, body, self.path)
            for row in read.execute(OUTCOMES + GRADED + "ORDER BY seq"):
                found = read_outcome(row, self.path)
                yield found if isinstance(found, HistoryError) else found.record()

    def outcomes(self) -> Iterator[CallOutcome]:
        """The finished calls in the order in which they were added, with their latest quality.

        Raises
        ------
        HistoryError
            As `records`.
        """
        with self._reading() as read:
            for row in read.execute(OUTCOMES + "ORDER BY seq"):
                yield good(read_outcome(row, self.path))

    def record_count(self) -> int:
        """How many records `records` yields."""
        with self._reading() as read:
            calls = f"SELECT count(*) FROM outcomes {GRADED}"
            return int(read.execute(f"SELECT (SELECT count(*) FROM records) + ({calls})").fetchone()[0])

    def mark(self) -> StoreMark:
        """The store's current mark. Costs the same for any size of the store."""
        with self._reading() as read:
            return read_mark(read)

    def holds(self, mark: StoreMark) -> bool:
        """Whether this store has been at a mark: it is this store's, and no older copy was restored."""
        with self._reading() as read:
            return is_held(read, mark)

    def records_until(
        self, mark: StoreMark, on_progress: OnProgress = lambda done, total: None
    ) -> StoredRecords:
        """The records at a mark as predictors learn them, read from the disk as they are asked for.

        Their qualities are restated by the `changes` known by now.

        Raises
        ------
        HistoryError
            This store has never been at the mark.
        """
        with self._reading() as read:
            self._require_held(read, mark)
        return StoredRecords(self.path, mark, self._reading, self.changes(), on_progress)

    def records_since(self, mark: StoreMark, until: StoreMark | None = None) -> Iterator[Record]:
        """What was added or graded after a mark: records first, then calls, each in their order.

        A call that was graded again is among them, with its quality at the end.

        Parameters
        ----------
        mark : StoreMark
        until : StoreMark, optional
            Where to end. Default: the store as it is now. To read from mark to mark without repetition,
            take the new mark first and end there.

        Raises
        ------
        HistoryError
            This store has never been at one of the marks, or as `records`.
        """
        with self._reading() as read:
            where = self._span(read, mark, until)
            for seq, body in read.execute(f"SELECT seq, body {RECORDS_SINCE} ORDER BY seq", where):
                yield good(read_record(seq, body, self.path))
            for row in read.execute(OUTCOMES_AT_MARK + CALLS_SINCE + "ORDER BY seq", where):
                yield good(read_outcome(row, self.path)).record()

    def count_since(self, mark: StoreMark) -> int:
        """How many records `records_since` yields.

        Raises
        ------
        HistoryError
            This store has never been at the mark.
        """
        with self._reading() as read:
            counts = f"SELECT (SELECT count(*) {RECORDS_SINCE}) + (SELECT count(*) {CALLS_SINCE})"
            return int(read.execute(counts, self._span(read, mark, None)).fetchone()[0])

    def holds_answers(self) -> bool:
        """Whether any answer was recorded, or checked when it came.

        Raises
        ------
        HistoryError
            The store cannot be read.
        """
        with self._reading() as read:
            return bool(read.execute(HOLDS_ANSWERS).fetchone()[0])

    def stats(self) -> StoreStats:
        """The store's figures.

        Raises
        ------
        HistoryError
            The store cannot be read.
        """
        with self._reading() as read:
            return read_stats(read, self.path)

    def _span(self, read: sqlite3.Connection, since: StoreMark, until: StoreMark | None) -> dict[str, int]:
        self._require_held(read, since)
        if until is None:
            until = read_mark(read)
        else:
            self._require_held(read, until)
        return {**places(until), **{f"since_{name}": row for name, row in places(since).items()}}

    def _require_held(self, read: sqlite3.Connection, mark: StoreMark) -> None:
        if not is_held(read, mark):
            raise HistoryError(str(self.path), "mark", mark.store, "is not a mark of this store")

    def _row(self, record: Record) -> RecordRow:
        return record_row(record if self.store_text else record.without_text(self._embed), self.path)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._writer is None:
            raise HistoryError(str(self.path), "", ABSENT, "was opened read-only")
        with self._lock, faults_of(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the store as it is now, whatever is written meanwhile."""
        with damage_of(self.path), closing(connect(self.path, read_only=True)) as connection:
            connection.execute("BEGIN")
            yield connection


def _add_record(write: sqlite3.Connection, row: RecordRow) -> AddResult:
    if write.execute(ADD_RECORD, row).rowcount:
        return AddResult(stored=1)
    held = write.execute("SELECT content_hash FROM records WHERE id = :id", row).fetchone()
    return AddResult(duplicates=1, conflicts=int(held is not None and held[0] != row["content_hash"]))
