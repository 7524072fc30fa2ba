"""Call: one LLM call, and the states it goes through from its submission to its one final result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from eccos_aios.plans import AnswerPlan
from eccos_aios.predict import CallText
from eccos_aios.requirements import Requirements
from eccos_aios.schedule.affinity import Conversation
from eccos_aios.schedule.attempt import Attempt
from eccos_aios.schedule.outcome_kinds import AttemptOutcome
from eccos_aios.schedule.plan_stages import PlanStages, Stage
from eccos_aios.verify import Question


class CallState(Enum):
    """The state of a call."""

    PENDING = "pending"
    """Waits for a round to place it."""
    PLANNED = "planned"
    """Waits for a busy core that the last round planned for it; the next round may plan another."""
    IN_FLIGHT = "in flight"
    """Holds a slot of a core."""
    RETRYING = "retrying"
    """Waits out the backoff after a failed attempt."""
    DONE = "done"
    """Has its one final result."""


TRANSITIONS: dict[CallState, frozenset[CallState]] = {
    CallState.PENDING: frozenset({CallState.PLANNED, CallState.IN_FLIGHT, CallState.DONE}),
    CallState.PLANNED: frozenset({CallState.PENDING, CallState.IN_FLIGHT, CallState.DONE}),
    CallState.IN_FLIGHT: frozenset({CallState.PENDING, CallState.RETRYING, CallState.DONE}),
    CallState.RETRYING: frozenset({CallState.PENDING, CallState.DONE}),
    CallState.DONE: frozenset(),
}


@dataclass(frozen=True)
class CallResult:
    """How a call ended.

    Attributes
    ----------
    core : str or None
        The core that served it; None where it never reached one.
    value : object
        The core's answer; None where `error` is set.
    error : Exception or None
        Why there is no answer.
    failed : bool
        Whether the agent gets an error, be it the scheduler's or the core's.
    service_s : float or None
        Seconds from its slot to the core's answer, of the last attempt; None without an answer.
    causes : mapping of str to str
        By core, why it did not serve the call.
    stages : tuple of Stage
        Of a plan of several cores: those that answered or failed, in the order in which they ended.
    """

    core: str | None
    value: Any = None
    error: BaseException | None = None
    failed: bool = False
    service_s: float | None = None
    causes: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()


_numbers = count(1)


@dataclass(eq=False)
class Call:
    """One LLM call that waits for a core.

    Attributes
    ----------
    text : CallText
        The input of stage 1.
    requirements : Requirements
        What a core must offer to take it.
    payload : object
        Handed to the core; opaque to the scheduler.
    on_done : callable
        Called once, with the call and its result, from a thread of the scheduler.
    agent : str
        The agent that sent it.
    pinned : str or None
        The one core that may serve it, because that core holds its context.
    priority : int
        Calls of a higher priority go first.
    quality_target : float or None
        Its own, 0 to 1; None: the scheduler's.
    conversation : Conversation, str or None
        Calls of one conversation may go to the core that served it last; a string is the same key for
        every call.
    question : Question or None
        What its answers are checked against. None: they cannot be checked, and one core answers it.
    carrier : mapping of str to str or None
        The trace context of the request that brought it (W3C), by header name.
    number : int
        Its number in this process, from 1.
    id : str
        Globally unique (a UUID).
    arrived_s : float
        When it was submitted, on the scheduler's clock; set by `Scheduler.submit`.
    """

    text: CallText
    requirements: Requirements
    payload: Any
    on_done: Callable[[Call, CallResult], None]
    agent: str = ""
    pinned: str | None = None
    priority: int = 0
    quality_target: float | None = None
    conversation: Conversation | str | None = None
    question: Question | None = None
    carrier: Mapping[str, str] | None = None
    number: int = field(default_factory=lambda: next(_numbers))
    id: str = field(default_factory=lambda: str(uuid4()))
    arrived_s: float = 0.0
    # The rest belongs to the scheduler that the call was submitted to, and is guarded by its lock:
    # `attempt` is the one under way, `failures` the last outcome by core, `disputed` says that two cores
    # failed it alike, `unreachable_s` is since when every core that may take it has been down, `stages` is
    # its plan of several cores. A stage's answer is no failure, so `attempts` does not count it.
    state: CallState = CallState.PENDING
    turn: float = 0.0
    row: EstimateRow | None = None
    core: str | None = None
    attempt: Attempt | None = None
    attempts: int = 0
    failures: dict[str, AttemptOutcome] = field(default_factory=dict)
    disputed: bool = False
    not_before_s: float = 0.0
    unreachable_s: float | None = None
    crashes: int = 0
    stages: PlanStages | None = None

    @property
    def awaited_core(self) -> str | None:
        """The one core that may take it now: of its plan's next stage, or the one that it is pinned to."""
        stages = self.stages
        if stages is not None and not stages.given_up and stages.awaited is not None:
            return stages.awaited
        return self.pinned

    @property
    def in_stages(self) -> bool:
        """Whether a plan of several cores decides what happens to it next."""
        return self.stages is not None and not self.stages.given_up

    @property
    def may_be_staged(self) -> bool:
        """Whether several cores may answer it: its answers can be checked, and nothing has gone wrong yet."""
        return self.question is not None and self.pinned is None and self.stages is None and not self.failures

    @property
    def unfit(self) -> frozenset[str]:
        """The cores that have rejected it."""
        return frozenset(core for core, outcome in self.failures.items() if not outcome.consequence.again)

    @property
    def causes(self) -> dict[str, str]:
        """By core, why it did not serve the call."""
        return {core: str(outcome) for core, outcome in self.failures.items()}

    def enter(self, state: CallState) -> None:
        """Move to another state.

        Raises
        ------
        ValueError
            `TRANSITIONS` does not allow it.
        """
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"state: {self.state.value!r}: call {self.number} cannot become {state.value!r}")
        self.state = state


@dataclass(frozen=True)
class EstimateRow:
    """One call's estimates over the cores of one pool.

    Attributes
    ----------
    pool : CorePool
    quality, cost, support : ndarray of float, shape (cores,)
    allowed : ndarray of bool, shape (cores,)
        The cores that a round may place the call on.
    has_choice : bool
        Whether more than one core meets its requirements.
    plans : PlanRow or None
        Of plans of several cores; None where there are none for the call.
    unrecorded : ndarray of bool, shape (cores,), or None
        The cores without a single outcome; None where the predictor does not say.
    prefix_core : int
        Column of the core that holds the call's conversation, where that matters; else -1.
    prefix_usd : float
        US dollars that `cost` is less there for it.
    """

    pool: object
    quality: NDArray[np.float64]
    cost: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    support: NDArray[np.float64]
    has_choice: bool = False
    plans: PlanRow | None = None
    unrecorded: NDArray[np.bool_] | None = None
    prefix_core: int = -1
    prefix_usd: float = 0.0


@dataclass(frozen=True)
class PlanRow:
    """One call's estimates over plans of several cores; every array has shape (plans,).

    Attributes
    ----------
    plans : tuple of AnswerPlan
    quality, cost, calls, reached : ndarray of float
        Expected: quality, 0 to 1; US dollars; cores asked; probability that the last stage is reached.
    allowed : ndarray of bool
        Whether all the plan's cores may take the call.
    """

    plans: tuple[AnswerPlan, ...]
    quality: NDArray[np.float64]
    cost: NDArray[np.float64]
    calls: NDArray[np.float64]
    reached: NDArray[np.float64]
    allowed: NDArray[np.bool_]
