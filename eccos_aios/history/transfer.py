"""Import into and export from a store: the contract's JSON lines."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history.reading import ReadReport, good_records, open_source
from eccos_aios.history.store import AddResult, HistoryStore

OnProgress = Callable[[int, int], None]  # how many are done, out of how many at most
T = TypeVar("T")


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Attributes
    ----------
    records : int
        Lines written.
    ungraded_calls : int
        Calls that were left out: the format has no place for a call of unknown quality.
    """

    records: int
    ungraded_calls: int


def import_history(
    store: HistoryStore,
    path: str | Path,
    *,
    skip_bad_records: bool = False,
    report: ReadReport | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> AddResult:
    """Add the records of a file to a store, each once.

    A bad record stops it. Some of those before it may be stored; importing the corrected file adds the rest.

    Parameters
    ----------
    path : str or Path
        Any file that `read_history` reads, another store included.
    skip_bad_records, report
        As in `read_history`.

    Raises
    ------
    HistoryError
        The file cannot be read, a record in it is wrong, or the store cannot be written.
    """
    path = Path(path)
    if _is_same_file(path, store.path):
        raise HistoryError(str(path), "", ABSENT, "cannot be imported into itself")
    source = open_source(path)
    found = _counted(source.found, source.length, on_progress)
    return store.extend(good_records(found, skip_bad_records=skip_bad_records, report=report))


def export_history(
    store: HistoryStore, out: str | Path, *, on_progress: OnProgress = lambda done, total: None
) -> ExportResult:
    """Write a store's records as JSON lines.

    Parameters
    ----------
    store : HistoryStore
    out : str or Path
        Gzipped if the name ends in ``.gz``. An existing file is replaced only once the last line is written.
    on_progress : callable
        Called with the number of records written and the number of all.

    Raises
    ------
    HistoryError
        The store cannot be read, or the file cannot be written.
    """
    out = Path(out)
    if _is_same_file(out, store.path):
        raise HistoryError(str(out), "", ABSENT, "is the store itself; name another file")
    stats = store.stats()
    partial = out.with_name(out.name + ".partial")
    try:
        with _text_file(partial, packed=out.suffix == ".gz") as file:
            total = stats.records + stats.graded_calls
            written = 0
            for record in _counted(store.records(), total, on_progress):
                file.write(record.model_dump_json(exclude_defaults=True) + "\n")
                written += 1
        partial.replace(out)
    except OSError as error:
        raise HistoryError(str(out), "", ABSENT, f"cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # where nothing could be written there is nothing to remove
            partial.unlink(missing_ok=True)
    return ExportResult(written, stats.calls - stats.graded_calls)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is absent or out of reach; opening it reports that
        return False


def _text_file(path: Path, *, packed: bool) -> IO[str]:
    if packed:
        return gzip.open(path, "wt", encoding="utf-8", newline="\n")
    return path.open("w", encoding="utf-8", newline="\n")


def _counted(items: Iterator[T], total: int, on_progress: OnProgress) -> Iterator[T]:
    for done, item in enumerate(items, start=1):
        yield item
        on_progress(done, total)
