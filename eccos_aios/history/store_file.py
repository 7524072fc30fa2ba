"""The file of a store: which ones this process holds, and what one begins with.

SQLite's locks belong to the process, and closing any descriptor of a file drops all that the process holds on
it (POSIX ``fcntl``; section 2.2 of SQLite's "How to corrupt an SQLite database file"). Another process would
then take the store for unused and remove its write-ahead log, with all that is written to it afterwards. So a
file that a connection of this process holds is never opened by anything but SQLite.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter, deque
from pathlib import Path

SQLITE_MAGIC = b"SQLite format 3\0"

_files = threading.Lock()  # guards _held, and every opening of a file beside SQLite
_held: Counter[str] = Counter()  # connections of this process by file, those in _closed included
_closed: deque[str] = deque()  # files of connections that have been closed; needs no lock


class StoreConnection(sqlite3.Connection):
    """A connection of whose file `first_bytes` knows until it is closed."""

    _file: str | None = None

    def close(self) -> None:
        super().close()
        # Takes no lock: the garbage collector closes what an abandoned iterator holds, in any thread and at
        # any allocation, thus also while this very thread holds the lock.
        file, self._file = self._file, None
        if file is not None:
            _closed.append(file)


def _is_held(file: str) -> bool:
    """Whether a connection of this process holds a file; the lock is held."""
    while _closed:
        _held[_closed.popleft()] -= 1
    return _held[file] > 0


def open_connection(path: Path, mode: str, timeout_s: float) -> StoreConnection:
    """Connect to a file.

    Parameters
    ----------
    path : Path
    mode : str
        Of SQLite's URI: ``ro``, ``rw``, ``rwc``, with further parameters after it.
    timeout_s : float
        Seconds to wait for other connections.

    Raises
    ------
    sqlite3.Error
        SQLite cannot open it.
    """
    file = os.path.realpath(path)
    with _files:
        _held[file] += 1
        try:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=timeout_s,
                isolation_level=None,  # transactions begin where the caller's code says so
                check_same_thread=False,  # the owner serialises its threads
                factory=StoreConnection,
            )
        except BaseException:
            _held[file] -= 1
            raise
        connection._file = file
    return connection


def first_bytes(path: Path) -> bytes:
    """What a file begins with: `SQLITE_MAGIC`, or other bytes, at most as many.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with _files:
        if _is_held(os.path.realpath(path)):
            return SQLITE_MAGIC
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC))
