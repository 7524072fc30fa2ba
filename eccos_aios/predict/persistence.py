"""Saving a fitted predictor as arrays and JSON, so that loading a file can never run code."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import HistoryStore, Record, StoredRecords, StoreMark, read_history
from eccos_aios.history.schema import is_store
from eccos_aios.history.snapshot import OnProgress
from eccos_aios.predict.base import Predictor
from eccos_aios.predict.embedders.base import GuardedEmbedder, NoEmbedder
from eccos_aios.predict.hybrid import HybridPredictor
from eccos_aios.predict.npz import NpzFile
from eccos_aios.predict.predictor_file import Reader, Writer

FORMAT = 3  # of the file; one that says otherwise is not read
SUFFIX = ".predictor.npz"
LEAST_COVERED = 0.8  # of a store's records; a cache that was fitted on less is fitted anew
# What a cache may have: landmarks and terms take up to some tens of megabytes, and a record, which takes 60
# bytes of a history at least and a twentieth of that where it is gzipped, up to 8 KB while there are few.
MOST_BYTES = 128 * 2**20
MOST_BYTES_PER_BYTE = 2_000
MOST_HEAD_BYTES = 16 * 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A fitted predictor, and how far the store had come that it was fitted on.

    Attributes
    ----------
    predictor : Predictor
    mark : StoreMark or None
        What came later is told by `HistoryStore.records_since`. None: the history is no store.
    records : int
        That it was fitted on.
    """

    predictor: Predictor
    mark: StoreMark | None
    records: int


def save_predictor(
    predictor: Predictor, path: str | Path, key: str = "", mark: StoreMark | None = None, records: int = 0
) -> None:
    """Write a fitted predictor with its index; a reader never sees half of it.

    Parameters
    ----------
    predictor : HybridPredictor, RetrievalPredictor or TrainedPredictor
        With an embedder of this package.
    path : str or Path
    key : str
        What it was fitted on, as `predictor_key` tells it.
    mark : StoreMark, optional
        How far the store had come, where it was fitted on one.
    records : int
        How many records the store gave at the mark.

    Raises
    ------
    TypeError
        Something in it is none of this package's kinds; names it.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    writer = Writer()
    tree = writer.written(predictor, "predictor")
    content = {"format": FORMAT, "key": key, "mark": mark and asdict(mark), "records": records}
    head = json.dumps({**content, "predictor": tree}, allow_nan=True).encode()
    arrays = {"head": np.frombuffer(head, dtype=np.uint8), **writer.arrays}
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w+b") as file:
            np.savez(file, **arrays)
            with zipfile.ZipFile(file, "a") as members:
                for place, index in writer.indexes.items():
                    with members.open(place, "w", force_zip64=True) as member:
                        index.write(member)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_predictor(path: str | Path, key: str | None = None) -> Predictor:
    """Read what `save_predictor` wrote.

    Parameters
    ----------
    path : str or Path
    key : str, optional
        What it must have been fitted on. None: anything.

    Raises
    ------
    HistoryError
        The file cannot be read, is of another format, or was fitted on something else.
    """
    return _load(Path(path), key, lambda mark, records: True, math.inf).predictor


def stored_predictor(store: str | Path, make: Callable[[], Predictor] = HybridPredictor) -> Fitted:
    """What `refit` has left beside a store.

    Raises
    ------
    HistoryError
        There is nothing, it is damaged, or it was fitted on something else.
    """
    path, unfitted = Path(store), make()
    cache = _Cache(path, unfitted)
    with HistoryStore(path, read_only=True) as opened:
        return cache.load(lambda mark, records: mark is not None and opened.holds(mark))


def cached_predictor(
    history: str | Path,
    read: Callable[[Path], Sequence[Record]] = read_history,
    make: Callable[[], Predictor] = HybridPredictor,
) -> Predictor:
    """The predictor fitted on a whole history: from the cache next to it, else fitted and cached.

    As `fitted_predictor`, but of a store the cache holds only until something is added.
    """
    return _fitted(Path(history), read, make, 1.0).predictor


def fitted_predictor(
    history: str | Path,
    read: Callable[[Path], Sequence[Record]] = read_history,
    make: Callable[[], Predictor] = HybridPredictor,
    on_progress: OnProgress = lambda done, total: None,
) -> Fitted:
    """A predictor of a history, with its mark: from the cache next to it, else fitted and cached.

    The cache is ``<history>.predictor.npz``. It holds for one version of this package's code and, of a
    file, for one content. Of a store it holds for every later mark, until the records that came since are
    more than a fifth of all; the caller can teach it those. A folder that cannot be written costs the next
    start a fit, and a warning.

    Parameters
    ----------
    history : str or Path
    read : callable
        Reads the records of a file where they must be fitted; a store's are streamed.
    make : callable
        Makes the predictor that is fitted.
    on_progress : callable
        Told, where a store is fitted, how many of its records are read, of how many; twice where there
        are many.

    Raises
    ------
    HistoryError
        The history cannot be read, or a record in it is wrong.
    """
    return _fitted(Path(history), read, make, LEAST_COVERED, on_progress)


def refit(store: str | Path, make: Callable[[], Predictor] = HybridPredictor) -> Fitted:
    """Fit on all that a store holds now, whatever its cache says, and cache that.

    Raises
    ------
    HistoryError
        The store cannot be read, or a record in it is wrong.
    """
    path, unfitted = Path(store), make()
    cache = _Cache(path, unfitted)
    with HistoryStore(path, read_only=True) as opened:
        return cache.fit(opened.records_until(opened.mark()))


def predictor_key(history: Path, predictor: Predictor) -> str:
    """Digest of the history's content, of the predictor's kind and parameters, and of the predicting code.

    A store's content is left to its mark.

    Raises
    ------
    HistoryError
        The history cannot be read.
    """
    try:
        content = b"store" if is_store(history) else history.read_bytes()
    except OSError as error:
        raise HistoryError(str(history), "", ABSENT, f"cannot be read: {error.strerror}") from error
    parameters = json.dumps(Writer().written(predictor, ""), sort_keys=True)
    digest = hashlib.sha256()
    for part in (hashlib.sha256(content).hexdigest(), parameters, _code()):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()


def _fitted(
    history: Path,
    read: Callable[[Path], Sequence[Record]],
    make: Callable[[], Predictor],
    least: float,
    on_progress: OnProgress = lambda done, total: None,
) -> Fitted:
    cache = _Cache(history, make())
    if not is_store(history):
        return cache.found(lambda mark, records: True) or cache.fit(read(history))
    with HistoryStore(history, read_only=True) as store:

        def covers(mark: StoreMark | None, records: int) -> bool:
            if mark is None or not store.holds(mark):
                return False
            return records >= least * (records + store.count_since(mark))

        return cache.found(covers) or cache.fit(store.records_until(store.mark(), on_progress))


Covers = Callable[["StoreMark | None", int], bool]


class _Cache:
    """The file beside a history that holds a predictor of it.

    Parameters
    ----------
    history : Path
    unfitted : Predictor
        Of the kind and with the parameters that are wanted.
    """

    def __init__(self, history: Path, unfitted: Predictor) -> None:
        self._path = history.with_name(history.name + SUFFIX)
        self._history = history
        self._unfitted = unfitted
        self._key = predictor_key(history, unfitted)

    def found(self, covers: Covers) -> Fitted | None:
        """What it holds; None where it is absent, damaged in whatever way, or of something else."""
        if not self._path.is_file():
            return None
        try:
            return self.load(covers)
        except HistoryError as fault:
            log.info("fitting anew: %s", fault)
            return None

    def load(self, covers: Covers) -> Fitted:
        """What it holds.

        Raises
        ------
        HistoryError
            It is absent, damaged in whatever way, or of something else.
        """
        beside = (self._history, self._history.with_name(self._history.name + "-wal"))
        explained = sum(file.stat().st_size for file in beside if file.exists())
        fitted = _load(self._path, self._key, covers, MOST_BYTES + MOST_BYTES_PER_BYTE * explained)
        if not _has_parameters(fitted.predictor, self._unfitted):
            raise HistoryError(str(self._path), "predictor", ABSENT, "has other parameters than its key says")
        return fitted

    def fit(self, history: Sequence[Record]) -> Fitted:
        """Fit on a history, and keep that."""
        mark = history.mark if isinstance(history, StoredRecords) else None
        predictor = self._unfitted.fit(history)
        try:
            save_predictor(predictor, self._path, self._key, mark, len(history))
        except OSError as error:
            log.warning("the fitted predictor cannot be cached: %s: %s", self._path, error.strerror)
        return Fitted(predictor, mark, len(history))


def _has_parameters(found: object, wanted: object) -> bool:
    """Whether what was fitted has the kind and parameters of what was not, but where a fit changes them."""
    if isinstance(found, GuardedEmbedder) and isinstance(wanted, GuardedEmbedder):
        # it learns its width, and lets go of an embedder that fails
        return type(found.inner) is NoEmbedder or _has_parameters(found.inner, wanted.inner)
    if type(found) is not type(wanted):
        return False
    if wanted is None or isinstance(wanted, (bool, int, float, str)):
        return found == wanted
    return all(
        _has_parameters(getattr(found, name), part)
        for name, part in vars(wanted).items()
        if not name.startswith("_") and not name.endswith("_")
    )


def _load(path: Path, key: str | None, covers: Covers, most_bytes: float) -> Fitted:
    try:
        with NpzFile(path, most_bytes) as file:
            head = json.loads(file.array("head", MOST_HEAD_BYTES).tobytes())
            if head["format"] != FORMAT:
                raise HistoryError(str(path), "format", head["format"], f"this version reads format {FORMAT}")
            if key is not None and head["key"] != key:
                raise HistoryError(str(path), "key", head["key"], "was fitted on another history")
            mark, records = None if head["mark"] is None else _mark(head["mark"]), head["records"]
            if type(records) is not int or records < 0 or not covers(mark, records):
                raise HistoryError(str(path), "mark", head["mark"], "was fitted on too little of the store")
            return Fitted(Reader(file).predictor(head["predictor"]), mark, records)
    except HistoryError:
        raise
    except Exception as error:  # every layer below raises what it likes at a damaged file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise HistoryError(str(path), "", ABSENT, f"is not a saved predictor: {reason}") from error


def _mark(head: dict[str, Any]) -> StoreMark:
    mark = StoreMark(**head)
    rows = (mark.records, mark.outcomes, mark.feedback)
    if not all(type(row) is int and 0 <= row < 2**63 for row in rows):
        raise ValueError("its mark names no rows of a store")
    return mark


@lru_cache(maxsize=1)
def _code() -> str:
    """Digest of this folder's sources: what they compute may change without a new version's number."""
    digest = hashlib.sha256(f"{FORMAT}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
