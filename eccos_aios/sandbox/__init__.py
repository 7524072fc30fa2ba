"""Cores that replay recorded answers on the loopback interface, and the embedded kernel."""

from eccos_aios.sandbox.adapter import EmbeddedAdapter, LLMConfig
from eccos_aios.sandbox.fault import FAULT_KINDS, RETRY_HEADERS, Fault, FaultKind, RetryHeader
from eccos_aios.sandbox.fifo import FifoScheduler
from eccos_aios.sandbox.kernel import EmbeddedKernel, StandIn
from eccos_aios.sandbox.query import (
    LLMQuery,
    LLMResponse,
    MemoryQuery,
    Query,
    Response,
    StorageQuery,
    ToolQuery,
    error_response,
)
from eccos_aios.sandbox.replay import Replay
from eccos_aios.sandbox.reply import Reply
from eccos_aios.sandbox.server import SandboxCore
from eccos_aios.sandbox.syscall import Syscall, SyscallExecutor

__all__ = [
    "FAULT_KINDS",
    "RETRY_HEADERS",
    "EmbeddedAdapter",
    "EmbeddedKernel",
    "Fault",
    "FaultKind",
    "FifoScheduler",
    "LLMConfig",
    "LLMQuery",
    "LLMResponse",
    "MemoryQuery",
    "Query",
    "Replay",
    "Reply",
    "Response",
    "RetryHeader",
    "SandboxCore",
    "StandIn",
    "StorageQuery",
    "Syscall",
    "SyscallExecutor",
    "ToolQuery",
    "error_response",
]
