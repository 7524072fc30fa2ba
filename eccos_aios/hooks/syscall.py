"""AIOS's syscalls: how one is read, and how one is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol

from eccos_aios.errors import NoCoreError, QueryError
from eccos_aios.hooks.clients import GONE_STATUS
from eccos_aios.hooks.sendable import require_sendable
from eccos_aios.predict import CallText, call_text
from eccos_aios.schedule import (
    AbandonedError,
    BudgetExhaustedError,
    CallTimeoutError,
    Conversation,
    OverloadedError,
    Requirements,
    StoppedError,
    UnavailableError,
)

DEFAULT_ANSWER_TOKENS = 1000  # AIOS's own default of max_new_tokens
LOOKED_BACK = 32  # messages before the last that may have ended an earlier call of a conversation
IDENTIFYING_KEYS = ("role", "content", "tool_calls", "tool_call_id")  # of a message, for conversations
ANSWER_ROLES = frozenset({"assistant", "tool", "function"})  # roles that do not occur in a first turn

RESPONSE_CLASSES = {
    "llm": "LLMResponse",
    "memory": "MemoryResponse",
    "storage": "StorageResponse",
    "tool": "ToolResponse",
}


class Syscall(Protocol):
    """The part of ``aios.syscall.Syscall`` that the hooks use."""

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
"""Makes the error response from the kind of the syscall, the error and its status code."""


def cerebrum_response(kind: str, error: str, status_code: int) -> Any:
    """The error response of Cerebrum, AIOS's SDK, to a syscall of a kind."""
    make = getattr(import_module(f"cerebrum.{kind}.apis"), RESPONSE_CLASSES[kind])
    finished = {} if kind == "memory" else {"finished": True}
    return make(error=error, status_code=status_code, **finished)


def answer(syscall: Syscall, response: Any, status: str = "done") -> None:
    """End a syscall: set response, status, end time and event, in that order.

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
    """The cores that the agent named in ``llms``; empty if it named none."""
    return [llm for llm in (query.llms or []) if isinstance(llm, dict) and llm.get("name")]


def quality_target_of(query: Any) -> float | None:
    """The ``quality_target`` that an agent set for a core that it names in ``llms``; None if there is none.

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


def conversation_of(syscall: Syscall) -> Conversation | None:
    """Identifies an LLM syscall's conversation; None for a first turn.

    A call is identified by its agent and all its messages, the system prompt included, and continues one
    whose messages are a prefix of its own. A first turn continues nothing and identifies nothing: many
    conversations begin with "hi".
    """
    messages = [message for message in syscall.query.messages or [] if isinstance(message, Mapping)]
    roles = [role for message in messages if isinstance(role := message.get("role"), str)]
    if roles.count("user") < 2 and ANSWER_ROLES.isdisjoint(roles):
        return None
    keys = [f"{key:x}" for key in _history_keys(syscall.agent_name, messages)[-1 - LOOKED_BACK :]]
    return Conversation(known_as=keys[-1], continues=tuple(keys[-2::-1]))


def answered_conversation(syscall: Syscall, answer: str) -> Conversation:
    """The conversation that a call continues which follows this answer, also after a first turn."""
    messages = [message for message in syscall.query.messages or [] if isinstance(message, Mapping)]
    messages.append({"role": "assistant", "content": answer})
    return Conversation(known_as=f"{_history_keys(syscall.agent_name, messages)[-1]:x}")


def _history_keys(agent: str, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """For each message a key of the messages up to it; valid in this process only."""
    keys, key = [], hash(agent)
    for message in messages:
        for name in IDENTIFYING_KEYS:
            value = message.get(name)
            key = hash((key, value if value is None or type(value) is str else _digest(value)))
        keys.append(key)
    return keys


def _digest(value: Any, depth: int = 16) -> int:
    """A hash of a JSON value, without marks for a provider's cache."""
    if isinstance(value, str | int | float | None):
        return hash(value)
    if isinstance(value, Mapping) and depth:
        items = ((key, _digest(inner, depth - 1)) for key, inner in value.items() if key != "cache_control")
        return hash(tuple(items))
    if isinstance(value, Sequence) and depth:
        return hash(tuple(_digest(inner, depth - 1) for inner in value))
    return 0


def needs_of(query: Any, text: CallText, open_cores: frozenset[str]) -> Requirements:
    """The requirements of an LLM query; `text` is its `text_of`."""
    answer_tokens = getattr(query, "max_new_tokens", None)
    needs = Requirements.of(
        text,
        frozenset(str(llm["name"]) for llm in named_cores(query)) or open_cores,
        json=query.message_return_type == "json" or bool(query.response_format),
        answer_tokens=float(DEFAULT_ANSWER_TOKENS if answer_tokens is None else max(0, answer_tokens)),
    )
    if not query.response_format:
        return needs
    schema = call_text(None, [query.response_format]).most_tokens  # some providers add it to the prompt
    return replace(needs, input_tokens=needs.input_tokens + schema)


def status_code_of(error: BaseException) -> int:
    """The status code of the response to a call that ended with an error of this package."""
    if isinstance(error, StoppedError | UnavailableError | OverloadedError):
        return 503
    if isinstance(error, BudgetExhaustedError):
        return 402
    if isinstance(error, AbandonedError):
        return GONE_STATUS
    if isinstance(error, CallTimeoutError):
        return 504
    return 400 if isinstance(error, NoCoreError | QueryError) else 500


def text_of(query: Any) -> CallText:
    """The text of an LLM query for stage 1.

    Raises
    ------
    QueryError
        The query cannot be sent to any core.
    """
    require_sendable(query)
    return call_text(query.messages or [], query.tools)
