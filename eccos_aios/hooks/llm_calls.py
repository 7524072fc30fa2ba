"""LlmCalls: turns AIOS's LLM syscalls into calls of the service, and their results into answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from eccos_aios.core import Core
from eccos_aios.errors import EccosError
from eccos_aios.hooks.clients import client_of
from eccos_aios.hooks.outcome import SyscallPayload, is_final
from eccos_aios.hooks.question import question_of
from eccos_aios.hooks.syscall import (
    Syscall,
    answer,
    answered_conversation,
    conversation_of,
    named_cores,
    needs_of,
    quality_target_of,
    status_code_of,
    text_of,
)
from eccos_aios.runtime.service import SchedulingService
from eccos_aios.schedule import Call, CallResult, OverloadedError

logger = logging.getLogger(__name__)

TIME_SLICE_S = 1.0  # seconds; what AIOS's RRScheduler grants a call when the context manager is on
REGISTRATION_THREADS = 2  # each asks an Ollama server, which may take seconds; registrations are rare
# AIOS's own words, which agents may look for.
UNKNOWN_CORES = "Selected LLMs are not all available. Please check the available LLMs."


class LlmCalls:
    """Submits LLM syscalls to a service and answers each of them exactly once.

    Its threads ``eccos-register_N`` have AIOS register models that agents name; they end after `close`.

    Parameters
    ----------
    llm : LLMAdapter
        AIOS's.
    service : SchedulingService
    cores : frozenset of str
        Names of the cores that serve syscalls which name none.
    error_response : callable
        Makes the response to an LLM syscall from an error and a status code.
    """

    def __init__(
        self,
        llm: Any,
        service: SchedulingService,
        cores: frozenset[str],
        error_response: Callable[[str, int], Any],
    ) -> None:
        self._llm = llm
        self._service = service
        self._cores = cores
        self._error_response = error_response
        self._registration = ThreadPoolExecutor(REGISTRATION_THREADS, thread_name_prefix="eccos-register")

    def submit(self, syscall: Syscall) -> None:
        """Submit a syscall; never raises, and answers one that cannot be submitted with an error."""
        try:
            unknown = self._unregistered(syscall)
            if unknown:
                self._registration.submit(self._register, syscall, unknown)
            else:
                self._submit(syscall)
        except Exception as error:  # noqa: BLE001 - one malformed query must not end the reader
            self._answer_error(syscall, error)

    def close(self) -> None:
        """Stop registering models; syscalls whose registration has begun are still submitted."""
        self._registration.shutdown(wait=False)

    def _unregistered(self, syscall: Syscall) -> list[dict[str, Any]]:
        known = self._llm.available_llm_names
        return [llm for llm in named_cores(syscall.query) if llm["name"] not in known]

    def _register(self, syscall: Syscall, unknown: Sequence[dict[str, Any]]) -> None:
        """Have AIOS register the Ollama models that an agent named, then submit the syscall."""
        try:
            for llm in unknown:
                if llm.get("backend") == "ollama":
                    self._llm._dynamic_register_ollama_model(llm["name"])
            if self._unregistered(syscall):
                answer(syscall, self._error_response(UNKNOWN_CORES, 500))
            else:
                self._submit(syscall)
        except Exception as error:  # noqa: BLE001 - the agent must be answered whatever the adapter raises
            self._answer_error(syscall, error)

    def _submit(self, syscall: Syscall) -> None:
        scheduler = self._service.scheduler
        for llm in named_cores(syscall.query):
            scheduler.add_core(Core(name=llm["name"]).at_backend(llm.get("backend")))
        if getattr(self._llm, "use_context_manager", False):
            syscall.set_time_limit(TIME_SLICE_S)
        text, payload = text_of(syscall.query), SyscallPayload.of(syscall)
        planner = self._service.planner
        call = Call(
            text=text,
            requirements=needs_of(syscall.query, text, self._cores),
            payload=payload,
            on_done=self._answer,
            agent=syscall.agent_name,
            pinned=self._service.suspensions.resume(syscall.get_pid()),
            priority=syscall.get_priority() or 0,
            quality_target=quality_target_of(syscall.query),
            conversation=conversation_of(syscall),
            question=None
            if planner is None or getattr(self._llm, "use_context_manager", False)
            else question_of(syscall.query, payload.tools, call_expected=planner.expects_call()),
        )
        client = client_of(syscall)
        if client is not None and client.trace:
            call.carrier = client.trace
        self._service.submit(call)
        if client is not None:
            client.when_gone(lambda: scheduler.abandon(call))

    def _answer(self, call: Call, result: CallResult) -> None:
        """Answer the agent, or suspend a call that continues at the same core as another syscall."""
        syscall = call.payload.syscall
        if result.error is not None:
            self._answer_error(syscall, result.error, result.core)
            return
        served: Any = result.value
        if is_final(result):
            self._remember(call, syscall, served.response, result)
            answer(syscall, _with_causes(served.response, result) if result.failed else served.response)
        elif result.core is not None:
            self._service.suspensions.suspend(syscall.get_pid(), result.core)
            answer(syscall, served.response, status="suspend")

    def _remember(self, call: Call, syscall: Syscall, response: Any, result: CallResult) -> None:
        """Let the turn after this answer find its core."""
        if result.failed or result.core is None or not isinstance(response.response_message, str):
            return
        conversation = answered_conversation(syscall, response.response_message)
        self._service.scheduler.remember(conversation, result.core, call.text.input_tokens)

    def _answer_error(self, syscall: Syscall, error: BaseException, core: str | None = None) -> None:
        client = client_of(syscall)
        if client is not None and isinstance(error, OverloadedError):
            # The scheduler's limit, too, is answered with HTTP 503 and Retry-After, not within AIOS's answer.
            client.refusal, client.refusal_counted = error, True
        message = str(error)
        if not isinstance(error, EccosError):
            message = f"{type(error).__name__}: {error}"
            logger.error("an LLM syscall of agent %s failed", syscall.agent_name, exc_info=error)
        message = message if core is None else f"Core {core!r} failed: {message}"
        answer(syscall, self._error_response(message, status_code_of(error)))


def _with_causes(response: Any, result: CallResult) -> Any:
    """AIOS's error, with the reason why each core that the call was tried on did not serve it."""
    if not response.error or not result.causes:
        return response
    causes = "; ".join(f"{core}: {cause}" for core, cause in result.causes.items())
    return response.model_copy(update={"error": f"{response.error} ({causes})"})
