"""FeedbackLimit: rate limits of grades by call, by agent and by address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from eccos_aios.errors import SHOWN_VALUE_LENGTH, FeedbackLimitError

Kind = Literal["call", "agent", "address"]

REMEMBERED = 10_000  # calls, agents and addresses each; the least recently graded are forgotten first


@dataclass(frozen=True)
class Allowance:
    """The size and rate of a token bucket.

    Attributes
    ----------
    at_once : int
        Grades allowed in a burst.
    per_s : float
        Grades a second allowed in the long run.
    """

    at_once: int
    per_s: float


# A grade and a few corrections. However often a call is graded, learning counts it once; but each grade is
# written to disk and, where it differs, learned again.
OF_A_CALL = Allowance(at_once=6, per_s=1 / 60)
# One grader may grade all that a busy kernel answers, a few hundred calls a second, and a backlog.
OF_A_GRADER = Allowance(at_once=5_000, per_s=1_000.0)


class FeedbackLimit:
    """Counts grades by call, by agent and by address, and refuses those beyond the allowance of each.

    Any thread may call any method.

    Parameters
    ----------
    of_a_call, of_a_grader : Allowance
        A grader is an agent, whose calls are graded, or an address, from which grades come.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        of_a_call: Allowance = OF_A_CALL,
        of_a_grader: Allowance = OF_A_GRADER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._buckets = {
            "call": _Buckets(of_a_call),
            "agent": _Buckets(of_a_grader),
            "address": _Buckets(of_a_grader),
        }
        self._refused = dict.fromkeys(self._buckets, 0)

    def take(self, kind: Kind, name: str) -> None:
        """Count a grade of a call, of an agent's call, or by an address.

        Parameters
        ----------
        kind : {"call", "agent", "address"}
        name : str
            The call's id, the agent's name, or the address.

        Raises
        ------
        FeedbackLimitError
            The grade exceeds the allowance; says when the next is accepted.
        """
        buckets = self._buckets[kind]
        with self._lock:
            wait_s = buckets.take(name, self._clock())
            self._refused[kind] += wait_s > 0
        if wait_s > 0:
            allowed = f"{buckets.allowance.at_once} at once and {buckets.allowance.per_s:.3g} a second"
            shown = repr(name[:SHOWN_VALUE_LENGTH])
            raise FeedbackLimitError(f"{kind}: {shown}: too many grades; allowed are {allowed}", wait_s)

    def status(self) -> dict[str, object]:
        """How many grades were refused because of a call, an agent, or an address."""
        with self._lock:
            return {"refused": dict(self._refused)}


class _Buckets:
    """A token bucket for each name, stored by its hash since clients may send names of any length."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        # By hash of the name: tokens left, and when that was.
        self._left: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now_s: float) -> float:
        """Take a token; returns the seconds until there is one, 0 if it was taken."""
        key = hash(name)
        full = float(self.allowance.at_once)
        tokens, then_s = self._left.get(key, (full, now_s))
        tokens = min(full, tokens + (now_s - then_s) * self.allowance.per_s)
        taken = tokens >= 1.0
        self._left[key] = (tokens - taken, now_s)
        self._left.move_to_end(key)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return 0.0 if taken else (1.0 - tokens) / self.allowance.per_s
