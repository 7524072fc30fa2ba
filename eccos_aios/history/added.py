"""Adding a record to a store, and what became of it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from eccos_aios.history.rows import RecordRow
from eccos_aios.history.statements import ADD_RECORD


@dataclass(frozen=True)
class Added:
    """What became of records that were given to a store.

    Attributes
    ----------
    stored : int
        Records that are new in it.
    duplicates : int
        Records that it held already, told by their id, or by their content where they have none.
    conflicts : int
        Those of the duplicates whose id stands for other content; what came first was kept.
    """

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.conflicts + other.conflicts,
        )


def add_record(write: sqlite3.Connection, row: RecordRow) -> Added:
    """Add a row of `record_row`, unless the store holds it already."""
    if write.execute(ADD_RECORD, row).rowcount:
        return Added(stored=1)
    identity, content_hash, _ = row
    held = write.execute("SELECT content_hash FROM records WHERE id = ?", (identity,)).fetchone()
    return Added(duplicates=1, conflicts=int(held is not None and held[0] != content_hash))
