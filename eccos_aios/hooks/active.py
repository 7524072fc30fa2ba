"""ActiveScheduler: the one place that knows which scheduler runs in this process."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a kernel without ECCOS imports this module too, and must not load the scheduler
    from eccos_aios.hooks.scheduler import EccosScheduler
    from eccos_aios.hooks.shadow import ShadowRouting
    from eccos_aios.runtime.service import SchedulingService


class ActiveScheduler:
    """Holds the scheduler that AIOS was given last, ECCOS's or its own; any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._scheduler: EccosScheduler | None = None
        self._of_aios: Any = None
        self._shadow: ShadowRouting | None = None

    @property
    def scheduler(self) -> EccosScheduler | None:
        """The ECCOS scheduler, running or stopped; None where AIOS's own runs, or none at all."""
        with self._lock:
            return self._scheduler

    @property
    def service(self) -> SchedulingService | None:
        """The service of `scheduler`."""
        scheduler = self.scheduler
        return None if scheduler is None else scheduler.service

    @property
    def was_set(self) -> bool:
        """Whether this process has ever had a scheduler."""
        with self._lock:
            return self._scheduler is not None or self._of_aios is not None

    @property
    def shadow(self) -> ShadowRouting | None:
        """The shadow mode that watches a scheduler of AIOS's own."""
        with self._lock:
            return self._shadow

    def set_eccos(self, scheduler: EccosScheduler) -> None:
        """Make an ECCOS scheduler the active one; one of AIOS's own ends after its current batch."""
        with self._lock:
            before, self._of_aios = self._of_aios, None
            self._scheduler, self._shadow = scheduler, None
        from eccos_aios.runtime.claim import keep_only

        keep_only(scheduler.config.manifest)
        if before is not None:
            before.active = False

    def set_aios(self, scheduler: Any, shadow: ShadowRouting | None = None) -> None:
        """Make a scheduler of AIOS's own the active one, watched or not; ECCOS's is stopped."""
        with self._lock:
            before, self._scheduler = self._scheduler, None
            self._of_aios, self._shadow = scheduler, shadow
        if before is not None:
            before.stop()
        claims = sys.modules.get("eccos_aios.runtime.claim")
        if claims is not None:  # else this process has claimed no manifest
            claims.keep_only(None)


ACTIVE = ActiveScheduler()
