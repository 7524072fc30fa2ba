"""CoreSlots: the calls that one core holds, its health, and its service times."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Literal, NamedTuple

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.core import Core
from eccos_aios.schedule.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_S, CircuitBreaker
from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind
from eccos_aios.schedule.slot_source import SlotSource

SERVICE_TIME_WEIGHT = 0.02  # of the newest call in the running mean, at least: noisy, yet a speed may change

FIRST_BUSY_S = 0.2  # seconds of the first pause of a busy core that sends no Retry-After; doubles
LONGEST_BUSY_S = 30.0
BUSY_TO_BE_DOWN = 3  # busy replies in a row without a Retry-After: calls stop waiting for that core

MEASURED_CALLS = 100  # service times that are remembered
ATTEMPT_TIMEOUT_FACTOR = 3.0  # times the longest of them: the lengths of answers vary widely
LEAST_ATTEMPT_TIMEOUT_S = 10.0
FIRST_ATTEMPT_TIMEOUT_S = 120.0  # seconds, before the first answer: a large local model may load that long
PATIENCE_DECAY = 0.8  # with every answer, of the longer timeout that a silent core was given


class SlotAvailability(NamedTuple):
    """How many calls a core can take now and soon.

    Attributes
    ----------
    free : int
        Slots that a call can take now: one where the breaker wants a trial call, none where it is open.
    slots : int
        All slots of a healthy core, free or not; 0 otherwise.
    service_s : float or None
        Running mean of the seconds that an answered call took; None before the first answer.
    measured : int
        Answers behind it, at most `MEASURED_CALLS`.
    line : float
        How many slots must come free for each call that waits; above 1 where calls of other kernels do, too.
    """

    free: int
    slots: int
    service_s: float | None
    measured: int = 0
    line: float = 1.0


class CoreSlots:
    """The calls that one core may hold at once: `acquire` before sending, `release` after any outcome.

    `note` records the outcome of an attempt. The slots of a core outlive a change of the configuration, so
    that calls in flight keep counting against the quota.

    Parameters
    ----------
    core : Core
    probed : bool
        Whether a prober checks the core while its breaker is open; without one, a call is the trial.
    clock : Clock, optional
    source : SlotSource, optional
        Where the slots of a core that is shared with other kernels come from.
    """

    def __init__(
        self,
        core: Core,
        *,
        probed: bool = False,
        clock: Clock = MONOTONIC_CLOCK,
        source: SlotSource | None = None,
    ) -> None:
        self.core = core
        self._source = source
        self.probed = probed
        self._clock = clock
        # Guards the core and everything below; `_availability` may be read without.
        self._lock = threading.Lock()
        self._in_flight = 0
        self._tokens: list[str] = []  # of the source, one for each of those in flight
        self._silent = 0  # of those in flight, attempts that timed out
        self._completed = 0
        self._failed = 0
        self._service_s: float | None = None
        self._measured: deque[float] = deque(maxlen=MEASURED_CALLS)
        self._patience_s = 0.0  # lower bound of the timeout after attempts that timed out
        self._breaker = CircuitBreaker()
        self._paused_until_s = float("-inf")
        self._busy_in_a_row = 0
        self._busy_said = True  # whether the last busy reply had a Retry-After
        self._busy_cause = ""
        self._reported = "ok", 0.0  # the last health that other kernels know of
        self._availability: SlotAvailability | None = None  # cached; only while time cannot change it

    def acquire(self) -> Literal["slot", "trial"] | None:
        """Take a slot, or one for the trial of an open breaker; None if none is free or the core is down."""
        now_s = self._clock.now_s()
        with self._lock:
            if self._free(now_s) == 0 or not self._take_shared():
                return None
            trial = self._breaker.state != "ok"
            if trial:
                self._breaker.probing()
            self._in_flight += 1
            self._availability = None
            return "trial" if trial else "slot"

    def begin_probe(self) -> bool:
        """Start the probe if one is due, and say whether; it lasts until `note` or `end_probe`."""
        with self._lock:
            due_s = self._breaker.probe_at_s
            due = self.probed and due_s is not None and due_s <= self._clock.now_s()
            if due:
                self._breaker.probing()
            return due

    def acquire_for_probe(self) -> bool:
        """Take a slot for the probe under way; False if calls hold all of them."""
        with self._lock:
            if self._in_flight >= self.core.slots or not self._take_shared():
                return False
            self._in_flight += 1
            self._availability = None
            return True

    def end_probe(self, outcome: AttemptOutcome | None, started_s: float) -> None:
        """Record the outcome of a probe that began at `started_s`; None: it could not be sent."""
        now_s = self._clock.now_s()
        with self._lock:
            self._availability = None
            if outcome is None:
                self._breaker.probe_ended(now_s)
                return
            if outcome.kind is OutcomeKind.CORE_BUSY:
                self._pause(outcome, now_s)
            self._end_trial(outcome, started_s, now_s)
        self._report(now_s)

    def release(self, *, silent: bool = False) -> None:
        """Return a slot; `silent`: that of an attempt which `give_up` had recorded as timed out."""
        with self._lock:
            self._availability = None
            self._in_flight -= 1
            self._silent -= silent
            token = self._tokens.pop() if self._tokens else None
        if token is not None and self._source is not None:
            self._source.give_back(self.core.name, token)

    def give_up(
        self, call: object, outcome: AttemptOutcome, timeout_s: float, *, trial: bool = False
    ) -> None:
        """Record that an attempt timed out; its slot stays taken until the client has closed it."""
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
        """Record an attempt's outcome.

        Parameters
        ----------
        call : object
            Identifies the call.
        outcome : AttemptOutcome
        service_s : float, optional
            Seconds that the answer took.
        started_s : float, optional
            When the attempt began, on the clock.
        trial : bool
            Whether the attempt was the trial of an open breaker.
        """
        now_s = self._clock.now_s()
        with self._lock:
            self._availability = None
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
        self._report(now_s)

    def hear(self, state: str, seconds: float, cause: str) -> None:
        """Take over what another kernel reports of this core; parameters as `SlotSource.report`.

        That kernel probes a core that is down; this one does so later, should that one end.
        """
        now_s = self._clock.now_s()
        with self._lock:
            self._availability = None
            if state == "paused":
                self._busy_said, self._busy_cause = True, cause
                self._paused_until_s = max(self._paused_until_s, now_s + seconds)
            elif state == "open" and self._breaker.state == "ok":
                self._breaker.refused(cause, now_s, LONGEST_PAUSE_S)
            elif state == "ok":
                self._breaker.succeeded(now_s)
            self._reported = self._health(now_s)

    def hear_service(self, service_s: float) -> None:
        """Take over the seconds that an answer took at another kernel."""
        with self._lock:
            self._availability = None
            self._measure(service_s)

    def forgive(self, call: object) -> None:
        """Uncount a failure that was the call's own fault, unless every slot of the core hangs."""
        with self._lock:
            if self._silent < self.core.slots:
                self._availability = None
                self._breaker.forgive(call)

    def blame(self, call: object, outcome: AttemptOutcome) -> None:
        """Count a forgiven failure of this call again."""
        with self._lock:
            self._availability = None
            if outcome.counts:
                weight = self._weight(outcome.consequence.core)
                self._breaker.failed(call, weight, str(outcome), self._clock.now_s())

    def resize(self, core: Core) -> None:
        """Replace the definition of the core; calls in flight stay counted."""
        with self._lock:
            self._availability = None
            self.core = core

    def await_probe(self) -> None:
        """Probe soon: calls wait that no healthy core may take."""
        with self._lock:
            self._breaker.await_probe()

    def availability(self) -> SlotAvailability:
        """What the core can take, as one consistent snapshot."""
        cached = self._availability
        if cached is not None:
            return cached
        with self._lock:
            now_s = self._clock.now_s()
            free = self._free(now_s)
            if self._breaker.state != "ok" or now_s < self._paused_until_s:
                return SlotAvailability(free, 0, self._service_s, len(self._measured))
            slots, answers = self.core.slots, len(self._measured)
            if self._source is not None:  # not cached, as other kernels change it at any time
                share = self._source.share(self.core.name)
                return SlotAvailability(free, min(slots, share.slots), self._service_s, answers, share.line)
            self._availability = SlotAvailability(free, slots, self._service_s, answers)
            return self._availability

    def attempt_timeout_s(self) -> float:
        """Seconds after which an attempt times out, from the measured service times."""
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
        """When time alone next changes the availability, on the clock; None: never."""
        with self._lock:
            moments_s = [] if self.probed else [self._breaker.probe_at_s]
            if self._paused_until_s > self._clock.now_s():
                moments_s.append(self._paused_until_s)
            return min((moment_s for moment_s in moments_s if moment_s is not None), default=None)

    def probe_at_s(self) -> float | None:
        """When the next probe is due; None where none is."""
        with self._lock:
            return self._breaker.probe_at_s if self.probed else None

    def why_down(self, until_s: float) -> str:
        """Why a call with time until `until_s` must not wait for this core; empty if it may."""
        if self._availability is not None:
            return ""  # cached only while the core is healthy
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
            if state == "ok" and self._clock.now_s() < self._paused_until_s:
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
        if self._source is not None:
            free = min(free, self._source.share(self.core.name).free)
        if now_s < self._paused_until_s:
            return 0
        if self._breaker.state == "ok":
            return free
        due_s = self._breaker.probe_at_s
        return min(1, free) if not self.probed and due_s is not None and due_s <= now_s else 0

    def _health(self, now_s: float) -> tuple[str, float]:
        """What other kernels should know: the state, and when a pause ends; the lock is held."""
        if self._breaker.state != "ok":
            return "open", 0.0
        return ("paused", self._paused_until_s) if now_s < self._paused_until_s else ("ok", 0.0)

    def _report(self, now_s: float) -> None:
        """Tell other kernels of a change."""
        if self._source is None:
            return
        with self._lock:
            health, before = self._health(now_s), self._reported
            self._reported = health
            cause = self._breaker.cause or self._busy_cause
        state, until_s = health
        if health != before and (state, before[0]) != ("ok", "paused"):  # a pause ends by itself
            self._source.report(self.core.name, state, max(0.0, until_s - now_s), cause)

    def _take_shared(self) -> bool:
        """Take a slot of the source, if there is one to ask; the lock is held."""
        if self._source is None:
            return True
        token = self._source.take(self.core.name)
        if token is not None:
            self._tokens.append(token)
        return token is not None

    def _end_trial(self, outcome: AttemptOutcome, started_s: float, now_s: float) -> None:
        """Close the breaker, or leave it open, after its trial; the lock is held."""
        consequence = outcome.consequence.core
        if consequence in ("well", "nothing") or outcome.kind is OutcomeKind.NO_ANSWER:
            self._breaker.succeeded(started_s)  # it works: the answer to a probe of one token may be empty
        elif consequence == "pauses":
            self._breaker.probe_ended(now_s)
        else:
            self._breaker.probe_failed(str(outcome), now_s)

    def _pause(self, outcome: AttemptOutcome, now_s: float) -> None:
        """Pause for the Retry-After, else longer each time; the lock is held."""
        pause_s, anew = outcome.retry_after_s, now_s >= self._paused_until_s
        if anew:  # calls that were sent together and refused together count once
            self._busy_in_a_row += 1
        if pause_s is None and anew:
            pause_s = min(FIRST_BUSY_S * 2 ** min(self._busy_in_a_row - 1, 16), LONGEST_BUSY_S)
        if pause_s is not None:
            self._busy_said, self._busy_cause = outcome.retry_after_s is not None, str(outcome)
            self._paused_until_s = max(self._paused_until_s, now_s + pause_s)

    def _weight(self, consequence: str) -> int:
        """Failures that an outcome counts as: a core whose every slot hangs must open, however few it has."""
        return math.ceil(FAILURES_TO_OPEN / self.core.slots) if consequence == "counts by slots" else 1

    def _measure(self, service_s: float | None) -> None:
        if service_s is None:
            return
        mean = self._service_s
        weight = max(SERVICE_TIME_WEIGHT, 1 / (1 + len(self._measured)))
        self._service_s = service_s if mean is None else mean + weight * (service_s - mean)
        self._measured.append(service_s)
        self._patience_s *= PATIENCE_DECAY
