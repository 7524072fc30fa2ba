"""The seat: which scheduler runs in this process, so that there is never a second one."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a kernel without ECCOS imports this room too, and must not pay for the clockwork
    from eccos_aios.hooks.scheduler import EccosScheduler
    from eccos_aios.hooks.shadow import ShadowRouting


class ActiveScheduler:
    """Holds the scheduler that AIOS was given last, ours or its own."""

    def __init__(self) -> None:
        # Guards the three below.
        self._lock = threading.Lock()
        self._ours: EccosScheduler | None = None
        self._theirs: Any = None
        self._shadow: ShadowRouting | None = None

    @property
    def ours(self) -> EccosScheduler | None:
        """The ECCOS scheduler that sits here, running or stopped."""
        with self._lock:
            return self._ours

    @property
    def taken(self) -> bool:
        """Whether this process has had a scheduler at all."""
        with self._lock:
            return self._ours is not None or self._theirs is not None

    @property
    def shadow(self) -> ShadowRouting | None:
        """What watches a scheduler of AIOS's own."""
        with self._lock:
            return self._shadow

    def take(self, scheduler: EccosScheduler) -> None:
        """Give the seat to ECCOS; a scheduler of AIOS's own ends after the batch that it is at."""
        with self._lock:
            theirs, self._ours, self._theirs, self._shadow = self._theirs, scheduler, None, None
        from eccos_aios.hooks.claim import keep_only

        keep_only(scheduler.config.manifest)
        if theirs is not None:
            theirs.active = False

    def leave(self, theirs: Any, shadow: ShadowRouting | None = None) -> None:
        """Give the seat to a scheduler of AIOS's own, watched or not; ours finishes what it holds."""
        with self._lock:
            ours, self._ours, self._theirs, self._shadow = self._ours, None, theirs, shadow
        if ours is not None:
            ours.stop()
        claims = sys.modules.get("eccos_aios.hooks.claim")
        if claims is not None:  # else this process has claimed nothing
            claims.keep_only(None)


ACTIVE = ActiveScheduler()
