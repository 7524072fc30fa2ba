"""SchedulingService: the scheduler with its learning and its store, under one configuration at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.errors import EccosError
from eccos_aios.history import CallOutcome, Record
from eccos_aios.plans import AnswerPlan
from eccos_aios.plans.plan import FIRST_STAGE
from eccos_aios.runtime.budget_file import BudgetFile
from eccos_aios.runtime.configuration import ServiceConfiguration, predictor_spec
from eccos_aios.runtime.core_log import CoreLog
from eccos_aios.runtime.feedback import Feedback
from eccos_aios.runtime.feedback_limit import FeedbackLimit
from eccos_aios.runtime.learner import Learner
from eccos_aios.runtime.outcome_log import OutcomeLog
from eccos_aios.runtime.planner import Planner
from eccos_aios.runtime.sharing import KernelSharing, require_same_sharing
from eccos_aios.runtime.telemetry import Mode, Telemetry, is_wanted
from eccos_aios.schedule import Call, CallResult, Execute, Judge, Prober, Scheduler, StoppedError
from eccos_aios.verify import AnswerCheck

Describe = Callable[[Call, CallResult, Core, float], "CallOutcome | None"]
"""Makes the outcome of a finished call from its result, its last core and the time, in Unix seconds, at which
it finished; None while the call is still running."""


@dataclass(frozen=True)
class Backend:
    """How a service reaches its cores.

    Attributes
    ----------
    execute : callable
        Sends a call to a core and waits for the answer.
    describe : callable
        Makes the outcome of a finished call.
    prober : Prober or None
        Checks whether a core that is down has recovered. None: a call is sent there now and then.
    judge : callable or None
        Checks answers. None: one core answers each call.
    """

    execute: Execute
    describe: Describe
    prober: Prober | None = None
    judge: Judge | None = None


class Intake(Protocol):
    """A source of calls for a service, such as the threads that read a kernel's queues."""

    def start_reading(self) -> None:
        """Start to submit calls; does nothing after `stop_reading`."""

    def stop_reading(self) -> None:
        """Stop submitting; on return the last call has been submitted. May be repeated."""

    def refuse_queued(self) -> None:
        """Answer with an error what still waits to be read."""

    def reader_faults(self) -> list[str]:
        """Reasons why calls are not read, a line each; empty if all is well."""

    def reader_restarts(self) -> list[str]:
        """A line about each reading thread that an unexpected exception restarted."""


class Suspensions:
    """The core of each interrupted call, which must continue there, until the call comes back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the cores by the call's key
        self._cores: dict[object, str] = {}

    def suspend(self, key: object, core: str) -> None:
        """Remember the core that holds the call's context."""
        with self._lock:
            self._cores[key] = core

    def resume(self, key: object) -> str | None:
        """The core at which the call must continue; None for a call that was not suspended."""
        with self._lock:
            return self._cores.pop(key, None)


@dataclass(frozen=True)
class AttemptResult:
    """An attempt that is recorded as an outcome of its own.

    Attributes
    ----------
    result : CallResult
        As if the attempt had been the whole call.
    call_id : str
        The call's own id for the attempt whose answer was given, so that a grade goes there.
    check : AnswerCheck or None
        None: not checked yet.
    plan : AnswerPlan or None
        Of several cores, that gave this answer by its own rules.
    plan_asked : int
        Cores that it asked.
    """

    result: CallResult
    call_id: str
    check: AnswerCheck | None = None
    plan: AnswerPlan | None = None
    plan_asked: int = 0

    def outcome(self, describe: Describe, call: Call, core: Core, finished_s: float) -> CallOutcome | None:
        """The outcome as `describe` makes it, under the attempt's id and with what the checks found."""
        found = describe(call, self.result, core, finished_s)
        if found is None:
            return None
        known: dict[str, object] = {"call_id": self.call_id, "selected": _is_selected(call, core.name)}
        if self.check is not None:
            known |= {"answer_key": self.check.key, "answer_passes": self.check.passes}
        if self.plan is not None:
            known |= {"plan": self.plan.name, "plan_asked": self.plan_asked}
        return found.model_copy(update=known)


def attempt_results(call: Call, result: CallResult) -> list[AttemptResult]:
    """What is recorded of a finished call: every stage of its plan that answered; last, what was given."""
    answered = [stage for stage in result.stages if stage.check is not None]
    given = next((stage for stage in answered if not result.failed and stage.core == result.core), None)
    found = [
        AttemptResult(
            CallResult(stage.core, stage.value, service_s=stage.seconds), f"{call.id}/{number}", stage.check
        )
        for number, stage in enumerate(answered, 1)
        if stage is not given
    ]
    if given is None:
        return [*found, AttemptResult(result, call.id)]
    stages = call.stages
    followed = stages if stages is not None and stages.was_followed and stages.final is given else None
    plan, asked = (None, 0) if followed is None else (followed.plan, followed.begun)
    return [*found, AttemptResult(result, call.id, given.check, plan, asked)]


class SchedulingService:
    """Schedules calls over cores, records their outcomes and learns from them.

    It owns the scheduler, the store with its recorder, the budgets' file, the learner, and the limits of
    feedback. `start` begins, `reconfigure` swaps cores, predictor, settings, store and backend in place, and
    `stop` ends it for good. Calls in flight keep their slots over a reconfiguration, and waiting calls are
    planned anew.

    `start` and `reconfigure` are called by one thread at a time; any thread may call the other methods.

    Parameters
    ----------
    configuration : ServiceConfiguration
        Made by `prepare`; the service owns it from now on.
    backend : Backend
    clock : Clock, optional
        Times the scheduler, the recorder and the limits of feedback.

    Attributes
    ----------
    scheduler : Scheduler
    suspensions : Suspensions
        They outlive a reconfiguration.
    """

    def __init__(
        self, configuration: ServiceConfiguration, backend: Backend, *, clock: Clock = MONOTONIC_CLOCK
    ) -> None:
        self._sharing = self._make_sharing(configuration)
        self._telemetry: Telemetry | None = None  # once made, it stays
        self._switch_telemetry(configuration.telemetry)
        self.scheduler = Scheduler(
            configuration.cores,
            configuration.learner.predictor,
            self._traced(backend.execute),
            configuration.settings,
            backend.prober,
            clock=clock,
            judge=backend.judge,
            planner=configuration.planner,
            source=self._sharing,
            past=configuration.past,
        )
        configuration.learner.planner = configuration.planner
        self.suspensions = Suspensions()
        self._budgets = BudgetFile(self.scheduler, clock)
        self._outcomes = OutcomeLog(clock, self._sharing)
        self._core_log = CoreLog(self.scheduler.status, clock)
        self._feedback = Feedback(
            self.scheduler, self._outcomes, self._learn, FeedbackLimit(clock=clock.now_s)
        )
        # Guards what follows. Held for assignments only.
        self._lock = threading.Lock()
        self._configuration = configuration
        self._backend = backend
        self._intake: Intake | None = None
        self._is_started = False
        self._is_stopped = False

    def start(self, intake: Intake | None = None) -> None:
        """Start to schedule.

        Parameters
        ----------
        intake : Intake, optional
            Started and stopped with the service. Default: calls come only through `submit`.

        Raises
        ------
        EccosError
            The service was started or stopped before.
        """
        with self._lock:
            if self._is_started or self._is_stopped:
                raise EccosError("the service was started before; call reconfigure, or make a new one")
            self._is_started = True
            configuration = self._configuration
        self._outcomes.write_to(configuration.store)
        self._budgets.save_to(configuration.budgets)
        self._share_fits(configuration.learner)
        configuration.learner.start()
        if self._sharing is not None:
            self._sharing.start()
        self.scheduler.start()
        self._core_log.start()
        self._read_from(intake)

    def reconfigure(
        self, configuration: ServiceConfiguration, backend: Backend, intake: Intake | None = None
    ) -> None:
        """Swap the configuration in place, and the intake of a running service for that one.

        Parameters
        ----------
        configuration : ServiceConfiguration
            The service owns it from now on.
        backend : Backend
        intake : Intake, optional
            As in `start`. Of a service that is not started yet, `start` gets it.

        Raises
        ------
        StoppedError
            The service is stopped; nothing has changed.
        EccosError
            As `require_same_sharing`; nothing has changed.
        """
        self.require_same_sharing(configuration)
        with self._lock:
            stopped, started = self._is_stopped, self._is_started
            if not stopped:
                before, self._configuration, self._backend = self._configuration, configuration, backend
        if stopped:
            configuration.discard()
            raise StoppedError("the service is stopped")
        if started:
            self._read_from(None)
        self._switch_telemetry(configuration.telemetry)
        self.scheduler.reconfigure(
            configuration.cores,
            configuration.learner.predictor,
            self._traced(backend.execute),
            configuration.settings,
            backend.prober,
            judge=backend.judge,
            planner=configuration.planner,
            past=configuration.past,
        )
        configuration.learner.planner = configuration.planner
        if not started:
            before.discard()
            return
        self._outcomes.write_to(configuration.store)
        self._budgets.save_to(configuration.budgets)
        self._share_fits(configuration.learner)
        configuration.learner.start()
        if before.learner is not configuration.learner:
            before.learner.stop()
        self._read_from(intake)

    def require_same_sharing(self, configuration: ServiceConfiguration) -> None:
        """Refuse, and discard, a configuration that shares cores otherwise than the service does.

        Raises
        ------
        EccosError
            Names the key.
        """
        try:
            require_same_sharing(None if self._sharing is None else self._sharing.cores, configuration.shared)
        except EccosError:
            configuration.discard()
            raise

    def stop(self) -> None:
        """Answer pending calls within `grace_s`, write the recorded outcomes, end every thread.

        The intake is stopped last: a tool's code may hold it up, and agents should not wait for that.
        May be repeated.
        """
        with self._lock:
            self._is_stopped = True
            configuration, intake = self._configuration, self._intake
            started = self._is_started
        self._core_log.stop()
        self.scheduler.stop()
        if self._sharing is not None and started:
            self._sharing.stop()
        self._budgets.close()
        self._outcomes.close()
        configuration.learner.stop()
        if not started:
            configuration.discard()
        if self._telemetry is not None:
            self._telemetry.active = False
        if intake is not None:
            intake.stop_reading()
            intake.refuse_queued()

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        with self._lock:
            return self._is_started

    @property
    def stopped(self) -> bool:
        """Whether it has stopped accepting calls for good."""
        with self._lock:
            return self._is_stopped

    @property
    def learner(self) -> Learner:
        """The learner of the current configuration."""
        with self._lock:
            return self._configuration.learner

    def learner_for(self, config: EccosConfig) -> Learner | None:
        """The current learner if `config` names its store and its predictor, so that nothing is refitted."""
        with self._lock:
            running, learner = self._is_started and not self._is_stopped, self._configuration.learner
        same = running and self._outcomes.writes_to(config.history) and learner.spec == predictor_spec(config)
        return learner if same else None

    @property
    def planner(self) -> Planner | None:
        """The planner of the current configuration; None where plans are off."""
        with self._lock:
            return self._configuration.planner

    def submit(self, call: Call) -> None:
        """Schedule a call; its outcome is recorded once its `on_done` has returned."""
        call.on_done = partial(self._complete, call.on_done)
        if self._telemetry is not None:
            self._telemetry.submitted(call)
        self.scheduler.submit(call)

    def give_quality(
        self,
        quality: float,
        *,
        call: int | str | None = None,
        agent: str | None = None,
        grader: str | None = None,
    ) -> str:
        """Grade a finished call and return its id; parameters and errors as `Feedback.give`."""
        return self._feedback.give(quality, call=call, agent=agent, grader=grader)

    def status(self) -> dict[str, object]:
        """The body of ``GET /eccos/status``."""
        scheduled = self.scheduler.status()
        return {
            **scheduled,
            "history": self._outcomes.status(),
            "learning": self.learner.status(),
            "feedback": self._feedback.limit.status(),
            **({} if self._sharing is None else {"shared": self._sharing.status(scheduled)}),
        }

    def health(self) -> dict[str, Any]:
        """The body of ``GET /eccos/health``: whether calls are served, and if not, why."""
        with self._lock:
            started, stopped, intake = self._is_started, self._is_stopped, self._intake
        if stopped or not started:
            reason = "the scheduler is stopped" if stopped else "the scheduler has not been started"
            return {"healthy": False, "reasons": [reason]}
        learner = self.learner
        reasons = [*self.scheduler.faults(), *self._outcomes.faults(), *learner.faults()]
        degraded = [*self.scheduler.restarts(), *self._outcomes.restarts(), *learner.restarts()]
        degraded += [*self._budgets.restarts(), *self._budgets.faults()]
        if self._sharing is not None:
            reasons += self._sharing.faults()
            degraded += self._sharing.degraded()
        if intake is not None:
            reasons += intake.reader_faults()
            degraded += intake.reader_restarts()
        return {"healthy": not reasons, "reasons": reasons, "degraded": degraded}

    def _read_from(self, intake: Intake | None) -> None:
        """Stop the intake before this one, then start this one unless the service was stopped meanwhile."""
        with self._lock:
            before, self._intake = self._intake, None
        if before is not None:
            before.stop_reading()
        with self._lock:
            self._intake, stopped = intake, self._is_stopped
        if intake is not None and not stopped:
            intake.start_reading()

    def _complete(self, on_done: Callable[[Call, CallResult], None], call: Call, result: CallResult) -> None:
        finished_s = time.time()
        with self._lock:
            cores, describe = self._configuration.cores, self._backend.describe
        with self._outcomes.completing(call.id, call.agent):
            on_done(call, result)
            if self._telemetry is not None:
                self._telemetry.answered(call, result)
            for attempt in attempt_results(call, result):
                name = attempt.result.core or call.core
                if name is not None:  # a call that never reached a core says nothing about any
                    core = next((core for core in cores if core.name == name), Core(name=name))
                    self._outcomes.record(
                        partial(attempt.outcome, describe, call, core, finished_s),
                        stage_of=None if attempt.call_id == call.id else call.id,
                    )

    def _switch_telemetry(self, mode: Mode) -> None:
        wanted = is_wanted(mode)
        if wanted and self._telemetry is None:
            self._telemetry = Telemetry(
                lambda: self.scheduler.status(), lambda number: self.scheduler.decision(number)
            )
        if self._telemetry is not None:
            self._telemetry.active = wanted

    def _traced(self, execute: Execute) -> Execute:
        return execute if self._telemetry is None else self._telemetry.traced(execute)

    def _make_sharing(self, configuration: ServiceConfiguration) -> KernelSharing | None:
        if configuration.shared is None:
            return None
        return KernelSharing(
            configuration.shared,
            on_slots=lambda: self.scheduler.wake(),
            on_core=lambda *report: self.scheduler.hear_of_core(*report),
            on_outcome=self._hear_outcome,
            on_grade=lambda call_id, quality: self._feedback.hear(call_id, quality),
            take_account=lambda: self.scheduler.take_account(),
            on_account=lambda account: self.scheduler.hear_account(account),
            scheduler_status=lambda: self.scheduler.status(),
            on_predictor=lambda content: self.learner.offer(content),
        )

    def _hear_outcome(self, outcome: CallOutcome, stage_of: str | None) -> None:
        """Remember the outcome of another kernel's call, and how long the core took."""
        self._outcomes.remember(outcome, stage_of)
        if outcome.error is None and outcome.latency_s is not None:
            self.scheduler.hear_of_service(outcome.core, outcome.latency_s)

    def _share_fits(self, learner: Learner) -> None:
        if self._sharing is not None:
            sharing = self._sharing
            learner.may_fit = lambda: sharing.leads
            learner.on_fitted = sharing.publish_predictor
            learner.before_reading = sharing.settle

    def _learn(self, record: Record) -> None:
        self.learner.learn(record)


def _is_selected(call: Call, core: str) -> bool:
    """Whether a core was asked only because an earlier stage's answer was not accepted."""
    if call.stages is None or not call.stages.answered - {core}:
        return False
    plan = call.stages.plan
    return core not in plan.cores[: FIRST_STAGE[plan.kind]]
