"""The additions to the kernel's FastAPI application: endpoints, middleware of ``/query``, its threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from eccos_aios.hooks.active import ACTIVE
from eccos_aios.hooks.ending import Ending
from eccos_aios.hooks.endpoints import EccosEndpoints
from eccos_aios.hooks.guard import host_names
from eccos_aios.hooks.launcher import kernel_module
from eccos_aios.hooks.query_middleware import QueryMiddleware
from eccos_aios.hooks.query_pool import QUERY_THREADS_PER_SLOT, PendingLimits, QueryPool

if TYPE_CHECKING:
    from eccos_aios.hooks.scheduler import EccosScheduler

MIN_QUERY_THREADS = 64


def extend(scheduler: EccosScheduler | None) -> None:
    """Add the endpoints to this process's kernel and, for an ECCOS scheduler, the rest; may be repeated."""
    app = getattr(kernel_module(), "app", None)
    if app is None:
        return
    front: KernelFront | None = getattr(app.state, "eccos_front", None)
    if front is None:
        app.state.eccos_front = front = KernelFront(app, lambda: configured_hosts(app))
    if scheduler is not None:
        front.serve(scheduler)


def configured_hosts(app: Any) -> frozenset[str]:
    """The host names that AIOS's config, or its start, gives to the kernel's server."""
    from aios.config.config_manager import config

    server = config.get_server_config()
    named = server.get("host") if isinstance(server, dict) else None
    return host_names(named) | host_names(getattr(app.state, "eccos_host", None))


class KernelFront:
    """All that ECCOS puts between the kernel's server and its application.

    From the outside in: the ``/eccos`` endpoints, AIOS's own middleware, `QueryMiddleware` in front of
    ``/query``, and the threads in which its calls wait.

    Parameters
    ----------
    app : FastAPI
        Started or not.
    hosts : callable
        The names that the Host header may have beside those of loopback.
    """

    def __init__(self, app: Any, hosts: Callable[[], frozenset[str]] = frozenset) -> None:
        self._app = app
        self._pool: QueryPool | None = None
        self._ending = Ending(self._refuse_waiting)
        self._lock = threading.Lock()  # guards what follows
        self._dropped = 0  # calls whose clients left before a scheduler had them
        build = app.build_middleware_stack
        app.build_middleware_stack = lambda: EccosEndpoints(build(), hosts, self._added, self._is_ending)
        app.middleware_stack = None  # rebuilt for the next request

    def serve(self, scheduler: EccosScheduler) -> None:
        """Serve in front of this scheduler from now on."""
        pool = self._pool
        if pool is None:
            self._pool = pool = QueryPool(MIN_QUERY_THREADS)
            self._stand_before_queries(pool)
        threads = max(pool.threads, QUERY_THREADS_PER_SLOT * _slots(scheduler))
        weights = {name: agent.weight for name, agent in scheduler.config.agents.items()}
        pool.configure(threads, weights, _limits)

    def _stand_before_queries(self, pool: QueryPool) -> None:
        from starlette.middleware import Middleware

        middleware = Middleware(
            QueryMiddleware,
            free_places=self._free_places,
            ending=self._is_ending,
            retry_after_s=lambda: pool.retry_after_s,
            on_refusal=_note_refusal,
            on_dropped=self._note_dropped,
        )
        self._app.user_middleware.append(middleware)
        self._app.middleware_stack = None
        self._app.router.lifespan_context = self._around(self._app.router.lifespan_context)
        try:
            self._begin(asyncio.get_running_loop())
        except RuntimeError:
            return  # at the kernel's start no loop runs yet: the lifespan begins

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._pool is not None:
            loop.set_default_executor(self._pool)
        self._ending.watch()

    def _around(self, lifespan: Any) -> Any:
        @contextlib.asynccontextmanager
        async def around(app: Any) -> AsyncIterator[Any]:
            self._begin(asyncio.get_running_loop())
            # AIOS has created a million objects by now. Each full collection would traverse all of them and
            # stop every thread for half a second.
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

    def _free_places(self) -> int | None:
        """How many more calls may wait; None if there is no ECCOS scheduler."""
        limits, pool = _limits(), self._pool
        if limits is None or pool is None:
            return None
        return limits.max_pending - limits.pending - pool.waiting

    def _is_ending(self) -> bool:
        return self._ending.begun and ACTIVE.scheduler is not None

    def _refuse_waiting(self) -> None:
        from eccos_aios.schedule import StoppedError

        if self._pool is not None:
            self._pool.refuse_waiting(StoppedError("the kernel is ending and accepts no more calls"))

    def _note_dropped(self, calls: int) -> None:
        with self._lock:
            self._dropped += calls

    def _added(self, status: dict[str, Any]) -> dict[str, Any]:
        """A scheduler's status with the calls in front of it."""
        waiting = 0 if self._pool is None else self._pool.waiting
        with self._lock:
            dropped = self._dropped
        totals = {**status["totals"], "abandoned": status["totals"]["abandoned"] + dropped}
        return {**status, "pending": status["pending"] + waiting, "totals": totals}


def _limits() -> PendingLimits | None:
    active = ACTIVE.scheduler
    if active is None:
        return None
    return PendingLimits(active.config.max_pending, active.service.scheduler.pending, _slots(active))


def _slots(scheduler: EccosScheduler) -> int:
    return sum(core.slots for core in scheduler.cores)


def _note_refusal() -> None:
    service = ACTIVE.service
    if service is not None:
        service.scheduler.note_refusal()
