"""Call: one pending LLM call, from its submission to its one final result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict import CallText
from eccos_aios.schedule.limits import Needs


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
    """

    core: str | None
    value: Any = None
    error: BaseException | None = None
    failed: bool = False


@dataclass(eq=False)
class Call:
    """One LLM call that waits for a core.

    Attributes
    ----------
    text : CallText
        What stage 1 sees of it.
    needs : Needs
        What it asks of a core.
    payload : object
        What the core is given; the clockwork never looks inside.
    on_done : callable
        Called once, with the call and its result, from a thread of the clockwork.
    agent : str
        Who sent it.
    pinned : str or None
        The one core that may serve it, because that core holds its context.
    arrived_s : float
        Seconds on the monotonic clock.
    """

    text: CallText
    needs: Needs
    payload: Any
    on_done: Callable[[Call, CallResult], None]
    agent: str = ""
    pinned: str | None = None
    arrived_s: float = field(default_factory=time.monotonic)
    row: EstimateRow | None = None
    # Taken by the first to finish the call and never given back: a call has one final result.
    _finished: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def finish(self) -> bool:
        """Claim the right to answer the call; True for exactly one caller."""
        return self._finished.acquire(blocking=False)


@dataclass(frozen=True)
class EstimateRow:
    """One call's estimates over the cores of one table; every array has shape (cores,)."""

    table: object
    quality: NDArray[np.float64]
    cost: NDArray[np.float64]
    allowed: NDArray[np.bool_]
