"""Call: one pending LLM call, and the states it goes through from its submission to its one final result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict import CallText
from eccos_aios.requirements import Requirements
from eccos_aios.schedule.affinity import Conversation
from eccos_aios.schedule.attempt import Attempt
from eccos_aios.schedule.outcome_kinds import AttemptOutcome


class CallState(Enum):
    """Where a call is."""

    PENDING = "pending"
    """Waits for a round to place it."""
    PLANNED = "planned"
    """A round has a core in mind for it that is busy; the next round may think otherwise."""
    IN_FLIGHT = "in flight"
    """Holds a slot of a core."""
    RETRYING = "retrying"
    """Cores failed it; it waits until one of them may be tried again."""
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
        What the core answered; None where `error` says why there is nothing.
    error : Exception or None
        Why there is no answer.
    failed : bool
        Whether the agent gets an error, be it ours or one that the core answered with.
    service_s : float or None
        Seconds from its slot to the core's answer, of the last attempt; None where no answer came.
    causes : mapping of str to str
        By core, why it did not serve the call.
    """

    core: str | None
    value: Any = None
    error: BaseException | None = None
    failed: bool = False
    service_s: float | None = None
    causes: Mapping[str, str] = field(default_factory=dict)


_numbers = count(1)


@dataclass(eq=False)
class Call:
    """One LLM call that waits for a core.

    Attributes
    ----------
    text : CallText
        What stage 1 sees of it.
    requirements : Requirements
        What it asks of a core.
    payload : object
        What the core is given; the clockwork never looks inside.
    on_done : callable
        Called once, with the call and its result, from a thread of the clockwork.
    agent : str
        Who sent it.
    pinned : str or None
        The one core that may serve it, because that core holds its context.
    priority : int
        Calls of a higher one go first.
    quality_target : float or None
        Its own, 0 to 1; None: the scheduler's.
    conversation : Conversation, str or None
        Calls of one conversation may keep to the core that served it; a string is its key at every call.
    number : int
        Its number in this process, from 1.
    id : str
        Tells it from every other call, in every process (a UUID).
    arrived_s : float
        Seconds on the monotonic clock.
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
    number: int = field(default_factory=lambda: next(_numbers))
    id: str = field(default_factory=lambda: str(uuid4()))
    arrived_s: float = field(default_factory=time.monotonic)
    # What follows belongs to the scheduler that the call was submitted to, and is guarded by its lock:
    # `attempt` is the one under way, `failures` the last outcome at each core, `disputed` says that two
    # cores failed it alike, `unreachable_s` since when every core that may take it is down.
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

    @property
    def unfit(self) -> frozenset[str]:
        """The cores that have said that they cannot take it."""
        return frozenset(core for core, outcome in self.failures.items() if not outcome.consequence.again)

    @property
    def causes(self) -> dict[str, str]:
        """By core, why it did not serve the call."""
        return {core: str(outcome) for core, outcome in self.failures.items()}

    def enter(self, state: CallState) -> None:
        """Go on to another state.

        Raises
        ------
        ValueError
            `TRANSITIONS` has no such way.
        """
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"state: {self.state.value!r}: call {self.number} cannot become {state.value!r}")
        self.state = state


@dataclass(frozen=True)
class EstimateRow:
    """One call's estimates over the cores of one table; every array has shape (cores,)."""

    table: object
    quality: NDArray[np.float64]
    cost: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    support: NDArray[np.float64]
