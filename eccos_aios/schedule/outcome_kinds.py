"""The outcomes of an attempt: whose fault it was, and what follows for the core and the call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class OutcomeKind(Enum):
    """The kinds of outcome; `CONSEQUENCES` maps each to what follows."""

    ANSWERED = "answered"
    CORE_REFUSES = "core refuses"
    """It takes no call at all: key, credit, model, account, the daily quota."""
    CORE_BUSY = "core is busy"
    """It will take calls again later: 429, 503, 529."""
    CORE_FAILS = "core fails"
    """Another 5xx, a connection refused or broken, a truncated or malformed body."""
    CORE_SILENT = "core is silent"
    """No answer within the attempt's timeout."""
    CORE_UNFIT = "core cannot take this call"
    """The context window, a content filter, an unsupported parameter or tool."""
    NO_ANSWER = "no answer in the answer"
    """Status 200 with neither content nor a tool call."""
    CALL_AT_FAULT = "the call itself is at fault"
    """No core can take it: it cannot be encoded, or its messages are invalid."""


@dataclass(frozen=True)
class Consequence:
    """What follows from an outcome.

    Attributes
    ----------
    core : {"well", "nothing", "opens", "pauses", "counts", "counts by slots"}
        For the core: it is healthy; nothing; its breaker opens; it is paused; the outcome counts towards
        its breaker, as one failure or in proportion to the core's slots.
    elsewhere : bool
        Whether another core may do better.
    again : bool
        Whether the same core may do better later.
    """

    core: Literal["well", "nothing", "opens", "pauses", "counts", "counts by slots"]
    elsewhere: bool
    again: bool


CONSEQUENCES: dict[OutcomeKind, Consequence] = {
    OutcomeKind.ANSWERED: Consequence("well", elsewhere=False, again=False),
    OutcomeKind.CORE_REFUSES: Consequence("opens", elsewhere=True, again=True),
    OutcomeKind.CORE_BUSY: Consequence("pauses", elsewhere=True, again=True),
    OutcomeKind.CORE_FAILS: Consequence("counts", elsewhere=True, again=True),
    OutcomeKind.CORE_SILENT: Consequence("counts by slots", elsewhere=True, again=True),
    OutcomeKind.CORE_UNFIT: Consequence("nothing", elsewhere=True, again=False),
    OutcomeKind.NO_ANSWER: Consequence("counts", elsewhere=True, again=True),
    OutcomeKind.CALL_AT_FAULT: Consequence("nothing", elsewhere=False, again=False),
}


@dataclass(frozen=True)
class AttemptOutcome:
    """How one attempt ended.

    Attributes
    ----------
    kind : OutcomeKind
    cause : str
        In a few words, without the call's text: ``HTTP 401 invalid_api_key``, ``connection refused``.
    retry_after_s : float or None
        Seconds from the core's Retry-After; None without one.
    disputable : bool
        Whether the call itself may be the cause. If another core fails it alike, neither core is blamed. A
        connection that could not be made, for one, is never the call's fault.
    """

    kind: OutcomeKind
    cause: str = ""
    retry_after_s: float | None = None
    disputable: bool = True

    @property
    def consequence(self) -> Consequence:
        """What follows from it."""
        return CONSEQUENCES[self.kind]

    @property
    def counts(self) -> bool:
        """Whether it counts towards the core's breaker."""
        return self.consequence.core.startswith("counts")

    def is_like(self, other: AttemptOutcome) -> bool:
        """Whether two cores failed a call in the same way, so that the call may be at fault."""
        return self.disputable and other.disputable and (self.kind, self.cause) == (other.kind, other.cause)

    def __str__(self) -> str:
        return self.cause or self.kind.value


ANSWERED = AttemptOutcome(OutcomeKind.ANSWERED)
