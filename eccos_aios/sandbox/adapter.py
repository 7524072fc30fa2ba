"""How the embedded kernel reaches the cores: a small version of AIOS's LLM adapter."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from eccos_aios.sandbox.connection import CoreConnections, CoreError
from eccos_aios.sandbox.query import LLMQuery, LLMResponse
from eccos_aios.sandbox.server import SandboxCore
from eccos_aios.sandbox.syscall import LLMSyscall

# AIOS's words for an error by the status that it gives: `LLMAdapter._handle_completion_error`.
ERROR_TEXTS = {
    400: "Invalid Request for model '{}'. Check your input parameters (e.g., messages, tools format).",
    401: "Authentication Error with model '{}': Invalid or missing API key.",
    408: "Request Timed Out for model '{}'. The operation took too long.",
    429: "Rate Limit Exceeded for model '{}'. Please try again later.",
    500: "LLM Error with model '{}': An unexpected error occurred.",
    502: "API Error from model '{}'. The provider reported an issue.",
    503: "Connection Error with model '{}'. Could not reach the LLM service.",
}


@dataclass(frozen=True)
class LLMConfig:
    """One core as AIOS's config names it; `hostname` is its base address."""

    name: str
    backend: str
    hostname: str


class SequentialRouting:
    """AIOS's default router: for each call the first core of its list."""

    def __init__(self, llm_configs: Sequence[LLMConfig]) -> None:
        self.llm_configs = llm_configs

    def get_model_idxs(
        self, selected_llm_lists: Sequence[Sequence[dict[str, Any]]], queries: Sequence[Any]
    ) -> list[int]:
        """Index of the core of each query."""
        names = [config.name for config in self.llm_configs]
        return [
            next((names.index(llm["name"]) for llm in selected if llm["name"] in names), 0)
            for selected, _ in zip(selected_llm_lists, queries, strict=True)
        ]


class EmbeddedAdapter:
    """Executes LLM syscalls on sandbox cores, over real HTTP.

    Parameters
    ----------
    cores : sequence of SandboxCore
        Started; their order is AIOS's order of models.
    """

    def __init__(self, cores: Sequence[SandboxCore]) -> None:
        self.llm_configs = [LLMConfig(core.name, "openai", core.base_url) for core in cores]
        self.llms = [f"openai/{core.name}" for core in cores]
        self.available_llm_names = [core.name for core in cores]
        self.router: Any = SequentialRouting(self.llm_configs)
        self._connections = [CoreConnections(core.base_url) for core in cores]

    def execute_llm_syscall(
        self, model_idx: int, llm_syscall: LLMSyscall, temperature: float = 0.0
    ) -> tuple[LLMSyscall, LLMResponse]:
        """Ask one core; an error of the core becomes a finished response with its status and text.

        Parameters
        ----------
        model_idx : int
            Index into `llm_configs`.
        llm_syscall : LLMSyscall
            Gets the status ``executing`` and its start time.
        temperature : float
            Not used: AIOS takes the query's.
        """
        name = self.llm_configs[model_idx].name
        query = llm_syscall.query
        if not query.messages:
            return llm_syscall, LLMResponse(
                error="Syscall query must contain a non-empty list of messages.",
                finished=True,
                status_code=400,
            )
        llm_syscall.set_status("executing")
        llm_syscall.set_start_time(time.time())
        try:
            message = self._connections[model_idx].complete(_request(name, query))["choices"][0]["message"]
        except (TimeoutError, CoreError, ValueError, LookupError) as fault:
            return llm_syscall, _error_response(fault, name)
        return llm_syscall, _response(message, with_tools=bool(query.tools))

    def execute_llm_syscalls(self, llm_syscalls: Sequence[LLMSyscall]) -> None:
        """Execute a batch as AIOS does: routed, one group per core in parallel, back when all are done.

        A group's syscalls are answered together, once the slowest of the group has come.
        """
        groups = self._routed(llm_syscalls)
        if not groups:
            return
        with ThreadPoolExecutor(len(groups), thread_name_prefix="llm-group") as pool:
            for done in as_completed([pool.submit(self._execute_group, idx, g) for idx, g in groups.items()]):
                for llm_syscall, response in done.result():
                    _answer(llm_syscall, response)

    def close(self) -> None:
        """End every connection; calls under way get an error response."""
        for connections in self._connections:
            connections.close()

    def _routed(self, llm_syscalls: Sequence[LLMSyscall]) -> dict[int, list[LLMSyscall]]:
        everything = [{"name": config.name, "backend": config.backend} for config in self.llm_configs]
        executable: list[LLMSyscall] = []
        selected: list[list[dict[str, Any]]] = []
        for llm_syscall in llm_syscalls:
            llms = llm_syscall.query.llms or everything
            if all(llm["name"] in self.available_llm_names for llm in llms):
                executable.append(llm_syscall)
                selected.append(llms)
            else:
                error = "Selected LLMs are not all available. Please check the available LLMs."
                _answer(llm_syscall, LLMResponse(error=error, finished=True, status_code=500))
        queries = [llm_syscall.query.messages for llm_syscall in executable]
        groups: dict[int, list[LLMSyscall]] = defaultdict(list)
        for model_idx, llm_syscall in zip(
            self.router.get_model_idxs(selected, queries), executable, strict=True
        ):
            groups[model_idx].append(llm_syscall)
        return groups

    def _execute_group(
        self, model_idx: int, llm_syscalls: Sequence[LLMSyscall]
    ) -> list[tuple[LLMSyscall, LLMResponse]]:
        with ThreadPoolExecutor(len(llm_syscalls), thread_name_prefix=f"llm-core-{model_idx}") as pool:
            futures: list[Future[tuple[LLMSyscall, LLMResponse]]] = [
                pool.submit(self.execute_llm_syscall, model_idx, llm_syscall) for llm_syscall in llm_syscalls
            ]
            return [future.result() for future in futures]


def _request(name: str, query: LLMQuery) -> dict[str, Any]:
    request: dict[str, Any] = {
        "model": name,
        "messages": query.messages,
        "temperature": query.temperature,
        "max_tokens": query.max_new_tokens,
    }
    if query.tools:
        request["tools"] = [_with_allowed_name(tool) for tool in query.tools]
        request["tool_choice"] = "auto"
    if query.message_return_type == "json":
        request["response_format"] = query.response_format or {"type": "json_object"}
    return request


def _with_allowed_name(tool: dict[str, Any]) -> dict[str, Any]:
    """AIOS names tools ``author/tool``, which OpenAI's format forbids."""
    function = tool["function"]
    return {**tool, "function": {**function, "name": function["name"].replace("/", "__")}}


def _response(message: dict[str, Any], *, with_tools: bool) -> LLMResponse:
    if not with_tools:
        return LLMResponse(response_message=str(message.get("content")), finished=True)
    if message.get("content") is None:
        calls = [{**call["function"], "id": call["id"]} for call in message.get("tool_calls") or ()]
    else:
        calls = _calls_in_text(message["content"])
    decoded = [
        {
            "name": call["name"].replace("__", "/"),
            "parameters": _parameters(call.get("arguments", call.get("parameters"))),
            "id": call.get("id") or str(uuid.uuid4()),
        }
        for call in calls
    ]
    return LLMResponse(tool_calls=decoded, finished=True)


def _calls_in_text(text: str) -> list[dict[str, Any]]:
    """Some providers write their tool calls as JSON into the text; any other text is no call."""
    try:
        content = json.loads(text)
    except ValueError:
        return []
    calls = content if isinstance(content, list) else [content]
    return [call for call in calls if isinstance(call, dict) and "name" in call]


def _parameters(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _error_response(error: Exception, name: str) -> LLMResponse:
    status = _status(error)
    return LLMResponse(error=ERROR_TEXTS[status].format(name), finished=True, status_code=status)


def _status(error: Exception) -> int:
    if isinstance(error, TimeoutError):
        return 408
    if not isinstance(error, CoreError):
        return 500  # the answer makes no sense
    if error.status is None:
        return 503
    return error.status if error.status in (400, 401, 429) else 502


def _answer(llm_syscall: LLMSyscall, response: LLMResponse) -> None:
    llm_syscall.set_status("done" if response.finished else "suspend")
    llm_syscall.set_response(response)
    llm_syscall.set_end_time(time.time())
    llm_syscall.event.set()
