"""Whose fault it was: what one attempt's end means for the core, for the call, and for the next attempt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class OutcomeKind(Enum):
    """How an attempt ended; `CONSEQUENCES` says what follows."""

    ANSWERED = "answered"
    CORE_REFUSES = "core refuses"
    """It takes no call of ours at all: key, credit, model, account, the day's quota."""
    CORE_BUSY = "core is busy"
    """It takes calls again later: 429, 503, 529."""
    CORE_FAILS = "core fails"
    """Another 5xx, a connection that is refused or breaks, a body that is cut or makes no sense."""
    CORE_SILENT = "core is silent"
    """No answer within the attempt's timeout."""
    CORE_UNFIT = "core cannot take this call"
    """The window, a content filter, a parameter or tool that it does not support."""
    NO_ANSWER = "no answer in the answer"
    """Status 200 with nothing said and no tool called."""
    CALL_AT_FAULT = "the call itself is at fault"
    """No core can take it: it cannot be encoded, or its messages are invalid."""


@dataclass(frozen=True)
class Consequence:
    """What an outcome means.

    Attributes
    ----------
    core : {"well", "nothing", "opens", "pauses", "counts", "counts by slots"}
        For the core: it is well; the outcome tells nothing of it; its breaker opens; it is paused; the
        outcome counts towards its breaker, as one failure or as its share of the core's slots.
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
        In a few words, without what the call says: ``HTTP 401 invalid_api_key``, ``connection refused``.
    retry_after_s : float or None
        Seconds after which the core wants to be asked again; None: it has not said.
    disputable : bool
        Whether the call may have brought the failure about. One that another core fails alike is then held
        against neither; that no connection could be made is never the call's doing.
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
        """Whether two cores failed a call alike, so that the call is suspected."""
        return self.disputable and other.disputable and (self.kind, self.cause) == (other.kind, other.cause)

    def __str__(self) -> str:
        return self.cause or self.kind.value


ANSWERED = AttemptOutcome(OutcomeKind.ANSWERED)
