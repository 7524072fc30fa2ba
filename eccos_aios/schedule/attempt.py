"""Attempt: one request at one core, with its deadline, and what the client underneath sees of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from eccos_aios.schedule.classify import READ_BODY_BYTES, Observation, classify
from eccos_aios.schedule.outcome_kinds import ANSWERED, AttemptOutcome, OutcomeKind


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(eq=False)
class Attempt:
    """One request at one core.

    Whoever sends it finds it as `current_attempt` and notes what comes; written by the sending thread
    alone, read by others once that has come back.

    Attributes
    ----------
    core : str
    number : int
        Of the call's attempts, from 1.
    timeout_s : float
        Seconds that the core gets.
    started_s : float
        Seconds on the monotonic clock.
    usage : Usage or None
        The tokens that the provider reported, if they can be true.
    answer : AttemptOutcome or None
        What the answer's content says of it; None where nobody has looked.
    requests : int
        That left; more than one where a client underneath asks again.
    trial : bool
        Whether it is the probe of an open breaker.
    """

    core: str
    number: int = 1
    timeout_s: float = float("inf")
    started_s: float = field(default_factory=time.monotonic)
    usage: Usage | None = None
    answer: AttemptOutcome | None = None
    requests: int = 0
    trial: bool = False
    _status: int | None = None
    _headers: Mapping[str, str] = field(default_factory=dict)
    _body: bytes = b""
    _error: BaseException | None = None

    @property
    def deadline_s(self) -> float:
        """When the core's time is over, on the monotonic clock."""
        return self.started_s + self.timeout_s

    def left_s(self) -> float:
        """Seconds that the core has left, never below a moment that a socket can wait."""
        return max(0.001, self.deadline_s - time.monotonic())

    def note_request(self) -> None:
        """A request leaves; what was seen of an earlier one is forgotten."""
        self.requests += 1
        self._status, self._headers, self._body, self._error = None, {}, b"", None
        self.usage = self.answer = None

    def note_response(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """A response came."""
        self._status = status
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._body = body[:READ_BODY_BYTES]

    def note_answer(
        self, content: object, called: bool, finish_reason: object, *, refused: bool = False
    ) -> None:
        """An answer was read.

        Parameters
        ----------
        content : object
            What the message says; white space says nothing.
        called : bool
            Whether it calls a tool, or answers in another form than content.
        finish_reason : object
            As the provider gives it.
        refused : bool
            Whether the model says that it will not answer.
        """
        if called or (content.strip() if isinstance(content, str) else content):
            self.answer = ANSWERED
        elif refused or finish_reason == "content_filter":
            self.answer = AttemptOutcome(OutcomeKind.CORE_UNFIT, "content filter", disputable=False)
        else:
            self.answer = AttemptOutcome(
                OutcomeKind.NO_ANSWER, f"nothing said, finish_reason {finish_reason}"
            )

    def note_usage(self, input_tokens: object, output_tokens: object) -> None:
        """The provider reported tokens; null and 0 cannot be true of an answer, some servers send them."""
        counts = [
            count
            for count in (input_tokens, output_tokens)
            if isinstance(count, int) and not isinstance(count, bool) and count > 0
        ]
        if len(counts) == 2:
            self.usage = Usage(*counts)

    def note_error(self, error: BaseException) -> None:
        """The client raised; the first that is noted stands, as it is nearest to the cause."""
        self._error = self._error or error

    @property
    def saw_anything(self) -> bool:
        """Whether the client has noted a response or an error."""
        return self._status is not None or self._error is not None

    def observation(self, status: int | None = None, message: str = "") -> Observation:
        """What was seen, with a status and words that stand in where nothing was."""
        seen = self.saw_anything
        return Observation(
            status=self._status if seen else status,
            headers=self._headers,
            body=self._body,
            errors=tuple(_chain(self._error)),
            sent=self.requests > 0,
            message="" if seen else message,
        )

    def outcome(self, status: int | None = None, message: str = "") -> AttemptOutcome:
        """What it means that no answer came; parameters as `observation`."""
        return classify(self.observation(status, message))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let this thread's clients find it as `current_attempt` meanwhile."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Attempt | None] = ContextVar("eccos_attempt", default=None)


def current_attempt() -> Attempt | None:
    """The attempt that this thread is sending; None outside of any."""
    return _current.get()


def attempt_under_way() -> Attempt:
    """The same, for whoever is called within an attempt alone; RuntimeError outside of any."""
    attempt = _current.get()
    if attempt is None:
        raise RuntimeError("a core is asked within an attempt")
    return attempt


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
