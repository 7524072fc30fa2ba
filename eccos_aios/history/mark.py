"""How far a store reaches at one moment, so that what came later can be asked for."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import asdict, dataclass

from eccos_aios.history.rows import OUTCOME_COLUMNS

# The quality of a call as feedback up to a mark has it.
QUALITY_AT = (
    "coalesce((SELECT quality FROM feedback WHERE feedback.call_id = outcomes.call_id "
    "AND feedback.seq <= :feedback ORDER BY feedback.seq DESC LIMIT 1), quality)"
)
RECORDS_SINCE = "FROM records WHERE seq > :since_records AND seq <= :records "
OUTCOMES_AT_MARK = ", ".join(QUALITY_AT if name == "quality" else name for name in OUTCOME_COLUMNS)
# Found by row numbers, so that it costs what is new and not what is there.
CALLS_SINCE = f"""FROM outcomes WHERE {QUALITY_AT} IS NOT NULL AND seq IN (
    SELECT seq FROM outcomes WHERE seq > :since_outcomes AND seq <= :outcomes
    UNION
    SELECT graded.seq FROM feedback JOIN outcomes AS graded ON graded.call_id = feedback.call_id
    WHERE feedback.seq > :since_feedback AND feedback.seq <= :feedback
) """
# What stands at a mark's places, which no other store and no older copy of this one has there.
_TAIL = """
SELECT (SELECT content_hash FROM records WHERE seq = :records),
       (SELECT call_id FROM outcomes WHERE seq = :outcomes),
       (SELECT given_s FROM feedback WHERE seq = :feedback)
"""
_REACH = """
SELECT (SELECT id FROM identity),
       (SELECT coalesce(max(seq), 0) FROM records),
       (SELECT coalesce(max(seq), 0) FROM outcomes),
       (SELECT coalesce(max(seq), 0) FROM feedback)
"""


@dataclass(frozen=True)
class StoreMark:
    """How far the records, outcomes and feedback of one store reached at one moment.

    A store is only ever added to, so a mark names one content for ever.

    Attributes
    ----------
    store : str
        The store's identity, drawn when it was made; a copy of the file keeps it.
    records, outcomes, feedback : int
        The last row of each, 0 where there is none.
    tail : str
        Digest of those rows: an older copy that was put back and has grown differently is told by it.
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
    """The rows that a mark names, for SQL."""
    return {name: value for name, value in asdict(mark).items() if name not in ("store", "tail")}


def _tail(read: sqlite3.Connection, records: int, outcomes: int, feedback: int) -> str:
    where = {"records": records, "outcomes": outcomes, "feedback": feedback}
    content_hash, call_id, given_s = read.execute(_TAIL, where).fetchone()
    return hashlib.sha256(repr((content_hash, call_id, given_s)).encode()).hexdigest()
