"""The embedded kernel: AIOS's queues, syscalls and ``/query`` pool, without AIOS."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, Protocol

from eccos_aios.sandbox.adapter import EmbeddedAdapter
from eccos_aios.sandbox.fifo import BATCH_INTERVAL_S, FifoScheduler
from eccos_aios.sandbox.query import Query, Response
from eccos_aios.sandbox.server import SandboxCore
from eccos_aios.sandbox.syscall import (
    GET_TIMEOUT_S,
    LLMSyscall,
    MemorySyscall,
    StorageSyscall,
    Syscall,
    SyscallExecutor,
    ToolSyscall,
)

DEFAULT_QUERY_THREADS = min(32, (os.cpu_count() or 1) + 4)  # as `asyncio.to_thread` has
DEFAULT_GRACE_S = 5.0  # seconds that `stop` gives the scheduler before it ends the connections to cores


class KernelScheduler(Protocol):
    """The interface of a kernel's scheduler."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class StandIn:
    """Stand-in for AIOS's memory, storage or tool manager; answers at once, or raises `fault`."""

    def __init__(self, kind: Literal["memory", "storage", "tool"]) -> None:
        self.kind = kind
        self.fault: Exception | None = None

    def address_request(self, syscall: Syscall) -> Response:
        """Answer a syscall; raises `fault` if there is one."""
        if self.fault is not None:
            raise self.fault
        done = f"{self.kind} has served {syscall.agent_name}"
        return Response(response_class=self.kind, response_message=done, finished=True)


class EmbeddedKernel:
    """A kernel in this process, over sandbox cores.

    Parameters
    ----------
    cores : sequence of SandboxCore
        Started; the kernel neither starts nor stops them.
    make_scheduler : callable, optional
        Called with AIOS's own keyword arguments ``llm``, ``memory_manager``, ``storage_manager``,
        ``tool_manager``, ``log_mode``, ``get_llm_syscall``, ``get_memory_syscall``,
        ``get_storage_syscall`` and ``get_tool_syscall``. Default: `FifoScheduler`.
    query_threads : int, optional
        Queries that are served at once. Default: `DEFAULT_QUERY_THREADS`.
    time_scale : float
        Factor on AIOS's own pauses: the wait of its queues, the sleep of its FIFO.
    """

    def __init__(
        self,
        cores: Sequence[SandboxCore],
        make_scheduler: Callable[..., KernelScheduler] | None = None,
        query_threads: int | None = None,
        *,
        time_scale: float = 1.0,
    ) -> None:
        self.query_threads = query_threads or DEFAULT_QUERY_THREADS
        self.llm = EmbeddedAdapter(cores)
        self.memory_manager = StandIn("memory")
        self.storage_manager = StandIn("storage")
        self.tool_manager = StandIn("tool")
        self._executor = SyscallExecutor(GET_TIMEOUT_S * time_scale)
        queues = self._executor.queues
        fifo = partial(FifoScheduler, batch_interval=BATCH_INTERVAL_S * time_scale)
        self.scheduler: KernelScheduler = (make_scheduler or fifo)(
            llm=self.llm,
            memory_manager=self.memory_manager,
            storage_manager=self.storage_manager,
            tool_manager=self.tool_manager,
            log_mode="console",
            get_llm_syscall=queues[LLMSyscall].get,
            get_memory_syscall=queues[MemorySyscall].get,
            get_storage_syscall=queues[StorageSyscall].get,
            get_tool_syscall=queues[ToolSyscall].get,
        )
        self._pool: ThreadPoolExecutor | None = None

    def start(self) -> EmbeddedKernel:
        """Take queries; returns itself. A kernel is started once."""
        self._pool = ThreadPoolExecutor(self.query_threads, thread_name_prefix="query")
        self.scheduler.start()
        return self

    def query(self, agent_name: str, query: Query) -> Future[Any]:
        """Put a query, as an agent's ``POST /query`` does.

        Returns
        -------
        Future
            Of what `SyscallExecutor.execute_request` returns.

        Raises
        ------
        RuntimeError
            The kernel is not running.
        """
        if self._pool is None:
            raise RuntimeError("the embedded kernel is not running")
        return self._pool.submit(self._executor.execute_request, agent_name, query)

    def stop(self, grace_s: float = DEFAULT_GRACE_S) -> None:
        """Stop the scheduler, answer pending syscalls with an error, end every thread; may be repeated.

        Parameters
        ----------
        grace_s : float
            Seconds after which calls that are with a core are cut off.
        """
        pool, self._pool = self._pool, None
        if pool is None:
            return
        cut_off = threading.Timer(grace_s, self.llm.close)
        cut_off.name = "embedded-kernel-cut-off"
        cut_off.start()
        try:
            self.scheduler.stop()
        finally:
            cut_off.cancel()
            cut_off.join()
            self.llm.close()
            self._executor.stop()
            pool.shutdown()

    def __enter__(self) -> EmbeddedKernel:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
