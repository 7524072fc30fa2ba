"""LogOnce: logs the first event of each kind, so that recurring events do not fill a log."""

from __future__ import annotations

import logging
import threading


class LogOnce:
    """Logs the first event of each kind at a logger and says so; any thread may call it.

    Parameters
    ----------
    logger : logging.Logger
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()  # guards the kinds
        self._kinds: set[str] = set()

    def warning(
        self, kind: str, message: str, *values: object, exc_info: BaseException | None = None
    ) -> None:
        """Log a warning unless one of its kind was logged before; parameters as `logging.Logger.warning`."""
        self._log(logging.WARNING, kind, message, values, exc_info)

    def error(self, kind: str, message: str, *values: object, exc_info: BaseException | None = None) -> None:
        """Log an error unless one of its kind was logged before; parameters as `logging.Logger.error`."""
        self._log(logging.ERROR, kind, message, values, exc_info)

    def _log(
        self, level: int, kind: str, message: str, values: tuple[object, ...], fault: BaseException | None
    ) -> None:
        with self._lock:
            first = kind not in self._kinds
            self._kinds.add(kind)
        if first:
            self._logger.log(level, f"{message} (logged once)", *values, exc_info=fault)
