"""AIOS's syscalls: how a query becomes one, waits in a queue, and is answered."""

from __future__ import annotations

import threading
import time
from queue import Queue
from typing import Any

from eccos_aios.sandbox.query import (
    LLMQuery,
    MemoryQuery,
    Query,
    Response,
    StorageQuery,
    ToolQuery,
    error_response,
)

GET_TIMEOUT_S = 0.1  # seconds that AIOS's queues wait for a syscall before they raise queue.Empty


class Syscall(threading.Thread):
    """One query on its way: a thread that ends when `event` is set, as AIOS's does."""

    def __init__(self, agent_name: str, query: Query) -> None:
        super().__init__(name=f"syscall-{query.query_class}", daemon=True)
        self.agent_name = agent_name
        self.query = query
        self.event = threading.Event()
        self.pid: int | None = None
        self.aid: str | None = None
        self.status: str | None = None
        self.response: Any = None
        self.time_limit: float | None = None
        self.created_time: float | None = None
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.source: str | None = None
        self.target: str | None = None
        self.priority: int | None = None

    def run(self) -> None:
        self.event.wait()

    def get_pid(self) -> int | None:
        return self.pid

    def set_pid(self, pid: int) -> None:
        self.pid = pid

    def get_aid(self) -> str | None:
        return self.aid

    def set_aid(self, aid: str) -> None:
        self.aid = aid

    def get_status(self) -> str | None:
        return self.status

    def set_status(self, status: str) -> None:
        self.status = status

    def get_response(self) -> Any:
        return self.response

    def set_response(self, response: Any) -> None:
        self.response = response

    def get_time_limit(self) -> float | None:
        return self.time_limit

    def set_time_limit(self, time_limit: float) -> None:
        self.time_limit = time_limit

    def get_created_time(self) -> float | None:
        return self.created_time

    def set_created_time(self, time: float) -> None:
        self.created_time = time

    def get_start_time(self) -> float | None:
        return self.start_time

    def set_start_time(self, time: float) -> None:
        self.start_time = time

    def get_end_time(self) -> float | None:
        return self.end_time

    def set_end_time(self, time: float) -> None:
        self.end_time = time

    def get_source(self) -> str | None:
        return self.source

    def set_source(self, source: str) -> None:
        self.source = source

    def get_target(self) -> str | None:
        return self.target

    def set_target(self, target: str) -> None:
        self.target = target

    def get_priority(self) -> int | None:
        return self.priority

    def set_priority(self, priority: int) -> None:
        self.priority = priority


class LLMSyscall(Syscall):
    """A syscall for an LLM core."""

    query: LLMQuery


class MemorySyscall(Syscall):
    """A syscall for the memory."""


class StorageSyscall(Syscall):
    """A syscall for the storage."""


class ToolSyscall(Syscall):
    """A syscall for the tools."""


SYSCALL_CLASSES: dict[type[Query], type[Syscall]] = {
    LLMQuery: LLMSyscall,
    MemoryQuery: MemorySyscall,
    StorageQuery: StorageSyscall,
    ToolQuery: ToolSyscall,
}


class RequestQueue:
    """A queue of syscalls of one kind.

    Parameters
    ----------
    get_timeout_s : float
        Seconds after which `get` gives up.
    """

    def __init__(self, get_timeout_s: float = GET_TIMEOUT_S) -> None:
        self._get_timeout_s = get_timeout_s
        self._queue: Queue[Syscall] = Queue()

    def add(self, syscall: Syscall) -> None:
        """Append a syscall."""
        self._queue.put(syscall)

    def get(self) -> Syscall:
        """The next syscall; ``queue.Empty`` on a timeout."""
        return self._queue.get(timeout=self._get_timeout_s)

    def is_empty(self) -> bool:
        """Whether no syscall waits."""
        return self._queue.empty()


class SyscallExecutor:
    """Turns queries into syscalls and waits for their answers, in the caller's thread.

    As in AIOS, a syscall that ends with another status than ``done`` is queued again as a new one with
    the same pid, without end, and one whose event is never set is waited for until `stop`.

    Parameters
    ----------
    get_timeout_s : float
        Of its queues.
    """

    def __init__(self, get_timeout_s: float = GET_TIMEOUT_S) -> None:
        self.queues: dict[type[Syscall], RequestQueue] = {
            kind: RequestQueue(get_timeout_s) for kind in SYSCALL_CLASSES.values()
        }
        self._lock = threading.Lock()  # guards _last_pid, _waiting and _stopped
        self._last_pid = 0
        self._waiting: set[Syscall] = set()
        self._stopped = False

    def execute_request(self, agent_name: str, query: Query) -> Any:
        """Answer a query by its kind and, for LLM queries, by its ``action_type``.

        Returns
        -------
        dict or Response
            ``{"response", "start_times", "end_times", "waiting_times", "turnaround_times"}``; a tool's
            `Response` where an LLM query of action ``call_tool`` led to no tool call.
        """
        if isinstance(query, LLMQuery) and query.action_type == "call_tool":
            tool_calls = self._execute(agent_name, query)["response"].tool_calls
            if not tool_calls:
                return Response(response_class="tool", response_message="No tool was called by LLM")
            return self._execute(agent_name, ToolQuery(tool_calls=tool_calls))
        return self._execute(agent_name, query)

    def stop(self) -> None:
        """Answer all waiting syscalls with an error, and queue none again."""
        with self._lock:
            self._stopped = True
            waiting = list(self._waiting)
        for syscall in waiting:
            if not syscall.event.is_set():
                _refuse(syscall)

    def _execute(self, agent_name: str, query: Query) -> dict[str, Any]:
        with self._lock:
            self._last_pid += 1
            pid = self._last_pid
        times: dict[str, list[float]] = {
            "start_times": [],
            "end_times": [],
            "waiting_times": [],
            "turnaround_times": [],
        }
        while True:
            syscall = self._queued(agent_name, query, pid)
            syscall.start()
            syscall.join()
            with self._lock:
                self._waiting.discard(syscall)
                stopped = self._stopped
            if syscall.get_status() == "done" or stopped:
                return {"response": syscall.get_response(), **times}
            _note_times(syscall, times)

    def _queued(self, agent_name: str, query: Query, pid: int) -> Syscall:
        syscall = SYSCALL_CLASSES[type(query)](agent_name, query)
        syscall.set_status("active")
        syscall.set_created_time(time.time())
        syscall.set_source(agent_name)
        syscall.set_pid(pid)
        with self._lock:
            stopped = self._stopped
            self._waiting.add(syscall)
        if stopped:
            _refuse(syscall)
        else:
            self.queues[type(syscall)].add(syscall)
        return syscall


def _refuse(syscall: Syscall) -> None:
    error = "the kernel was stopped before this call was answered"
    syscall.set_response(error_response(syscall.query.query_class, error, 503))
    syscall.set_status("done")
    syscall.set_end_time(time.time())
    syscall.event.set()


def _note_times(syscall: Syscall, times: dict[str, list[float]]) -> None:
    """Note the times of a round that did not end the call; AIOS fails too where one is not set."""
    start, end, created = syscall.get_start_time(), syscall.get_end_time(), syscall.get_created_time()
    if start is None or end is None or created is None:
        raise TypeError(f"a syscall of status {syscall.get_status()!r} needs a start and an end time")
    times["start_times"].append(start)
    times["end_times"].append(end)
    times["waiting_times"].append(start - created)
    times["turnaround_times"].append(end - created)
