"""PredictorRelay: publishes this kernel's fitted predictor and hands on those of others."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.shared.connection import SharedUnavailableError
from eccos_aios.shared.publication import PredictorPublication, Published, published_of
from eccos_aios.supervised import SupervisedThread

LOOK_S = 1.0  # seconds between two looks at what is published
JOIN_S = 3.0


class PredictorRelay:
    """Owns the thread ``eccos-predictor``.

    Parameters
    ----------
    publication : PredictorPublication
    on_published : callable
        Called with the content that another kernel has published, once for each.
    clock : Clock, optional
    """

    def __init__(
        self,
        publication: PredictorPublication,
        on_published: Callable[[bytes], None],
        clock: Clock = MONOTONIC_CLOCK,
    ) -> None:
        self._publication = publication
        self._on_published = on_published
        self._clock = clock
        self._changed = threading.Condition()  # guards the next two
        self._waiting: bytes | None = None
        self._stopping = False
        self._known: Published | None = None  # used by the thread only
        self._thread = SupervisedThread("eccos-predictor", self._run, clock=clock)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is not published yet is not published."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.end()
        if self._thread.join(JOIN_S):
            self._publication.close()

    def publish(self, content: bytes) -> None:
        """Publish this content soon, instead of any that waits."""
        with self._changed:
            self._waiting = content
            self._changed.notify_all()

    def degraded(self) -> list[str]:
        """A line about the thread, if an unexpected exception restarted it."""
        return [note] if (note := self._thread.note()) else []

    def _run(self) -> None:
        while True:
            with self._changed:
                waiting, stopping = self._waiting, self._stopping
            if stopping:
                return
            try:
                if waiting is not None:
                    self._publish(waiting)
                else:
                    self._look()
                self._pause(until_published=True)
            except SharedUnavailableError:  # the slots' thread reports it
                self._pause()

    def _pause(self, *, until_published: bool = False) -> None:
        with self._changed:
            until_s = self._clock.now_s() + LOOK_S
            self._clock.wait_for(
                self._changed,
                lambda: self._stopping or (until_published and self._waiting is not None),
                until_s,
            )

    def _publish(self, content: bytes) -> None:
        # Before it is published, so that this thread does not take it for another kernel's.
        self._known = published_of(content)
        self._publication.publish(content)
        with self._changed:
            if self._waiting is content:
                self._waiting = None

    def _look(self) -> None:
        latest = self._publication.latest()
        if latest is None or latest == self._known:
            return
        content = self._publication.content(latest)
        if content is not None:
            self._known = latest
            self._on_published(content)
