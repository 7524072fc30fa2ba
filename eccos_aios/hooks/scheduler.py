"""EccosScheduler: takes the place of AIOS's FIFOScheduler and RRScheduler."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty
from typing import Any

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.errors import EccosError
from eccos_aios.hooks.kernel_config import kernel_config, kernel_cores
from eccos_aios.hooks.llm_calls import LlmCalls
from eccos_aios.hooks.log_setup import start_line
from eccos_aios.hooks.outcome import Answer, attempt_outcome, outcome_of
from eccos_aios.hooks.probe import CoreProber
from eccos_aios.hooks.question import checked
from eccos_aios.hooks.syscall import MakeErrorResponse, Syscall, answer, cerebrum_response
from eccos_aios.runtime.configuration import ServiceConfiguration, prepare
from eccos_aios.runtime.service import Backend, SchedulingService
from eccos_aios.schedule import AttemptOutcome, Call, ExecutionResult, OutcomeKind, attempt_under_way
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

STOPPED = "the scheduler is stopped and takes no more calls"

GetSyscall = Callable[[], Any]


class EccosScheduler:
    """AIOS's scheduler interface in front of a `SchedulingService`.

    Four threads, ``eccos-process_llm_requests`` and so on, each read one of AIOS's queues, from `start` until
    `stop` or until another scheduler takes over the service. The parameters up to `get_tool_syscall` are
    those of AIOS's own schedulers.

    Parameters
    ----------
    llm : LLMAdapter
        Executes an LLM call on a core: ``execute_llm_syscall(index, syscall)``.
    memory_manager, storage_manager, tool_manager
        Each has ``address_request(syscall)``.
    log_mode : str
        Accepted for AIOS; ECCOS logs through `logging`.
    get_llm_syscall, get_memory_syscall, get_storage_syscall, get_tool_syscall : callable
        Return the next syscall or raise `queue.Empty` after a moment.
    config : EccosConfig, optional
        Default: the ``scheduler.eccos`` section of AIOS's config.
    response : callable, optional
        Makes the error response to a syscall of a kind (``llm``, ``memory``, ``storage``, ``tool``) from
        an error and a status code; default: Cerebrum's classes.
    service : SchedulingService, optional
        The running service that this scheduler takes over at `start`, with the calls that it holds. Default,
        and where it is stopped: a new one.

    Attributes
    ----------
    cores : tuple of Core
        The manifest's cores that AIOS has.
    service : SchedulingService

    Raises
    ------
    ConfigError, HistoryError
        The configuration, the manifest or the history is wrong, or its store cannot be opened; a running
        service is unchanged.
    EccosError
        The configuration shares cores otherwise than the running service, which is unchanged.
    """

    def __init__(
        self,
        llm: Any,
        memory_manager: Any,
        storage_manager: Any,
        tool_manager: Any,
        log_mode: str,
        get_llm_syscall: GetSyscall,
        get_memory_syscall: GetSyscall,
        get_storage_syscall: GetSyscall,
        get_tool_syscall: GetSyscall,
        *,
        config: EccosConfig | None = None,
        response: MakeErrorResponse | None = None,
        service: SchedulingService | None = None,
    ) -> None:
        self.llm = llm
        self.memory_manager = memory_manager
        self.storage_manager = storage_manager
        self.tool_manager = tool_manager
        self.log_mode = log_mode
        self.get_llm_syscall = get_llm_syscall
        self.get_memory_syscall = get_memory_syscall
        self.get_storage_syscall = get_storage_syscall
        self.get_tool_syscall = get_tool_syscall
        self.config = config or kernel_config()
        self.active = False
        self._response = response or cerebrum_response
        self._started = False
        self._lock = threading.Lock()  # guards the two below, and the start of the readers
        self._readers: list[SupervisedThread] = []
        self._closed = False

        running = None if service is None or service.stopped else service
        self.cores: tuple[Core, ...] = kernel_cores(self.config, llm.llm_configs)
        learner = None if running is None else running.learner_for(self.config)
        configuration = prepare(self.config, self.cores, learner)
        if running is not None:
            running.require_same_sharing(configuration)
        self._backend = Backend(self._execute, outcome_of, CoreProber(llm), checked)
        # For the service that is taken over at `start`; until then it runs with its own.
        self._configuration: ServiceConfiguration | None = None if running is None else configuration
        self.service = running or SchedulingService(configuration, self._backend)
        names = frozenset(core.name for core in self.cores)
        self._llm_calls = LlmCalls(llm, self.service, names, partial(self._response, "llm"))

    def start(self) -> None:
        """Start scheduling, or take over the service that runs.

        Raises
        ------
        EccosError
            This scheduler was started before, or its service is stopped.
        """
        if self._started:
            raise EccosError("the scheduler was started before; make a new one")
        self._started = True
        configuration, self._configuration = self._configuration, None
        if configuration is not None:
            self.service.reconfigure(configuration, self._backend, self)
        if not self.service.started:
            self.service.start(self)
        logger.info(start_line(self.config, self.cores, self.service.scheduler.predictor))

    def stop(self) -> None:
        """Stop the service, also where another scheduler has taken it over; may be repeated.

        AIOS keeps a reference to its first scheduler even after a refresh, and stops that one.
        """
        self.service.stop()
        if self._configuration is not None:
            self._configuration.discard()

    def process_llm_requests(self) -> None:
        """Submit LLM syscalls to the service as they come."""
        for syscall in self._read(self.get_llm_syscall):
            self._llm_calls.submit(syscall)

    def process_memory_requests(self) -> None:
        """Execute memory syscalls, one after the other."""
        for syscall in self._read(self.get_memory_syscall):
            self._address(syscall, self.memory_manager, "memory")

    def process_storage_requests(self) -> None:
        """Execute storage syscalls, one after the other."""
        for syscall in self._read(self.get_storage_syscall):
            self._address(syscall, self.storage_manager, "storage")

    def process_tool_requests(self) -> None:
        """Execute tool syscalls, one after the other."""
        for syscall in self._read(self.get_tool_syscall):
            self._address(syscall, self.tool_manager, "tool")

    def status(self) -> dict[str, object]:
        """As `SchedulingService.status`."""
        return self.service.status()

    def health(self) -> dict[str, Any]:
        """As `SchedulingService.health`."""
        return self.service.health()

    def give_quality(self, quality: float, *, call: int | str | None = None, agent: str | None = None) -> str:
        """Grade a finished call; parameters and errors as `SchedulingService.give_quality`."""
        return self.service.give_quality(quality, call=call, agent=agent)

    def start_reading(self) -> None:
        """Start the threads that read AIOS's queues; the service calls it."""
        with self._lock:
            if self._closed:
                return
            self.active = True
            self._readers = [
                SupervisedThread(f"eccos-{process.__name__}", process)
                for process in (
                    self.process_llm_requests,
                    self.process_memory_requests,
                    self.process_storage_requests,
                    self.process_tool_requests,
                )
            ]
            for reader in self._readers:
                reader.start()

    def stop_reading(self) -> None:
        """End those threads for good, each after the syscall that it is at; may be repeated."""
        with self._lock:
            self._closed, self.active = True, False
            readers = list(self._readers)
        for reader in readers:
            reader.end()
            reader.join()
        self._llm_calls.close()

    def refuse_queued(self) -> None:
        """Answer with an error the syscalls in AIOS's queues that no thread will read."""
        for get_syscall, kind in (
            (self.get_llm_syscall, "llm"),
            (self.get_memory_syscall, "memory"),
            (self.get_storage_syscall, "storage"),
            (self.get_tool_syscall, "tool"),
        ):
            with contextlib.suppress(Empty):
                while True:
                    answer(get_syscall(), self._response(kind, STOPPED, 503))

    def reader_faults(self) -> list[str]:
        """The reading threads that have ended, a line each."""
        with self._lock:
            return [f"thread {reader.name} has ended" for reader in self._readers if not reader.alive]

    def reader_restarts(self) -> list[str]:
        """A line about each reading thread that an unexpected exception restarted."""
        with self._lock:
            return [note for reader in self._readers if (note := reader.note())]

    def _read(self, get_syscall: GetSyscall) -> Iterator[Syscall]:
        """The syscalls of a queue as they come, until reading stops."""
        while self.active:
            with contextlib.suppress(Empty):
                yield get_syscall()

    def _execute(self, call: Call, core: str) -> ExecutionResult:
        """Have AIOS's adapter send a call to a core."""
        try:
            index = self.llm.available_llm_names.index(core)
        except ValueError:
            logger.warning("AIOS no longer has core %r: it gets no more calls", core)
            self.service.scheduler.remove_core(core)
            gone = self._response("llm", f"AIOS no longer has core {core!r}", 503)
            return ExecutionResult(
                Answer(gone, None), AttemptOutcome(OutcomeKind.CORE_REFUSES, "AIOS no longer has it")
            )
        attempt = attempt_under_way()
        _, response = self.llm.execute_llm_syscall(index, call.payload.syscall)
        outcome = attempt_outcome(attempt, response, with_tools=bool(call.payload.tools))
        return ExecutionResult(Answer(response, attempt.usage, attempt.finish_reason), outcome)

    def _address(self, syscall: Syscall, manager: Any, kind: str) -> None:
        syscall.set_status("executing")
        syscall.set_start_time(time.time())
        try:
            response = manager.address_request(syscall)
        except Exception as error:
            logger.exception("a %s syscall of agent %s failed", kind, syscall.agent_name)
            response = self._response(kind, f"{type(error).__name__}: {error}", 500)
        answer(syscall, response)
