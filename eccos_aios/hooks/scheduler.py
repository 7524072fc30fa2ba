"""EccosScheduler: takes the place of AIOS's FIFOScheduler and RRScheduler.

Above 400 lines because it is one class: AIOS asks all of this of one object, and what can stand apart does,
in `setup`, `syscall`, `history`, `learner`, `feedback` and `outcome`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.errors import EccosError
from eccos_aios.hooks.clients import client_of
from eccos_aios.hooks.outcome import Answer, Asked, attempt_outcome, outcome_of
from eccos_aios.hooks.probe import CoreProber
from eccos_aios.hooks.setup import Setup, kernel_config, prepare
from eccos_aios.hooks.syscall import (
    MakeErrorResponse,
    SuspendedCalls,
    Syscall,
    answer,
    answered_conversation,
    cerebrum_response,
    conversation_of,
    named_cores,
    needs_of,
    quality_target_of,
    status_code_of,
    text_of,
)
from eccos_aios.runtime.feedback import give_quality
from eccos_aios.runtime.learner import Learner
from eccos_aios.runtime.outcome_log import OutcomeLog, open_store
from eccos_aios.schedule import (
    AttemptOutcome,
    Call,
    CallResult,
    ExecutionResult,
    OutcomeKind,
    Scheduler,
    StoppedError,
    attempt_under_way,
)
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

TIME_SLICE_S = 1.0  # seconds; what AIOS's RRScheduler grants a call when the context manager is on
STOPPED = "the scheduler is stopped and takes no more calls"
REGISTRATION_THREADS = 2  # each asks an Ollama server, which may take seconds; they are rare

GetSyscall = Callable[[], Any]


class EccosScheduler:
    """AIOS's scheduler interface over the clockwork.

    The parameters up to `get_tool_syscall` are those of AIOS's own schedulers.

    Parameters
    ----------
    llm : LLMAdapter
        Executes an LLM call on a core: ``execute_llm_syscall(index, syscall)``.
    memory_manager, storage_manager, tool_manager
        Each has ``address_request(syscall)``.
    log_mode : str
        Kept for AIOS; ECCOS logs through `logging`.
    get_llm_syscall, get_memory_syscall, get_storage_syscall, get_tool_syscall : callable
        Return the next syscall or raise `queue.Empty` after a moment.
    config : EccosConfig, optional
        Default: the ``scheduler.eccos`` section of AIOS's config.
    response : callable, optional
        Makes the error response to a syscall of a kind (``llm``, ``memory``, ``storage``, ``tool``) from
        an error and a status code; default: Cerebrum's classes.
    predecessor : EccosScheduler, optional
        The running scheduler whose place this one takes at `start`: its calls are carried on, and no core
        holds more than its quota meanwhile.

    Attributes
    ----------
    cores : tuple of Core
        The manifest's cores that AIOS has.

    Raises
    ------
    ConfigError, HistoryError
        The configuration, the manifest or the history is wrong, or its store cannot be opened.
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
        predecessor: EccosScheduler | None = None,
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
        self.active = False
        self._stopped = False
        self.config = config or kernel_config()
        self._response = response
        learner = None if predecessor is None else predecessor._learner_of(self.config.history)
        setup = prepare(self.config, llm.llm_configs, learner)
        self._learner: Learner | None = setup.learner  # until a successor takes this one's place
        self.cores: tuple[Core, ...] = setup.cores
        self._open_cores = frozenset(core.name for core in setup.cores)
        self._prices = {core.name: core for core in setup.cores}
        # Given to the clockwork at `start`: AIOS keeps every scheduler that it ever had.
        self._setup: Setup | None = setup
        self._history = OutcomeLog()
        self._store = open_store(self.config)  # given to the history at `start`
        self._predecessor = predecessor
        self._successor: EccosScheduler | None = None
        self._clockwork: Scheduler | None = None
        self._readers: list[SupervisedThread] = []
        self._registration: ThreadPoolExecutor | None = None
        self._suspended: SuspendedCalls = SuspendedCalls() if predecessor is None else predecessor._suspended

    def start(self) -> None:
        """Start scheduling, in the predecessor's place where there is one."""
        setup, self._setup = self._setup, None
        if setup is None:
            raise EccosError("the scheduler has been started before; make a new one")
        self._clockwork = self._take_over(setup) or self._new_clockwork(setup)
        self._history.write_to(self._store)
        self._store = None
        setup.learner.start()
        self._registration = ThreadPoolExecutor(REGISTRATION_THREADS, thread_name_prefix="eccos-register")
        self.active = True
        for process in (
            self.process_llm_requests,
            self.process_memory_requests,
            self.process_storage_requests,
            self.process_tool_requests,
        ):
            reader = SupervisedThread(f"eccos-{process.__name__}", process)
            self._readers.append(reader)
            reader.start()

    def stop(self) -> None:
        """Answer what is held, within the configured grace, and end every thread; twice does no harm.

        AIOS keeps a reference to its first scheduler even after a refresh, so stopping that one stops
        whichever has taken its place.
        """
        if self._successor is not None:
            self._successor.stop()
            return
        self._stopped = True
        self._stop_reading()
        clockwork = self._clockwork
        if clockwork is not None:
            clockwork.stop()
            self.refuse_queued()
            self._history.close()
        if self._learner is not None:
            self._learner.stop()
        if self._store is not None:
            self._store.close()

    def _current(self) -> EccosScheduler:
        """This scheduler, or whichever took its place."""
        return self if self._successor is None else self._successor._current()

    @property
    def clockwork(self) -> Scheduler:
        """The clockwork that decides, also where a successor has taken it over.

        Raises
        ------
        EccosError
            The scheduler has not been started.
        """
        if self._successor is not None:
            return self._successor.clockwork
        if self._clockwork is None:
            raise EccosError("the scheduler has not been started")
        return self._clockwork

    def status(self) -> dict[str, object]:
        """What ``GET /eccos/status`` answers."""
        current = self._current()
        return {
            **self.clockwork.status(),
            "history": current._history.status(),
            "learning": self._learning.status(),
            "feedback": current._history.feedback_limit.status(),
        }

    def health(self) -> dict[str, object]:
        """What ``GET /eccos/health`` answers: whether calls are served, and if not, why."""
        if self.stopped:
            return {"healthy": False, "reasons": ["the scheduler is stopped"]}
        clockwork, learning = self.clockwork, self._learning
        history = self._current()._history
        reasons = [*clockwork.faults(), *history.faults(), *learning.faults(), *self._reader_faults()]
        readers = [note for reader in self._current()._readers if (note := reader.note())]
        degraded = [*clockwork.restarts(), *history.restarts(), *learning.restarts(), *readers]
        return {"healthy": not reasons, "reasons": reasons, "degraded": degraded}

    def _reader_faults(self) -> list[str]:
        readers = self._current()._readers
        return [f"thread {reader.name} has ended" for reader in readers if not reader.alive]

    def give_quality(
        self,
        quality: float,
        *,
        call: int | str | None = None,
        agent: str | None = None,
        grader: str | None = None,
    ) -> str:
        """Tell how good the answer to a finished call was, and return its id; what is told last counts.

        Parameters and errors as `eccos_aios.runtime.feedback.give_quality`. With a store it is on disk on
        return.
        """
        current = self._current()
        graded = give_quality(current.clockwork, current._history, quality, call, agent, grader)
        if graded.outcome is not None:
            self._learning.learn(graded.outcome.record())
        return graded.call_id

    @property
    def stopped(self) -> bool:
        """Whether this scheduler, or whichever took its place, answers no more calls."""
        return self._successor.stopped if self._successor is not None else self._stopped

    def refuse_queued(self) -> None:
        """Answer with an error what waits in AIOS's queues and would never be read."""
        for get_syscall, kind in (
            (self.get_llm_syscall, "llm"),
            (self.get_memory_syscall, "memory"),
            (self.get_storage_syscall, "storage"),
            (self.get_tool_syscall, "tool"),
        ):
            with contextlib.suppress(Empty):
                while True:
                    answer(get_syscall(), self._error_response(STOPPED, 503, kind))

    def process_llm_requests(self) -> None:
        """Hand LLM syscalls to the clockwork as they come."""
        self._read(self.get_llm_syscall, self._admit)

    def process_memory_requests(self) -> None:
        """Execute memory syscalls, one after the other."""
        self._read(
            self.get_memory_syscall, lambda syscall: self._address(syscall, self.memory_manager, "memory")
        )

    def process_storage_requests(self) -> None:
        """Execute storage syscalls, one after the other."""
        self._read(
            self.get_storage_syscall, lambda syscall: self._address(syscall, self.storage_manager, "storage")
        )

    def process_tool_requests(self) -> None:
        """Execute tool syscalls, one after the other."""
        self._read(self.get_tool_syscall, lambda syscall: self._address(syscall, self.tool_manager, "tool"))

    @property
    def _learning(self) -> Learner:
        """What learns, also where a successor has taken this one's place; there it is let go of last."""
        learner = self._learner
        if self._successor is not None:
            return self._successor._learning
        if learner is None:
            raise EccosError("the scheduler has no learner")
        return learner

    def _learner_of(self, history: Path | None) -> Learner | None:
        """What learns, where it does from that very store: to fit a predictor takes long."""
        return self._learner if self.active and self._history.writes_to(history) else None

    def _new_clockwork(self, setup: Setup) -> Scheduler:
        prober = CoreProber(self.llm)
        clockwork = Scheduler(setup.cores, setup.learner.predictor, self._execute, setup.settings, prober)
        clockwork.start()
        return clockwork

    def _take_over(self, setup: Setup) -> Scheduler | None:
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is None or not predecessor.active or predecessor._clockwork is None:
            return None
        self._history = predecessor._history
        predecessor._successor = self
        predecessor._stop_reading()
        predecessor._clockwork.reconfigure(
            setup.cores, setup.learner.predictor, self._execute, setup.settings, CoreProber(self.llm)
        )
        learner, predecessor._learner = predecessor._learner, None
        if learner is not None and learner is not self._learner:
            learner.stop()
        return predecessor._clockwork

    def _stop_reading(self) -> None:
        self.active = False
        for reader in self._readers:
            reader.end()
            reader.join()
        self._readers.clear()
        if self._registration is not None:
            self._registration.shutdown(wait=False, cancel_futures=True)

    def _read(self, get_syscall: GetSyscall, process: Callable[[Any], None]) -> None:
        while self.active:
            try:
                syscall = get_syscall()
            except Empty:
                continue
            process(syscall)

    def _admit(self, syscall: Syscall) -> None:
        try:
            unknown = self._unregistered(syscall)
            if unknown and self._registration is not None:
                self._registration.submit(self._register, syscall, unknown)
            else:
                self._submit(syscall)
        except Exception as error:  # noqa: BLE001 - one malformed query must not end the reader
            self._answer_error(syscall, error)

    def _unregistered(self, syscall: Syscall) -> list[dict[str, Any]]:
        known = self.llm.available_llm_names
        return [llm for llm in named_cores(syscall.query) if llm["name"] not in known]

    def _register(self, syscall: Syscall, unknown: Sequence[dict[str, Any]]) -> None:
        """Let AIOS register the Ollama models that an agent named and nobody configured."""
        try:
            for llm in unknown:
                if llm.get("backend") == "ollama":
                    self.llm._dynamic_register_ollama_model(llm["name"])
            if self._unregistered(syscall):
                # AIOS's own words for this case, which agents may look for.
                message = "Selected LLMs are not all available. Please check the available LLMs."
                answer(syscall, self._error_response(message, 500))
            else:
                self._submit(syscall)
        except Exception as error:  # noqa: BLE001 - the agent must be answered whatever the adapter raises
            self._answer_error(syscall, error)

    def _submit(self, syscall: Syscall) -> None:
        clockwork = self._clockwork
        if clockwork is None:
            raise StoppedError("the scheduler has not been started")
        for llm in named_cores(syscall.query):
            clockwork.add_core(Core(name=llm["name"]).at_backend(llm.get("backend")))
        if getattr(self.llm, "use_context_manager", False):
            syscall.set_time_limit(TIME_SLICE_S)
        text = text_of(syscall.query)
        call = Call(
            text=text,
            requirements=needs_of(syscall.query, text, self._open_cores),
            payload=Asked.by(syscall),
            on_done=self._complete,
            agent=syscall.agent_name,
            pinned=self._suspended.resume(syscall.get_pid()),
            priority=syscall.get_priority() or 0,
            quality_target=quality_target_of(syscall.query),
            conversation=conversation_of(syscall),
        )
        clockwork.submit(call)
        client = client_of(syscall)
        if client is not None:
            client.when_gone(lambda: clockwork.abandon(call))

    def _execute(self, call: Call, core: str) -> ExecutionResult:
        try:
            index = self.llm.available_llm_names.index(core)
        except ValueError:
            logger.warning("AIOS no longer has core %r: it gets no more calls", core)
            self.clockwork.remove_core(core)
            gone = self._error_response(f"AIOS no longer has core {core!r}", 503)
            return ExecutionResult(
                Answer(gone, None), AttemptOutcome(OutcomeKind.CORE_REFUSES, "AIOS no longer has it")
            )
        attempt = attempt_under_way()
        _, response = self.llm.execute_llm_syscall(index, call.payload.syscall)
        outcome = attempt_outcome(attempt, response, with_tools=bool(call.payload.tools))
        return ExecutionResult(Answer(response, attempt.usage), outcome)

    def _complete(self, call: Call, result: CallResult) -> None:
        finished_s = time.time()
        with self._history.coming(call.id, call.agent):
            final = self._answer_call(call, result)
            name = result.core or call.core
            if final and name is not None:  # what never reached a core tells nothing of any
                core = self._prices.get(name) or Core(name=name)
                self._history.record(lambda: outcome_of(call, result, core, finished_s))

    def _answer_call(self, call: Call, result: CallResult) -> bool:
        """Answer the agent; False where the call goes on at the same core as another syscall."""
        syscall = call.payload.syscall
        if result.error is not None:
            self._answer_error(syscall, result.error, result.core)
            return True
        told: Any = result.value
        if told.response.finished or result.core is None:
            self._remember(syscall, told.response, result)
            answer(syscall, _with_causes(told.response, result) if result.failed else told.response)
            return True
        self._suspended.suspend(syscall.get_pid(), result.core)
        answer(syscall, told.response, status="suspend")
        return False

    def _remember(self, syscall: Syscall, response: Any, result: CallResult) -> None:
        """Let the turn after this answer find its core."""
        clockwork = self._clockwork  # not set yet while a successor takes over; that turn goes anywhere
        if clockwork is None or result.failed or result.core is None:
            return
        if isinstance(response.response_message, str):
            clockwork.remember(answered_conversation(syscall, response.response_message), result.core)

    def _address(self, syscall: Syscall, handler: Any, kind: str) -> None:
        syscall.set_status("executing")
        syscall.set_start_time(time.time())
        try:
            response = handler.address_request(syscall)
        except Exception as error:
            logger.exception("a %s syscall of agent %s failed", kind, syscall.agent_name)
            response = self._error_response(f"{type(error).__name__}: {error}", 500, kind)
        answer(syscall, response)

    def _answer_error(self, syscall: Syscall, error: BaseException, core: str | None = None) -> None:
        told = str(error)
        if not isinstance(error, EccosError):
            told = f"{type(error).__name__}: {error}"
            logger.error("an LLM syscall of agent %s failed", syscall.agent_name, exc_info=error)
        told = told if core is None else f"Core {core!r} failed: {told}"
        answer(syscall, self._error_response(told, status_code_of(error)))

    def _error_response(self, error: str, status_code: int, kind: str = "llm") -> Any:
        return (self._response or cerebrum_response)(kind, error, status_code)


def _with_causes(response: Any, result: CallResult) -> Any:
    """AIOS's error, and what became of the call at every core that it was tried on."""
    if not response.error or not result.causes:
        return response
    causes = "; ".join(f"{core}: {cause}" for core, cause in result.causes.items())
    return response.model_copy(update={"error": f"{response.error} ({causes})"})
