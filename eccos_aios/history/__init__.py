"""Records of past calls: their format, the files and the store that hold them."""

from eccos_aios.history.call_outcome import CallOutcome
from eccos_aios.history.change import Change, restated
from eccos_aios.history.reading import ReadReport, indexed_history, read_history
from eccos_aios.history.record import Outcome, Record
from eccos_aios.history.recorder import OutcomeRecorder
from eccos_aios.history.snapshot import StoredRecords, StoreMark
from eccos_aios.history.stats import CoreStats, StoreStats
from eccos_aios.history.store import AddResult, HistoryStore
from eccos_aios.history.transfer import ExportResult, export_history, import_history

__all__ = [
    "AddResult",
    "CallOutcome",
    "Change",
    "CoreStats",
    "ExportResult",
    "HistoryStore",
    "Outcome",
    "OutcomeRecorder",
    "ReadReport",
    "Record",
    "StoreMark",
    "StoreStats",
    "StoredRecords",
    "export_history",
    "import_history",
    "indexed_history",
    "read_history",
    "restated",
]
