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
        self._ours: EccosScheduler | None = None
        self._theirs: Any = None
        self._shadow: ShadowRouting | None = None

    @property
    def ours(self) -> EccosScheduler | None:
        """The ECCOS scheduler, running or stopped; None where AIOS's own runs, or none at all."""
        with self._lock:
            return self._ours

    @property
    def service(self) -> SchedulingService | None:
        """The service behind `ours`."""
        ours = self.ours
        return None if ours is None else ours.service

    @property
    def taken(self) -> bool:
        """Whether this process has ever had a scheduler."""
        with self._lock:
            return self._ours is not None or self._theirs is not None

    @property
    def shadow(self) -> ShadowRouting | None:
        """The shadow mode that watches a scheduler of AIOS's own."""
        with self._lock:
            return self._shadow

    def take(self, scheduler: EccosScheduler) -> None:
        """Make an ECCOS scheduler the active one; one of AIOS's own ends after its current batch."""
        with self._lock:
            theirs, self._ours, self._theirs, self._shadow = self._theirs, scheduler, None, None
        from eccos_aios.runtime.claim import keep_only

        keep_only(scheduler.config.manifest)
        if theirs is not None:
            theirs.active = False

    def leave(self, theirs: Any, shadow: ShadowRouting | None = None) -> None:
        """Make a scheduler of AIOS's own the active one, watched or not; ours answers its calls and stops."""
        with self._lock:
            ours, self._ours, self._theirs, self._shadow = self._ours, None, theirs, shadow
        if ours is not None:
            ours.stop()
        claims = sys.modules.get("eccos_aios.runtime.claim")
        if claims is not None:  # else this process has claimed no manifest
            claims.keep_only(None)


ACTIVE = ActiveScheduler()
