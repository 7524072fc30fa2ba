"""A core's slots: how many calls it holds, how long it takes, what became of them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Literal, NamedTuple

from eccos_aios.core import Core
from eccos_aios.schedule.breaker import FAILURES_TO_OPEN, CircuitBreaker
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind

SERVICE_TIME_WEIGHT = (
    0.2  # of the newest call in the running mean; a core's speed is noisy, yet it may change
)
SHORTEST_SERVICE_S = 1e-3  # seconds; bounds what a core that answers from a cache is believed to take
MOST_TURNS = 100  # times that a plan counts a slot at most

FIRST_BUSY_S = 0.2  # seconds that a core rests which is busy and does not say how long; doubles
LONGEST_BUSY_S = 30.0
BUSY_TO_BE_DOWN = 3  # times in a row, without a word how long: calls stop waiting for such a core

MEASURED_CALLS = 100  # whose service times are remembered
ATTEMPT_TIMEOUT_FACTOR = 3.0  # on the longest of them: answers differ in length by more than their mean tells
LEAST_ATTEMPT_TIMEOUT_S = 10.0
FIRST_ATTEMPT_TIMEOUT_S = 120.0  # seconds, before the first answer: a large local model may load that long
PATIENCE_KEPT = 0.8  # of the patience that a silent core was given, with every answer


class SlotAvailability(NamedTuple):
    """What a core can take.

    Attributes
    ----------
    free : int
        Slots that a call can take now: one where the breaker wants a probe, none where it is open.
    slots : int
        Those that come free again and again; none unless the core is well.
    service_s : float or None
        Running mean of the seconds that an answered call took; None before the first answer.
    """

    free: int
    slots: int
    service_s: float | None

    def freed_within(self, horizon_s: float, service_s: float) -> int:
        """Slots that come free within `horizon_s` seconds, each as often as it does, at so many a call."""
        return min(int(self.slots * horizon_s / max(service_s, SHORTEST_SERVICE_S)), MOST_TURNS * self.slots)


class CoreSlots:
    """The calls that one core may hold at once: `acquire` before sending one, `release` whatever came back.

    What an attempt's end says of the core goes through `note`. It outlives a change of the configuration,
    so that calls in flight keep counting against the quota.

    Parameters
    ----------
    core : Core
    probed : bool
        Whether somebody probes the core while its breaker is open; where not, a call is the probe.
    """

    def __init__(self, core: Core, *, probed: bool = False) -> None:
        self.core = core
        self.probed = probed
        # Guards the core and everything below; `_room` may be read without.
        self._lock = threading.Lock()
        self._in_flight = 0
        self._silent = 0  # of those in flight, the attempts that were given up
        self._completed = 0
        self._failed = 0
        self._service_s: float | None = None
        self._measured: deque[float] = deque(maxlen=MEASURED_CALLS)
        self._patience_s = 0.0  # what it gets at least, where it was silent for as long as it had
        self._breaker = CircuitBreaker()
        self._paused_until_s = float("-inf")
        self._busy_in_a_row = 0
        self._busy_said = True  # whether the core said how long it is busy
        self._busy_cause = ""
        self._room: SlotAvailability | None = None  # as long as it holds at any time: while the core is well

    def acquire(self) -> Literal["slot", "trial"] | None:
        """Take a slot, or one to try an open breaker with; None where none is free or the core is down."""
        now_s = time.monotonic()
        with self._lock:
            if self._free(now_s) == 0:
                return None
            trial = self._breaker.state != "ok"
            if trial:
                self._breaker.probing()
            self._in_flight += 1
            self._room = None
            return "trial" if trial else "slot"

    def begin_probe(self) -> bool:
        """Whether a probe is due; it then is under way until `note` or `end_probe`."""
        with self._lock:
            due_s = self._breaker.probe_at_s
            due = self.probed and due_s is not None and due_s <= time.monotonic()
            if due:
                self._breaker.probing()
            return due

    def acquire_for_probe(self) -> bool:
        """Take a slot for the probe that is under way; False where calls hold them all."""
        with self._lock:
            if self._in_flight >= self.core.slots:
                return False
            self._in_flight += 1
            self._room = None
            return True

    def end_probe(self, outcome: AttemptOutcome | None, started_s: float) -> None:
        """What a probe that began at `started_s` found; None: it could not be made."""
        now_s = time.monotonic()
        with self._lock:
            self._room = None
            if outcome is None:
                self._breaker.probe_ended(now_s)
                return
            if outcome.kind is OutcomeKind.CORE_BUSY:
                self._pause(outcome, now_s)
            self._end_trial(outcome, started_s, now_s)

    def release(self, *, silent: bool = False) -> None:
        """Give a slot back; `silent`: of an attempt that was given up before."""
        with self._lock:
            self._room = None
            self._in_flight -= 1
            self._silent -= silent

    def give_up(
        self, call: object, outcome: AttemptOutcome, timeout_s: float, *, trial: bool = False
    ) -> None:
        """An attempt was silent for all its time; its slot stays taken until the core has let go."""
        with self._lock:
            self._silent += 1
            self._patience_s = max(self._patience_s, 2 * timeout_s)
        self.note(call, outcome, trial=trial)

    def note(
        self,
        call: object,
        outcome: AttemptOutcome,
        *,
        service_s: float | None = None,
        started_s: float = float("inf"),
        trial: bool = False,
    ) -> None:
        """Draw the consequence of an attempt's end.

        Parameters
        ----------
        call : object
            What tells the call from others.
        outcome : AttemptOutcome
        service_s : float, optional
            Seconds that an answer took.
        started_s : float, optional
            When the attempt began, on the monotonic clock.
        trial : bool
            Whether the call was the probe of an open breaker.
        """
        now_s = time.monotonic()
        with self._lock:
            self._room = None
            consequence = outcome.consequence.core
            if consequence == "well":
                self._completed += 1
                self._breaker.succeeded(started_s)
                self._busy_in_a_row = 0
                self._measure(service_s)
            elif consequence == "opens":
                self._failed += 1
                self._breaker.refused(str(outcome), now_s, outcome.retry_after_s)
            elif consequence == "pauses":
                self._pause(outcome, now_s)
            elif consequence != "nothing":
                self._failed += 1
                self._breaker.failed(call, self._weight(consequence), str(outcome), now_s)
            if trial:
                self._end_trial(outcome, started_s, now_s)

    def forgive(self, call: object) -> None:
        """A failure of this call was the call's own: take it back, unless every slot of the core hangs."""
        with self._lock:
            if self._silent < self.core.slots:
                self._room = None
                self._breaker.forgive(call)

    def blame(self, call: object, outcome: AttemptOutcome) -> None:
        """Hold against the core again what was forgiven of this call."""
        with self._lock:
            self._room = None
            if outcome.counts:
                weight = self._weight(outcome.consequence.core)
                self._breaker.failed(call, weight, str(outcome), time.monotonic())

    def resize(self, core: Core) -> None:
        """Take over a changed definition of the core; calls in flight stay counted."""
        with self._lock:
            self._room = None
            self.core = core

    def await_probe(self) -> None:
        """Calls wait that no core which is well may take."""
        with self._lock:
            self._breaker.await_probe()

    def room(self) -> SlotAvailability:
        """What it can take now, all of one moment."""
        known = self._room
        if known is not None:
            return known
        with self._lock:
            now_s = time.monotonic()
            free = self._free(now_s)
            if self._breaker.state != "ok" or now_s < self._paused_until_s:
                return SlotAvailability(free, 0, self._service_s)
            self._room = SlotAvailability(free, self.core.slots, self._service_s)
            return self._room

    def attempt_timeout_s(self) -> float:
        """Seconds that an attempt gets, by the service times that were measured."""
        with self._lock:
            longest_s = max(self._measured, default=None)
            patience_s = self._patience_s
        if longest_s is None:
            return max(FIRST_ATTEMPT_TIMEOUT_S, patience_s)
        return max(LEAST_ATTEMPT_TIMEOUT_S, ATTEMPT_TIMEOUT_FACTOR * longest_s, patience_s)

    def typical_service_s(self) -> float | None:
        """Running mean of the seconds that an answer took; None before the first."""
        with self._lock:
            return self._service_s

    def wakeup_s(self) -> float | None:
        """When the clock alone changes what it can take, on the monotonic clock; None: never."""
        with self._lock:
            moments_s = [] if self.probed else [self._breaker.probe_at_s]
            if self._paused_until_s > time.monotonic():
                moments_s.append(self._paused_until_s)
            return min((moment_s for moment_s in moments_s if moment_s is not None), default=None)

    def probe_at_s(self) -> float | None:
        """When somebody should probe it; None where nobody should."""
        with self._lock:
            return self._breaker.probe_at_s if self.probed else None

    def why_down(self, until_s: float) -> str:
        """Why a call that has time until then must not wait for it; empty where it may."""
        if self._room is not None:
            return ""  # known only while it is well
        with self._lock:
            if self._breaker.state != "ok":
                return self._breaker.cause or "open"
            if self._paused_until_s >= until_s or (
                self._busy_in_a_row >= BUSY_TO_BE_DOWN and not self._busy_said
            ):
                return self._busy_cause
            return ""

    def status(self) -> dict[str, int | str]:
        """The core's part of ``/eccos/status``."""
        with self._lock:
            state: str = self._breaker.state
            cause = self._breaker.cause
            if state == "ok" and time.monotonic() < self._paused_until_s:
                state, cause = "paused", self._busy_cause
            status: dict[str, int | str] = {
                "quota": self.core.slots,
                "in_flight": self._in_flight,
                "completed": self._completed,
                "failed": self._failed,
                "state": state,
            }
            return {**status, "cause": cause} if cause else status

    def _free(self, now_s: float) -> int:
        """Slots that a call can take; the lock is held."""
        free = max(0, self.core.slots - self._in_flight)
        if now_s < self._paused_until_s:
            return 0
        if self._breaker.state == "ok":
            return free
        due_s = self._breaker.probe_at_s
        return min(1, free) if not self.probed and due_s is not None and due_s <= now_s else 0

    def _end_trial(self, outcome: AttemptOutcome, started_s: float, now_s: float) -> None:
        """What the attempt that was the probe says of an open breaker; the lock is held."""
        consequence = outcome.consequence.core
        if consequence in ("well", "nothing") or outcome.kind is OutcomeKind.NO_ANSWER:
            self._breaker.succeeded(started_s)  # it works: a probe of one token may well say nothing
        elif consequence == "pauses":
            self._breaker.probe_ended(now_s)
        else:
            self._breaker.probe_failed(str(outcome), now_s)

    def _pause(self, outcome: AttemptOutcome, now_s: float) -> None:
        """Rest as long as the core said, else longer each time; the lock is held."""
        rest_s, anew = outcome.retry_after_s, now_s >= self._paused_until_s
        if anew:  # calls that were sent together are refused together, which is once
            self._busy_in_a_row += 1
        if rest_s is None and anew:
            rest_s = min(FIRST_BUSY_S * 2 ** min(self._busy_in_a_row - 1, 16), LONGEST_BUSY_S)
        if rest_s is not None:
            self._busy_said, self._busy_cause = outcome.retry_after_s is not None, str(outcome)
            self._paused_until_s = max(self._paused_until_s, now_s + rest_s)

    def _weight(self, consequence: str) -> int:
        """What an outcome counts for: a core whose every slot hangs must open, however few it has."""
        return math.ceil(FAILURES_TO_OPEN / self.core.slots) if consequence == "counts by slots" else 1

    def _measure(self, service_s: float | None) -> None:
        if service_s is None:
            return
        known = self._service_s
        self._service_s = service_s if known is None else known + SERVICE_TIME_WEIGHT * (service_s - known)
        self._measured.append(service_s)
        self._patience_s *= PATIENCE_KEPT
