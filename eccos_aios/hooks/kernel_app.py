"""What ECCOS adds to the kernel's FastAPI application: its routes, and threads enough for its quotas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from eccos_aios.hooks.endpoints import add_endpoints
from eccos_aios.hooks.launcher import kernel_module
from eccos_aios.hooks.seat import SEAT

if TYPE_CHECKING:
    from eccos_aios.hooks.scheduler import EccosScheduler

LEAST_QUERY_THREADS = 64
QUERY_THREADS_PER_SLOT = 4  # a call holds its thread while it waits too, and what waits is what a plan needs


def extend(scheduler: EccosScheduler | None) -> None:
    """Add the endpoints to this process's kernel, and for a scheduler of ours the pool; once is enough."""
    app = getattr(kernel_module(), "app", None)
    if app is None:
        return
    if not getattr(app.state, "eccos_endpoints", False):
        app.state.eccos_endpoints = True
        add_endpoints(app)
    if scheduler is None:
        return
    threads = max(LEAST_QUERY_THREADS, QUERY_THREADS_PER_SLOT * sum(core.slots for core in scheduler.cores))
    pool: QueryPool | None = getattr(app.state, "eccos_query_pool", None)
    if pool is not None:
        pool.grow(threads)
        return
    app.state.eccos_query_pool = pool = QueryPool(threads)
    app.router.lifespan_context = _with_pool(app.router.lifespan_context, pool)
    with contextlib.suppress(
        RuntimeError
    ):  # no loop runs yet at the kernel's start: the lifespan installs it
        pool.install(asyncio.get_running_loop())


class QueryPool:
    """The threads in which AIOS's ``/query`` waits for its syscalls.

    AIOS leaves them to asyncio's default, min(32, CPUs + 4) threads: on two CPUs only six calls would
    reach any scheduler at a time. The event loop that it is installed in owns and ends it.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._executor: ThreadPoolExecutor | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make it the loop's default."""
        previous = self._executor
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="eccos-query")
        self._loop = loop
        loop.set_default_executor(self._executor)
        if previous is not None:
            previous.shutdown(wait=False)

    def grow(self, threads: int) -> None:
        """Have room for larger quotas; called from the loop's own thread."""
        if threads > self.threads:
            self.threads = threads
            if self._loop is not None:
                self.install(self._loop)


def _with_pool(lifespan: Any, pool: QueryPool) -> Any:
    @contextlib.asynccontextmanager
    async def with_pool(app: Any) -> AsyncIterator[Any]:
        pool.install(asyncio.get_running_loop())
        async with lifespan(app) as state:
            yield state
        scheduler = SEAT.ours
        if scheduler is not None and not scheduler.stopped:
            await asyncio.to_thread(scheduler.stop)

    return with_pool
