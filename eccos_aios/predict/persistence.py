"""Saving a fitted predictor as arrays and JSON, so that loading a file can never run code.

A kernel finds the predictor of its history beside it and need not fit at every start. The cache holds for one
history (of a store: for any later state of it), one `PredictorSpec`, and one version of the code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.atomic_file import replaced_file
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import HistoryStore, Record, StoredRecords, StoreMark, read_history
from eccos_aios.history.schema import is_store
from eccos_aios.history.snapshot import OnProgress
from eccos_aios.predict.base import Predictor
from eccos_aios.predict.embedders.base import GuardedEmbedder, NoEmbedder
from eccos_aios.predict.npz import NpzFile
from eccos_aios.predict.predictor_file import Reader, Writer
from eccos_aios.predict.serialization import can_be_saved, class_name, persistence_of
from eccos_aios.predict.spec import PredictorSpec

FORMAT = 6  # of the file; another is not read
SUFFIX = ".predictor.npz"
MIN_COVERED = 0.8  # of a store's records; a cache that was fitted on less is fitted again
# Maximum size of a cache: landmarks and terms take up to some tens of megabytes. A record, which takes at
# least 60 bytes of a history and a twentieth of that if gzipped, takes up to 8 KB while there are few.
MAX_BYTES = 128 * 2**20
MAX_BYTES_PER_BYTE = 2_000
MAX_HEAD_BYTES = 16 * 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A fitted predictor, and the state of the store that it was fitted on.

    Attributes
    ----------
    predictor : Predictor
    mark : StoreMark or None
        `HistoryStore.records_since` returns what came later. None: the history is not a store.
    records : int
        Number of records that it was fitted on.
    """

    predictor: Predictor
    mark: StoreMark | None
    records: int


def save_predictor(
    predictor: Predictor, path: str | Path, key: str = "", mark: StoreMark | None = None, records: int = 0
) -> None:
    """Write a fitted predictor with its index; a reader never sees an incomplete file.

    Parameters
    ----------
    predictor : Predictor
        One of this package, with an embedder of this package, or of classes for which
        `register_persistence` was called.
    path : str or Path
    key : str
        Identifies what it was fitted on, see `predictor_key`.
    mark : StoreMark, optional
        State of the store, if it was fitted on one.
    records : int
        Number of records that it was fitted on.

    Raises
    ------
    TypeError
        A part of it has a class that cannot be saved; names it.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    writer = Writer()
    tree = writer.to_json(predictor, "predictor")
    content = {"format": FORMAT, "key": key, "mark": mark and asdict(mark), "records": records}
    head = json.dumps({**content, "predictor": tree}, allow_nan=True).encode()
    arrays = {"head": np.frombuffer(head, dtype=np.uint8), **writer.arrays}
    with replaced_file(path) as file:
        np.savez(file, **arrays)
        with zipfile.ZipFile(file, "a") as members:
            for place, index in writer.indexes.items():
                with members.open(place, "w", force_zip64=True) as member:
                    index.write(member)


def load_predictor(path: str | Path, key: str | None = None) -> Predictor:
    """Read a file of `save_predictor`.

    Parameters
    ----------
    path : str or Path
    key : str, optional
        The key that the file must have. None: any.

    Raises
    ------
    HistoryError
        The file cannot be read, has another format, or was fitted on something else.
    """
    return _load(Path(path), key, lambda mark, records: True, math.inf).predictor


def stored_predictor(store: str | Path, spec: PredictorSpec | None = None) -> Fitted:
    """The predictor that `fit_store` has saved beside a store.

    Raises
    ------
    HistoryError
        There is none, it is damaged, or it was fitted on something else.
    """
    path = Path(store)
    cache = _Cache(path, spec or PredictorSpec())
    with HistoryStore(path, read_only=True) as opened:
        return cache.load(lambda mark, records: mark is not None and opened.holds(mark))


def saved_file(history: str | Path) -> Path:
    """Where the predictor of a history is saved."""
    path = Path(history)
    return path.with_name(path.name + SUFFIX)


def cache_file(history: Path, suffix: str) -> Path:
    """Where what is fitted on a history is cached: beside it, or in the user's cache folder.

    Parameters
    ----------
    history : Path
        The user's cache folder serves where the history's own is read-only and has no such file.
    suffix : str
        Distinguishes the files of one history.
    """
    beside = history.with_name(history.name + suffix)
    if beside.is_file() or os.access(beside.parent, os.W_OK):
        return beside
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eccos-aios"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return beside
    return folder / (hashlib.sha256(str(history.absolute()).encode()).hexdigest()[:32] + suffix)


def received_predictor(content: bytes, history: str | Path, spec: PredictorSpec | None = None) -> Fitted:
    """A predictor of a store that another kernel has fitted and saved.

    Parameters
    ----------
    content : bytes
        Of its file.
    history : str or Path
        This kernel's store.
    spec : PredictorSpec, optional
        The predictor that is wanted. Default: the hybrid predictor.

    Raises
    ------
    HistoryError
        It is damaged, or was made by another specification or another version of this package.
    """
    return _Cache(Path(history), spec or PredictorSpec()).receive(content)


def fitted_predictor(
    history: str | Path,
    spec: PredictorSpec | None = None,
    read: Callable[[Path], Sequence[Record]] = read_history,
    on_progress: OnProgress = lambda done, total: None,
) -> Fitted:
    """A predictor of a history, with its mark: from the cache beside the history, else fitted and cached.

    The cache is ``<history>.predictor.npz``. A cache of a store is used until the records that came since are
    more than a fifth of all; the caller can have it learn those. If the history's folder is read-only, the
    cache is in ``$XDG_CACHE_HOME/eccos-aios`` (``~/.cache/eccos-aios``). If that is, too, a warning is logged
    and the next start fits again, as it does if the predictor cannot be saved.

    Parameters
    ----------
    history : str or Path
    spec : PredictorSpec, optional
        Default: the hybrid predictor.
    read : callable
        Reads the records of a file that must be fitted; those of a store are streamed.
    on_progress : callable
        Called while a store is fitted with the number of records read and their total; twice if there are
        many.

    Raises
    ------
    HistoryError
        The history cannot be read, or a record in it is wrong.
    ConfigError
        `spec` is wrong.
    """
    path = Path(history)
    cache = _Cache(path, spec or PredictorSpec())
    if not is_store(path):
        return cache.found(lambda mark, records: True) or cache.fit(read(path))
    with HistoryStore(path, read_only=True) as store:

        def covers(mark: StoreMark | None, records: int) -> bool:
            if mark is None or not store.holds(mark):
                return False
            return records >= MIN_COVERED * (records + store.count_since(mark))

        return cache.found(covers) or cache.fit(store.records_until(store.mark(), on_progress))


def fit_store(store: str | Path, spec: PredictorSpec | None = None) -> Fitted:
    """Fit on all that a store holds now, whatever the cache holds, and cache the result.

    Raises
    ------
    HistoryError
        The store cannot be read, or a record in it is wrong.
    """
    path = Path(store)
    cache = _Cache(path, spec or PredictorSpec())
    with HistoryStore(path, read_only=True) as opened:
        return cache.fit(opened.records_until(opened.mark()))


def is_persistent(spec: PredictorSpec) -> bool:
    """Whether what `spec` makes can be saved, and so be fitted in another process."""
    return can_be_saved(spec.make())


def predictor_key(history: Path, spec: PredictorSpec, unfitted: Predictor) -> str:
    """Digest of the history's content, of the specification, and of the code that fits and predicts.

    The content of a store is not included: its mark identifies it.

    Raises
    ------
    HistoryError
        The history cannot be read.
    """
    try:
        content = b"store" if is_store(history) else history.read_bytes()
    except OSError as error:
        raise HistoryError(str(history), "", ABSENT, f"cannot be read: {error.strerror}") from error
    digest = hashlib.sha256()
    for part in (hashlib.sha256(content).hexdigest(), spec.as_json(), _code(), *_own_code(unfitted)):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()


Covers = Callable[["StoreMark | None", int], bool]


class _Cache:
    """The file beside a history that holds a predictor fitted on it.

    Parameters
    ----------
    history : Path
    spec : PredictorSpec
        The predictor that is wanted.
    """

    def __init__(self, history: Path, spec: PredictorSpec) -> None:
        self._path = cache_file(history, SUFFIX)
        self._history = history
        self._unfitted = spec.make()
        self._name = spec.predictor
        self._savable = can_be_saved(self._unfitted)
        self._key = predictor_key(history, spec, self._unfitted)

    def found(self, covers: Covers) -> Fitted | None:
        """Its content; None if it is absent, damaged in whatever way, or of something else."""
        if not self._savable or not self._path.is_file():
            return None
        try:
            return self.load(covers)
        except HistoryError as fault:
            log.info("fitting again: %s", fault)
            return None

    def load(self, covers: Covers) -> Fitted:
        """Its content.

        Raises
        ------
        HistoryError
            It is absent, damaged in whatever way, or of something else.
        """
        beside = (self._history, self._history.with_name(self._history.name + "-wal"))
        history_bytes = sum(file.stat().st_size for file in beside if file.exists())
        return self._load(self._path, covers, MAX_BYTES + MAX_BYTES_PER_BYTE * history_bytes)

    def receive(self, content: bytes) -> Fitted:
        """The predictor that some bytes hold.

        Raises
        ------
        HistoryError
            As `load`.
        """
        with tempfile.NamedTemporaryFile(prefix="eccos-", suffix=SUFFIX) as file:
            file.write(content)
            file.flush()
            return self._load(Path(file.name), lambda mark, records: True, MAX_BYTES + len(content))

    def _load(self, path: Path, covers: Covers, most_bytes: float) -> Fitted:
        fitted = _load(path, self._key, covers, most_bytes)
        if not _has_parameters(fitted.predictor, self._unfitted):
            raise HistoryError(str(path), "predictor", ABSENT, "has other parameters than its key says")
        return fitted

    def fit(self, history: Sequence[Record]) -> Fitted:
        """Fit on a history and save the result."""
        mark = history.mark if isinstance(history, StoredRecords) else None
        predictor = self._unfitted.fit(history)
        if not self._savable:
            log.info("predictor %s cannot be saved and is fitted at every start", self._name)
            return Fitted(predictor, mark, len(history))
        try:
            save_predictor(predictor, self._path, self._key, mark, len(history))
        except OSError as error:
            log.warning("the fitted predictor cannot be cached: %s: %s", self._path, error.strerror)
        return Fitted(predictor, mark, len(history))


def _has_parameters(found: object, wanted: object) -> bool:
    """Whether a fitted object has the class and the parameters of one that was not fitted."""
    if isinstance(found, GuardedEmbedder) and isinstance(wanted, GuardedEmbedder):
        # its width is learned, and an embedder that failed is replaced
        return type(found.inner) is NoEmbedder or _has_parameters(found.inner, wanted.inner)
    if type(found) is not type(wanted):
        return False
    if persistence_of(type(wanted)) is not None:
        return True  # its options are part of the key
    if wanted is None or isinstance(wanted, (bool, int, float, str)):
        return bool(found == wanted)
    return all(
        _has_parameters(getattr(found, name), part)
        for name, part in vars(wanted).items()
        if not name.startswith("_") and not name.endswith("_")
    )


def _load(path: Path, key: str | None, covers: Covers, most_bytes: float) -> Fitted:
    try:
        with NpzFile(path, most_bytes) as file:
            head = json.loads(file.array("head", MAX_HEAD_BYTES).tobytes())
            if head["format"] != FORMAT:
                raise HistoryError(str(path), "format", head["format"], f"this version reads format {FORMAT}")
            if key is not None and head["key"] != key:
                raise HistoryError(
                    str(path), "key", head["key"], "was fitted on another history, or by another predictor"
                )
            mark, records = None if head["mark"] is None else _mark(head["mark"]), head["records"]
            if type(records) is not int or records < 0 or not covers(mark, records):
                raise HistoryError(str(path), "mark", head["mark"], "was fitted on too little of the store")
            return Fitted(Reader(file).predictor(head["predictor"]), mark, records)
    except HistoryError:
        raise
    except Exception as error:  # the layers below raise anything for a damaged file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise HistoryError(str(path), "", ABSENT, f"is not a saved predictor: {reason}") from error


def _mark(head: dict[str, Any]) -> StoreMark:
    mark = StoreMark(**head)
    rows = (mark.records, mark.outcomes, mark.feedback)
    if not all(type(row) is int and 0 <= row < 2**63 for row in rows):
        raise ValueError("its mark has no valid row numbers")
    return mark


@lru_cache(maxsize=1)
def _code() -> str:
    """Digest of this package's sources: what they compute may change without a new version number."""
    digest = hashlib.sha256(f"{FORMAT}".encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _own_code(unfitted: Predictor) -> list[str]:
    """Digests of the modules of registered classes outside this package, which may change at any time."""
    embedder = getattr(unfitted, "embedder", None)
    parts = (unfitted, embedder.inner if isinstance(embedder, GuardedEmbedder) else embedder)
    digests = []
    for kind in map(type, parts):
        if persistence_of(kind) is None:
            continue
        source = getattr(sys.modules.get(kind.__module__), "__file__", None)
        content = Path(source).read_bytes() if source and Path(source).is_file() else b""
        digests.append(f"{class_name(kind)} {hashlib.sha256(content).hexdigest()}")
    return digests
