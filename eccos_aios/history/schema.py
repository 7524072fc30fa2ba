"""The tables of a store, their migrations, and the opening of its file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eccos_aios.config import STORE_SUFFIX
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history.store_file import SQLITE_MAGIC, first_bytes, open_connection

APPLICATION_ID = 0x45434853  # "ECHS" in the file's header: distinguishes a store from other SQLite files
BUSY_S = 10.0  # seconds that a writer waits for another
SWITCH_RETRY_S = 0.005  # seconds between two attempts to switch to the write-ahead log
WAL_BYTES = 64 * 2**20  # size of the write-ahead log's file after a checkpoint, at most
NO_DATABASE = "is not a history store: the file is not an SQLite database"

# The step at position n leads from version n to n + 1. Published steps never change: a new store runs all
# of them, an older one those that it lacks, so that both end with the same tables.
STEPS = (
    (
        # body: the record as a line of the contract's format. content_hash: SHA-256 of body.
        """CREATE TABLE records (
            seq INTEGER PRIMARY KEY,
            id TEXT UNIQUE,
            content_hash BLOB NOT NULL UNIQUE,
            body TEXT NOT NULL
        )""",
        # tools: JSON. finished_s: Unix seconds. query is empty if query_hash is set: it was left out.
        """CREATE TABLE outcomes (
            seq INTEGER PRIMARY KEY,
            call_id TEXT NOT NULL UNIQUE,
            core TEXT NOT NULL,
            query TEXT NOT NULL,
            tools TEXT,
            agent TEXT NOT NULL,
            input_token_length INTEGER,
            output_token_length INTEGER,
            token_source TEXT,
            latency_s REAL,
            cost_usd REAL,
            error TEXT,
            quality REAL,
            finished_s REAL NOT NULL,
            query_hash TEXT,
            query_length INTEGER
        )""",
    ),
    (
        # Quality that was given after the call had finished; of several for one call the last counts.
        """CREATE TABLE feedback (
            seq INTEGER PRIMARY KEY,
            call_id TEXT NOT NULL,
            quality REAL NOT NULL,
            given_s REAL NOT NULL
        )""",
        "CREATE INDEX feedback_of_call ON feedback (call_id, seq)",
        "CREATE INDEX outcomes_of_agent ON outcomes (agent, seq)",
    ),
    (
        # One row: the identity of this store, which marks refer to.
        "CREATE TABLE identity (id TEXT NOT NULL)",
        "INSERT INTO identity (id) VALUES (lower(hex(randomblob(16))))",
    ),
    (
        # Cores that got better or worse; the last row of a core and a first call counts.
        """CREATE TABLE changes (
            seq INTEGER PRIMARY KEY,
            core TEXT NOT NULL,
            since TEXT NOT NULL,
            lost REAL NOT NULL,
            won REAL NOT NULL,
            noticed_s REAL NOT NULL
        )""",
    ),
    # Replaces a text that was left out.
    ("ALTER TABLE outcomes ADD COLUMN embedding TEXT",),
    # What the checks found in the answer: whether it passes, and a hash by which answers agree.
    (
        "ALTER TABLE outcomes ADD COLUMN answer_key TEXT",
        "ALTER TABLE outcomes ADD COLUMN answer_passes INTEGER",
    ),
    # Whether only an answer that was not accepted led to this one, and the plan that gave it.
    (
        "ALTER TABLE outcomes ADD COLUMN selected INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE outcomes ADD COLUMN plan TEXT",
        "ALTER TABLE outcomes ADD COLUMN plan_asked INTEGER",
    ),
)
VERSION = len(STEPS)


def is_store(path: Path) -> bool:
    """Whether a file is a store by its name or content; an unreadable file is judged by its name."""
    if path.suffix == STORE_SUFFIX:
        return True
    try:
        return first_bytes(path) == SQLITE_MAGIC
    except OSError:
        return False


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into this package's, naming the store."""
    try:
        yield
    except sqlite3.Error as error:
        raise HistoryError(str(path), "", ABSENT, _reason(error)) from error
    except UnicodeDecodeError as error:  # in SQLite's own message, which repeats names from the file
        raise HistoryError(str(path), "", ABSENT, "is damaged: its tables have no readable names") from error


@contextmanager
def damage_of(path: Path) -> Iterator[None]:
    """As `faults_of`, while rows are read: an exception over their content means a damaged store."""
    try:
        with faults_of(path):
            yield
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        fault = "is damaged: it holds a value that is never written there"
        raise HistoryError(str(path), "", ABSENT, fault) from error


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open a store, its tables at this version; a writer makes a store that is absent.

    A reader, too, completes a store whose creation was interrupted and upgrades an older one.

    Raises
    ------
    HistoryError
        There is no such file or folder, it is not a store, or a newer version of the package made it.
    """
    _require_place(path, may_be_absent=not read_only)
    with faults_of(path):
        try:
            connection, version = _open_checked(path, "ro" if read_only else "rwc")
        except sqlite3.OperationalError:
            # A writer that was killed before the file was in WAL mode left a journal that has to be rolled
            # back, which needs write access.
            if not read_only or not _beside(path, "-journal").exists():
                raise
            _open_checked(path, "rw")[0].close()
            connection, version = _open_checked(path, "ro")
        try:
            if version < VERSION:
                _upgrade(path)
            if not read_only:
                _use_write_ahead_log(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _open_checked(path: Path, mode: str) -> tuple[sqlite3.Connection, int]:
    connection = _open(path, mode)
    try:
        return connection, _version(connection, path)
    except BaseException:
        connection.close()
        raise


def _open(path: Path, mode: str) -> sqlite3.Connection:
    if mode == "ro" and _is_immutable(path):
        mode += "&immutable=1"
    connection = open_connection(path, mode, BUSY_S)
    try:
        # FULL: acknowledged rows survive a loss of power too, at one write to disk per commit.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_immutable(path: Path) -> bool:
    """Whether a store lies where a reader cannot make the files that it shares with writers.

    For example a folder mounted read-only. There SQLite reads only files declared immutable; a log beside
    the store would mean that another process writes.
    """
    return not os.access(path.parent, os.W_OK) and not any(
        _beside(path, suffix).exists() for suffix in ("-wal", "-journal")
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a store's tables; 0 for a file that holds nothing yet."""
    header = "SELECT (SELECT application_id FROM pragma_application_id), user_version, " + (
        "(SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
    )
    application, version, tables = connection.execute(header).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise HistoryError(str(path), "", ABSENT, "is an SQLite file, but not a history store")
    if version > VERSION:
        raise HistoryError(
            str(path),
            "schema version",
            version,
            f"is newer than this version of eccos-aios knows ({VERSION}); upgrade eccos-aios",
        )
    return int(version)


def _upgrade(path: Path) -> None:
    """Run the steps that a store lacks, all or none of them."""
    connection = _open(path, "rwc")
    try:
        _use_write_ahead_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have run them since the version was read.
        for statements in STEPS[_version(connection, path) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch a store to a write-ahead log, which is permanent: readers then never wait for a writer."""
    # For this one step SQLite does not wait for other connections by itself.
    until_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= until_s:
                raise
        time.sleep(SWITCH_RETRY_S)


def _require_place(path: Path, *, may_be_absent: bool) -> None:
    try:
        _require_file(path, may_be_absent=may_be_absent)
    except OSError as error:
        raise HistoryError(str(path), "", ABSENT, f"cannot be read: {error.strerror}") from error


def _require_file(path: Path, *, may_be_absent: bool) -> None:
    if path.is_dir():
        raise HistoryError(str(path), "", ABSENT, "is a folder, not a history store")
    if not path.parent.is_dir():
        raise HistoryError(str(path), "", ABSENT, f"cannot be opened: there is no folder {path.parent}")
    if not path.exists():
        if may_be_absent:
            return
        raise HistoryError(str(path), "", ABSENT, "cannot be read: No such file or directory")
    # SQLite takes a file of a few bytes for a new one and would overwrite it
    start = first_bytes(path)
    if start and start != SQLITE_MAGIC and not _beside(path, "-journal").exists():
        raise HistoryError(str(path), "", ABSENT, NO_DATABASE)


def _reason(error: sqlite3.Error) -> str:
    message = str(error)
    if "not a database" in message:
        return NO_DATABASE
    if "decode to UTF-8" in message:
        return "is damaged: a text in it is not UTF-8"  # SQLite repeats the text
    if "locked" in message:
        return f"another writer has held the store for more than {BUSY_S:g} s"
    return f"the store cannot be used: {message}"
