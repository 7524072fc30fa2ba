"""What ECCOS adds to the kernel's FastAPI application: its endpoints, and what stands before ``/query``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from eccos_aios.errors import EccosError
from eccos_aios.hooks.active import ACTIVE
from eccos_aios.hooks.ending import Ending
from eccos_aios.hooks.endpoints import EccosEndpoints
from eccos_aios.hooks.guard import host_names
from eccos_aios.hooks.launcher import kernel_module
from eccos_aios.hooks.query_door import QueryDoor
from eccos_aios.hooks.query_pool import PendingLimits, QueryPool

if TYPE_CHECKING:
    from eccos_aios.hooks.scheduler import EccosScheduler

LEAST_QUERY_THREADS = 64
QUERY_THREADS_PER_SLOT = 4  # a call holds its thread while it waits too, and what waits is what a plan needs


def extend(scheduler: EccosScheduler | None) -> None:
    """Add the endpoints to this process's kernel, and for a scheduler of ours the front; once is enough."""
    app = getattr(kernel_module(), "app", None)
    if app is None:
        return
    front: KernelFront | None = getattr(app.state, "eccos_front", None)
    if front is None:
        app.state.eccos_front = front = KernelFront(app, lambda: configured_hosts(app))
    if scheduler is not None:
        front.serve(scheduler)


def configured_hosts(app: Any) -> frozenset[str]:
    """The names that AIOS's config, or whoever started it, gives the kernel's server."""
    from aios.config.config_manager import config

    server = config.get_server_config()
    named = server.get("host") if isinstance(server, dict) else None
    return host_names(named) | host_names(getattr(app.state, "eccos_host", None))


class KernelFront:
    """All that stands between the kernel's server and its application.

    From without: the ``/eccos`` endpoints before everything, the door of ``/query`` inside AIOS's own
    middleware, and the threads in which its calls wait.

    Parameters
    ----------
    app : FastAPI
        Not started, or under way.
    hosts : callable
        The names that the Host header may hold beside those of loopback.
    """

    def __init__(self, app: Any, hosts: Callable[[], frozenset[str]] = frozenset) -> None:
        self._app = app
        self._pool: QueryPool | None = None
        self._ending = Ending(self._refuse_waiting)
        self._lock = threading.Lock()  # guards what is below
        self._dropped = 0  # calls whose clients went before a scheduler had them
        build = app.build_middleware_stack
        app.build_middleware_stack = lambda: EccosEndpoints(build(), hosts, self._added, self._is_ending)
        app.middleware_stack = None  # it is built anew for the next request

    def serve(self, scheduler: EccosScheduler) -> None:
        """Stand before this scheduler from now on."""
        pool = self._pool
        if pool is None:
            self._pool = pool = QueryPool(LEAST_QUERY_THREADS)
            self._stand_before_queries(pool)
        threads = max(pool.threads, QUERY_THREADS_PER_SLOT * _slots(scheduler))
        weights = {name: agent.weight for name, agent in scheduler.config.agents.items()}
        pool.configure(threads, weights, _room)

    def _stand_before_queries(self, pool: QueryPool) -> None:
        from starlette.middleware import Middleware

        door = Middleware(
            QueryDoor,
            room=self._room_left,
            ending=self._is_ending,
            retry_after_s=lambda: pool.retry_after_s,
            on_refusal=_note_refusal,
            on_dropped=self._note_dropped,
        )
        self._app.user_middleware.append(door)
        self._app.middleware_stack = None
        self._app.router.lifespan_context = self._around(self._app.router.lifespan_context)
        try:
            self._begin(asyncio.get_running_loop())
        except RuntimeError:
            return  # no loop runs yet at the kernel's start: the lifespan does it

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._pool is not None:
            loop.set_default_executor(self._pool)
        self._ending.watch()

    def _around(self, lifespan: Any) -> Any:
        @contextlib.asynccontextmanager
        async def around(app: Any) -> AsyncIterator[Any]:
            self._begin(asyncio.get_running_loop())
            # AIOS has imported a million objects by now. Each full collection would look at all of them, and
            # hold every thread for half a second.
            gc.collect()
            gc.freeze()
            try:
                async with lifespan(app) as state:
                    yield state
                self._ending.begin()
                await asyncio.wrap_future(self._ending.done)
            finally:
                self._ending.release()

        return around

    def _room_left(self) -> int | None:
        """How many more calls may wait; None where there is no scheduler of ours."""
        room, pool = _room(), self._pool
        return None if room is None or pool is None else room.max_pending - room.pending - pool.waiting

    def _is_ending(self) -> bool:
        return self._ending.begun and ACTIVE.ours is not None

    def _refuse_waiting(self) -> None:
        from eccos_aios.schedule import StoppedError

        if self._pool is not None:
            self._pool.refuse_waiting(StoppedError("the kernel is ending and takes no more calls"))

    def _note_dropped(self, calls: int) -> None:
        with self._lock:
            self._dropped += calls

    def _added(self, status: dict[str, Any]) -> dict[str, Any]:
        """A scheduler's status with what stands in front of it."""
        waiting = 0 if self._pool is None else self._pool.waiting
        with self._lock:
            dropped = self._dropped
        totals = {**status["totals"], "abandoned": status["totals"]["abandoned"] + dropped}
        return {**status, "pending": status["pending"] + waiting, "totals": totals}


def _room() -> PendingLimits | None:
    scheduler = ACTIVE.ours
    if scheduler is None:
        return None
    try:
        pending = scheduler.clockwork.pending
    except EccosError:  # not started yet: what comes waits in AIOS's queue
        pending = 0
    return PendingLimits(scheduler.config.max_pending, pending, _slots(scheduler))


def _slots(scheduler: EccosScheduler) -> int:
    return sum(core.slots for core in scheduler.cores)


def _note_refusal() -> None:
    scheduler = ACTIVE.ours
    if scheduler is not None:
        with contextlib.suppress(EccosError):  # as above
            scheduler.clockwork.note_refusal()
