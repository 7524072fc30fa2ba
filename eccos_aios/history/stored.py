"""The records of a store at one mark, as a sequence that is read where it is asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, overload

from eccos_aios.history.change import Change, restate
from eccos_aios.history.mark import OUTCOMES_AT_MARK, QUALITY_AT, StoreMark, places
from eccos_aios.history.record import Record
from eccos_aios.history.rows import good, read_outcome, read_record

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
OnProgress = Callable[[int, int], None]
SHOWN_EVERY = 1_000  # records

_RECORDS = "SELECT seq, body FROM records WHERE seq <= :records ORDER BY seq "
_GRADED = f"FROM outcomes WHERE seq <= :outcomes AND {QUALITY_AT} IS NOT NULL "
_CALLS = f"SELECT {OUTCOMES_AT_MARK} {_GRADED} ORDER BY seq "
_ONE = "LIMIT 1 OFFSET :place"
_PLACES = f"""
SELECT (SELECT (SELECT count(*) {_GRADED} AND seq < moment.seq)
        FROM outcomes AS moment WHERE moment.call_id = :since),
       (SELECT (SELECT count(*) FROM records WHERE seq <= :records AND seq < moment.seq)
        FROM records AS moment WHERE moment.id = :since)
"""


class StoredRecords(Sequence[Record]):
    """What `HistoryStore.records` gave at a mark, restated by changes, never all in memory at once.

    Whatever is added to the store meanwhile, every walk gives the same records in the same order.
    Reading costs some 25 µs a record; parsing without validating again was not quicker.

    Parameters
    ----------
    path : Path
        Of the store, for messages.
    mark : StoreMark
    reading : callable
        Opens a connection on which a transaction has begun.
    changes : sequence of Change
        Of cores, the older first.
    on_progress : callable
        Told of a walk, every `SHOWN_EVERY` records: how many it gave, of how many.
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
            counts = (
                f"SELECT (SELECT count(*) FROM records WHERE seq <= :records), (SELECT count(*) {_GRADED})"
            )
            self._records, self._calls = read.execute(counts, self._where).fetchone()
            self._changes = [(self._place_of(read, change.since), change) for change in changes]

    def __len__(self) -> int:
        return int(self._records + self._calls)

    def __iter__(self) -> Iterator[Record]:
        for given, record in enumerate(self._walk()):
            if given % SHOWN_EVERY == 0:
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
        place %= len(self)
        return self._restated(place, self._at(place))

    def _at(self, place: int) -> Record:
        with self._reading() as read:
            if place >= self._records:
                where = {**self._where, "place": place - self._records}
                return _graded(read.execute(_CALLS + _ONE, where).fetchone(), self._path)
            return good(read_record(*self._record_row(read, place), self._path))

    def _restated(self, place: int, record: Record) -> Record:
        ahead = [change for since, change in self._changes if place < since]
        return restate(record, ahead) if ahead else record

    def _place_of(self, read: sqlite3.Connection, since: str) -> int:
        """The place of a record by its id; behind the last one where it is not among these."""
        where = {**self._where, "since": since}
        as_call, as_record = read.execute(_PLACES, where).fetchone()
        if as_call is not None:
            return int(self._records + as_call)
        return len(self) if as_record is None else int(as_record)

    def _record_row(self, read: sqlite3.Connection, place: int) -> tuple[int, str]:
        if self._records == self.mark.records:  # no number is missing, so a place is one less than its row
            query, where = "SELECT seq, body FROM records WHERE seq = :place", {"place": place + 1}
        else:
            query, where = _RECORDS + _ONE, {**self._where, "place": place}
        seq, body = read.execute(query, where).fetchone()
        return seq, body


def _graded(row: tuple[Any, ...], path: Path) -> Record:
    return good(read_outcome(row, path)).record()
