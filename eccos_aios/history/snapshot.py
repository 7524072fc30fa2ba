"""StoreMark and StoredRecords: a store as it was at one moment, and its records of that moment."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

from eccos_aios.history.change import Change, restate
from eccos_aios.history.record import Record
from eccos_aios.history.rows import good, read_outcome, read_record
from eccos_aios.history.statements import OUTCOMES_AT_MARK, QUALITY_AT_MARK

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
OnProgress = Callable[[int, int], None]
PROGRESS_EVERY = 1_000  # records

_REACH = """
SELECT (SELECT id FROM identity),
       (SELECT coalesce(max(seq), 0) FROM records),
       (SELECT coalesce(max(seq), 0) FROM outcomes),
       (SELECT coalesce(max(seq), 0) FROM feedback)
"""
# The content of a mark's last rows: no other store, and no older copy of this one, has the same there.
_TAIL = """
SELECT (SELECT content_hash FROM records WHERE seq = :records),
       (SELECT call_id FROM outcomes WHERE seq = :outcomes),
       (SELECT given_s FROM feedback WHERE seq = :feedback)
"""
_RECORDS = "SELECT seq, body FROM records WHERE seq <= :records ORDER BY seq "
_GRADED = f"FROM outcomes WHERE seq <= :outcomes AND {QUALITY_AT_MARK} IS NOT NULL "
_CALLS = f"{OUTCOMES_AT_MARK} {_GRADED} ORDER BY seq "
_COUNTS = f"SELECT (SELECT count(*) FROM records WHERE seq <= :records), (SELECT count(*) {_GRADED})"
_ONE = "LIMIT 1 OFFSET :place"
_PLACES = f"""
SELECT (SELECT (SELECT count(*) {_GRADED} AND seq < moment.seq)
        FROM outcomes AS moment WHERE moment.call_id = :since),
       (SELECT (SELECT count(*) FROM records WHERE seq <= :records AND seq < moment.seq)
        FROM records AS moment WHERE moment.id = :since)
"""


@dataclass(frozen=True)
class StoreMark:
    """The last row of each table of a store at one moment.

    Rows are only ever added, so a mark identifies the store's content at that moment for good.

    Attributes
    ----------
    store : str
        The store's identity, drawn when it was made; a copy of the file has the same.
    records, outcomes, feedback : int
        The last row of each, 0 if there is none.
    tail : str
        Digest of those rows. It differs where an older copy was restored and has grown differently.
    """

    store: str
    records: int
    outcomes: int
    feedback: int
    tail: str


def read_mark(read: sqlite3.Connection) -> StoreMark:
    """The mark of what a connection's transaction sees."""
    store, *reach = read.execute(_REACH).fetchone()
    records, outcomes, feedback = map(int, reach)
    return StoreMark(str(store), records, outcomes, feedback, _tail(read, records, outcomes, feedback))


def is_held(read: sqlite3.Connection, mark: StoreMark) -> bool:
    """Whether the store has been at a mark."""
    (store,) = read.execute("SELECT id FROM identity").fetchone()
    return store == mark.store and mark.tail == _tail(read, mark.records, mark.outcomes, mark.feedback)


def places(mark: StoreMark) -> dict[str, int]:
    """The row numbers of a mark, as parameters of a statement."""
    return {name: value for name, value in asdict(mark).items() if name not in ("store", "tail")}


def _tail(read: sqlite3.Connection, records: int, outcomes: int, feedback: int) -> str:
    where = {"records": records, "outcomes": outcomes, "feedback": feedback}
    content_hash, call_id, given_s = read.execute(_TAIL, where).fetchone()
    return hashlib.sha256(repr((content_hash, call_id, given_s)).encode()).hexdigest()


class StoredRecords(Sequence[Record]):
    """The records of a store at a mark, restated by changes, read from the disk as they are asked for.

    Every iteration gives the same records in the same order, whatever is added to the store meanwhile.
    Reading takes about 25 µs a record; parsing without validation is not faster.

    Parameters
    ----------
    path : Path
        Of the store, for messages.
    mark : StoreMark
    reading : callable
        Opens a connection on which a transaction has begun.
    changes : sequence of Change
        Of cores, oldest first.
    on_progress : callable
        Called every `PROGRESS_EVERY` records of an iteration: how many were given, out of how many.
    """

    def __init__(
        self,
        path: Path,
        mark: StoreMark,
        reading: Reading,
        changes: Sequence[Change] = (),
        on_progress: OnProgress = lambda done, total: None,
    ) -> None:
        self.mark = mark
        self._path = path
        self._reading = reading
        self._on_progress = on_progress
        self._where = places(mark)
        with reading() as read:
            self._records, self._calls = read.execute(_COUNTS, self._where).fetchone()
            self._changes = [(self._place_of(read, change.since), change) for change in changes]

    def __len__(self) -> int:
        return int(self._records + self._calls)

    def __iter__(self) -> Iterator[Record]:
        for given, record in enumerate(self._walk()):
            if given % PROGRESS_EVERY == 0:
                self._on_progress(given, len(self))
            yield self._restated(given, record)

    def _walk(self) -> Iterator[Record]:
        with self._reading() as read:
            for seq, body in read.execute(_RECORDS, self._where):
                yield good(read_record(seq, body, self._path))
            for row in read.execute(_CALLS, self._where):
                yield _graded(row, self._path)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self[position] for position in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place = int(place) % len(self)  # SQLite takes no integer of NumPy
        return self._restated(place, self._at(place))

    def _at(self, place: int) -> Record:
        with self._reading() as read:
            if place >= self._records:
                where = {**self._where, "place": place - self._records}
                return _graded(read.execute(_CALLS + _ONE, where).fetchone(), self._path)
            return good(read_record(*self._record_row(read, place), self._path))

    def _restated(self, place: int, record: Record) -> Record:
        later = [change for since, change in self._changes if place < since]
        return restate(record, later) if later else record

    def _place_of(self, read: sqlite3.Connection, since: str) -> int:
        """The place of a record by its id; behind the last one where it is not among these."""
        where = {**self._where, "since": since}
        as_call, as_record = read.execute(_PLACES, where).fetchone()
        if as_call is not None:
            return int(self._records + as_call)
        return len(self) if as_record is None else int(as_record)

    def _record_row(self, read: sqlite3.Connection, place: int) -> tuple[int, str]:
        if self._records == self.mark.records:  # no number is missing, so a place is its row number less 1
            query, where = "SELECT seq, body FROM records WHERE seq = :place", {"place": place + 1}
        else:
            query, where = _RECORDS + _ONE, {**self._where, "place": place}
        seq, body = read.execute(query, where).fetchone()
        return seq, body


def _graded(row: tuple[Any, ...], path: Path) -> Record:
    return good(read_outcome(row, path)).record()
