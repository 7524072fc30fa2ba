"""What past calls taught: the record format and how it is kept."""

from eccos_aios.history.record import Outcome, ReadReport, Record, read_history

__all__ = ["Outcome", "ReadReport", "Record", "read_history"]
