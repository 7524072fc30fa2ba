"""The durable store of what past calls taught."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType

from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history.added import Added, add_record
from eccos_aios.history.call_outcome import CallOutcome
from eccos_aios.history.change import Change
from eccos_aios.history.mark import (
    CALLS_SINCE,
    OUTCOMES_AT_MARK,
    RECORDS_SINCE,
    StoreMark,
    is_held,
    places,
    read_mark,
)
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
from eccos_aios.history.statements import (
    ADD_CHANGE,
    ADD_FEEDBACK,
    ADD_OUTCOME,
    CHANGES,
    GRADED,
    OUTCOMES,
    QUALITY,
)
from eccos_aios.history.stats import StoreStats, read_stats
from eccos_aios.history.stored import OnProgress, StoredRecords

BATCH = 1_000  # rows that are committed at once: one write to disk each, and other writers wait no longer


class HistoryStore:
    """What past calls taught, in one SQLite file that outlives any end of the process.

    Records, outcomes and feedback are only ever added. What `append`, `extend`, `append_outcomes` or
    `give_quality` has returned from is on disk: it is there, once, after ``kill -9`` and after a loss of
    power. Whoever got no answer may give the same again; an id is stored once. One process writes at a
    time and others wait for it; any number read meanwhile, each reading what was there when it began.

    The whole interface is six verbs: add records (`extend`), add outcomes (`append_outcomes`), grade a
    call (`give_quality`, with `latest_call` to find it), read in order (`records`, `outcomes`), go on from
    a place (`mark`, `records_until`, `records_since`), sum up (`stats`). None hands out rows, cursors or
    transactions, every addition may be repeated, and readers ask for no more than a consistent beginning.
    A backend that several kernels share needs to keep these promises and nothing else: a uniqueness rule
    over ids, an append in order, one atomic batch. The
    methods of one record are short forms, the formats of files stay outside (`import_history`,
    `export_history`).

    Parameters
    ----------
    path : str or Path
        The file. A writer makes it where it is absent.
    read_only : bool
        Whether only to read; the file must exist.
    store_text : bool
        Whether what was asked, the tools and the answers are written. Where not, only hash, length and
        embedding of the query, tokens, latency, cost and quality are, and no word of the text ever reaches
        the file.
    embed : callable, optional
        Gives the embedding that is kept of a call whose text is left out (`eccos_aios.predict.embedding_of`).
        Default: none is, and nothing can be learned of such a call but the cores' means.

    Raises
    ------
    HistoryError
        The file is no store, a newer version of the package made it, or it cannot be opened or made.

    Notes
    -----
    ``synchronous = FULL``: a commit waits for the disk. The batches of `extend` and of an
    `OutcomeRecorder` share one wait among many rows, so that nothing is gained by promising less.
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
        """Let go of the file. Iterators that are under way end on their own."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()

    def append(self, record: Record) -> bool:
        """Add one record; False where the store held it already.

        Raises
        ------
        HistoryError
            The store cannot be written, or the record holds what JSON cannot.
        """
        return self.extend([record]).stored == 1

    def extend(self, records: Iterable[Record]) -> Added:
        """Add records in their order, each once: `BATCH` at a time are stored together or not at all.

        Raises
        ------
        HistoryError
            As `append`; the batches before stay.
        """
        added = Added()
        pending = iter(records)
        while batch := [self._kept(record) for record in islice(pending, BATCH)]:
            with self._transaction() as write:
                stored = Added()
                for row in batch:
                    stored += add_record(write, row)
            added += stored
        return added

    def append_outcome(self, outcome: CallOutcome) -> bool:
        """Add the outcome of one finished call; False where the store held its id already.

        Raises
        ------
        HistoryError
            The store cannot be written.
        """
        return self.append_outcomes([outcome]) == 1

    def append_outcomes(self, outcomes: Iterable[CallOutcome]) -> int:
        """Add outcomes of finished calls, all or none of them; the number of those that are new.

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
        """Say how good the answer of a finished call was; what is said last counts.

        Parameters
        ----------
        call_id : str
            As in the call's outcome.
        quality : float
            0 to 1.

        Raises
        ------
        HistoryError
            With the key ``call_id``: the store holds no such call. With the key ``quality``: it is no
            number from 0 to 1. With no key: the store cannot be written.
        """
        if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not 0 <= quality <= 1:
            raise HistoryError(str(self.path), "quality", quality, "must be a number from 0 to 1")
        if not isinstance(call_id, str) or not is_utf8(call_id):
            raise HistoryError(str(self.path), "call_id", call_id, "must be text")
        with self._transaction() as write:
            found = write.execute(ADD_FEEDBACK, (call_id, float(quality), time.time())).rowcount
        if not found:
            raise HistoryError(str(self.path), "call_id", call_id, "there is no finished call of this id")

    def note_changes(self, changes: Iterable[Change]) -> None:
        """Say of cores that they got better or worse; what is said last of a core and a moment counts.

        Raises
        ------
        HistoryError
            The store cannot be written.
        """
        rows = [(each.core, each.since, each.lost, each.won, time.time()) for each in changes]
        with self._transaction() as write:
            write.executemany(ADD_CHANGE, rows)

    def changes(self) -> list[Change]:
        """Cores that got better or worse, in the order in which that was noticed.

        Raises
        ------
        HistoryError
            The store cannot be read.
        """
        with self._reading() as read:
            return [read_change(row, self.path) for row in read.execute(CHANGES)]

    def latest_call(self, agent: str) -> str:
        """The id of the call of an agent that finished last.

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
        """What predictors learn from: the records as they were added, then the calls whose quality is known.

        Where the text was left out, `Record.query` is empty and `Record.query_hash` stands for it.

        Raises
        ------
        HistoryError
            The store cannot be read, or something else has written into it.
        """
        for found in self.candidates():
            yield good(found)

    def candidates(self) -> Iterator[Record | HistoryError]:
        """As `records`, with a fault in place of each row that is no record."""
        with self._reading() as read:
            for seq, body in read.execute("SELECT seq, body FROM records ORDER BY seq"):
                yield read_record(seq, body, self.path)
            for row in read.execute(OUTCOMES + GRADED + "ORDER BY seq"):
                found = read_outcome(row, self.path)
                yield found if isinstance(found, HistoryError) else found.record()

    def outcomes(self) -> Iterator[CallOutcome]:
        """The finished calls in the order in which they were added, with the quality that counts now.

        Raises
        ------
        HistoryError
            As `records`.
        """
        with self._reading() as read:
            for row in read.execute(OUTCOMES + "ORDER BY seq"):
                yield good(read_outcome(row, self.path))

    def record_count(self) -> int:
        """How many records `records` gives."""
        with self._reading() as read:
            calls = f"SELECT count(*) FROM outcomes {GRADED}"
            return int(read.execute(f"SELECT (SELECT count(*) FROM records) + ({calls})").fetchone()[0])

    def mark(self) -> StoreMark:
        """How far the store reaches now. Costs the same for any size of it."""
        with self._reading() as read:
            return read_mark(read)

    def holds(self, mark: StoreMark) -> bool:
        """Whether this store has been at a mark: it is of this store, and no older copy was put back."""
        with self._reading() as read:
            return is_held(read, mark)

    def records_until(
        self, mark: StoreMark, on_progress: OnProgress = lambda done, total: None
    ) -> StoredRecords:
        """What `records` gave at a mark, read from the disk as it is asked for, as predictors learn it.

        The qualities are those that the cores would give after the `changes` that are known by now.

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

        A call whose quality was given anew is among them with the quality that counts at the end, whether
        it was graded before or not.

        Parameters
        ----------
        mark : StoreMark
        until : StoreMark, optional
            Where to end. Default: what the store holds now. Who goes on from mark to mark takes `mark`
            first and ends there, so that nothing comes twice.

        Raises
        ------
        HistoryError
            This store has never been at one of the marks, or as `records`.
        """
        with self._reading() as read:
            where = self._span(read, mark, until)
            for seq, body in read.execute(f"SELECT seq, body {RECORDS_SINCE} ORDER BY seq", where):
                yield good(read_record(seq, body, self.path))
            for row in read.execute(f"SELECT {OUTCOMES_AT_MARK} {CALLS_SINCE} ORDER BY seq", where):
                yield good(read_outcome(row, self.path)).record()

    def count_since(self, mark: StoreMark) -> int:
        """How many records `records_since` gives.

        Raises
        ------
        HistoryError
            This store has never been at the mark.
        """
        with self._reading() as read:
            counts = f"SELECT (SELECT count(*) {RECORDS_SINCE}) + (SELECT count(*) {CALLS_SINCE})"
            return int(read.execute(counts, self._span(read, mark, None)).fetchone()[0])

    def stats(self) -> StoreStats:
        """What the store holds, in figures.

        Raises
        ------
        HistoryError
            The store cannot be read.
        """
        with self._reading() as read:
            return read_stats(read, self.path, quality=QUALITY)

    def _span(self, read: sqlite3.Connection, since: StoreMark, until: StoreMark | None) -> dict[str, int]:
        self._require_held(read, since)
        if until is None:
            until = read_mark(read)
        else:
            self._require_held(read, until)
        return {**places(until), **{f"since_{name}": row for name, row in places(since).items()}}

    def _require_held(self, read: sqlite3.Connection, mark: StoreMark) -> None:
        if not is_held(read, mark):
            raise HistoryError(str(self.path), "mark", mark.store, "is no mark of this store's past")

    def _kept(self, record: Record) -> RecordRow:
        return record_row(record if self.store_text else record.without_text(self._embed), self.path)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._writer is None:
            raise HistoryError(str(self.path), "", ABSENT, "was opened to be read only")
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
