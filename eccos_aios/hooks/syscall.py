"""AIOS's syscalls: how one is read, and how one is answered so that no agent waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from typing import Any, Protocol

from eccos_aios.errors import NoCoreError, QueryError
from eccos_aios.predict import CallText, call_text, has_images
from eccos_aios.schedule import (
    AbandonedError,
    CallTimeoutError,
    Needs,
    OverloadedError,
    StoppedError,
    UnavailableError,
)

RESPONSE_CLASSES = {
    "llm": "LLMResponse",
    "memory": "MemoryResponse",
    "storage": "StorageResponse",
    "tool": "ToolResponse",
}
CLIENT_GONE = 499  # nginx's status of a request whose client has closed; nobody is there to read it


class Syscall(Protocol):
    """What the hooks use of ``aios.syscall.Syscall``."""

    agent_name: str
    query: Any
    event: Any

    def get_pid(self) -> int | None: ...
    def get_priority(self) -> int | None: ...
    def get_start_time(self) -> float | None: ...
    def set_start_time(self, time: float) -> None: ...
    def set_end_time(self, time: float) -> None: ...
    def set_status(self, status: str) -> None: ...
    def set_response(self, response: Any) -> None: ...
    def set_time_limit(self, time_limit: float) -> None: ...


MakeErrorResponse = Callable[[str, str, int], Any]
"""Makes a response from the kind of the syscall, the error and its status code."""


def cerebrum_response(kind: str, error: str, status_code: int) -> Any:
    """The error response of Cerebrum, AIOS's SDK, to a syscall of a kind."""
    make = getattr(import_module(f"cerebrum.{kind}.apis"), RESPONSE_CLASSES[kind])
    finished = {} if kind == "memory" else {"finished": True}
    return make(error=error, status_code=status_code, **finished)


class SuspendedCalls:
    """The core of each call that a time slice interrupted, until the call comes back."""

    def __init__(self) -> None:
        # Guards the cores by process id.
        self._lock = threading.Lock()
        self._cores: dict[int | None, str] = {}

    def suspend(self, pid: int | None, core: str) -> None:
        """Remember the core that holds the call's context."""
        with self._lock:
            self._cores[pid] = core

    def resume(self, pid: int | None) -> str | None:
        """The core that the call must go on at; None for a call that was not suspended."""
        with self._lock:
            return self._cores.pop(pid, None)


def answer(syscall: Syscall, response: Any, status: str = "done") -> None:
    """End a syscall: response, status, end time, event, in that order.

    AIOS's executor reads the first three as soon as the event is set, and queues a new syscall whenever
    the status is not ``done``.
    """
    if syscall.get_start_time() is None:
        syscall.set_start_time(time.time())
    syscall.set_response(response)
    syscall.set_status(status)
    syscall.set_end_time(time.time())
    syscall.event.set()


def named_cores(query: Any) -> list[dict[str, Any]]:
    """The cores that the agent named in ``llms``; empty where it leaves the choice open."""
    return [llm for llm in (query.llms or []) if isinstance(llm, dict) and llm.get("name")]


def quality_target_of(query: Any) -> float | None:
    """The ``quality_target`` that an agent put beside a core that it names in ``llms``; None: none.

    Raises
    ------
    QueryError
        It is not a number from 0 to 1.
    """
    for llm in query.llms or []:
        target = llm.get("quality_target") if isinstance(llm, dict) else None
        if target is None:
            continue
        if isinstance(target, bool) or not isinstance(target, int | float) or not 0 <= target <= 1:
            raise QueryError("llms", "quality_target", target, "must be a number from 0 to 1")
        return float(target)
    return None


def conversation_of(syscall: Syscall) -> str:
    """What the calls of one conversation share: their agent and what the user said first."""
    messages = [m for m in syscall.query.messages or [] if isinstance(m, dict)]
    first = next((m.get("content") for m in messages if m.get("role") == "user"), "")
    return f"{syscall.agent_name}:{sha256(repr(first).encode()).hexdigest()}"


def needs_of(query: Any, text_tokens: float, open_cores: frozenset[str]) -> Needs:
    """What an LLM query asks of a core."""
    abilities = {
        "tools": bool(query.tools),
        "json": query.message_return_type == "json" or bool(query.response_format),
        "vision": has_images(query.messages or []),
    }
    named = frozenset(str(llm["name"]) for llm in named_cores(query))
    return Needs(
        input_tokens=text_tokens,
        abilities=frozenset(ability for ability, needed in abilities.items() if needed),
        cores=named or open_cores,
    )


def status_code_of(error: BaseException) -> int:
    """The status of the response to a call that ended with an error of ours."""
    if isinstance(error, StoppedError | UnavailableError | OverloadedError):
        return 503
    if isinstance(error, AbandonedError):
        return CLIENT_GONE
    if isinstance(error, CallTimeoutError):
        return 504
    return 400 if isinstance(error, NoCoreError | QueryError) else 500


def text_of(query: Any) -> CallText:
    """What stage 1 sees of an LLM query."""
    return call_text(query.messages or [], query.tools)
