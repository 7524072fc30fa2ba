"""Attempt: one request at one core, with its deadline and what the HTTP client saw of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.schedule.classify import READ_BODY_BYTES, Observation, classify
from eccos_aios.schedule.outcome_kinds import ANSWERED, AttemptOutcome, OutcomeKind


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; `cached_tokens` are some of `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(eq=False)
class Attempt:
    """One request at one core.

    The code that sends it gets it from `current_attempt` and notes what it sees. Written by the sending
    thread alone, read by others after that thread is done.

    Attributes
    ----------
    core : str
    number : int
        Among the call's attempts, from 1.
    timeout_s : float
        Seconds until the attempt times out.
    clock : Clock
    started_s : float
        When it began, on that clock.
    usage : Usage or None
        The token counts that the provider reported, if plausible.
    answer : AttemptOutcome or None
        The outcome by the answer's content; None until the content was read.
    requests : int
        HTTP requests sent; more than one where the client retries by itself.
    trial : bool
        Whether it is the trial of an open breaker.
    finish_reason : str or None
        Why the answer ended, as the provider reported it.
    """

    core: str
    number: int = 1
    timeout_s: float = float("inf")
    clock: Clock = MONOTONIC_CLOCK
    started_s: float = field(init=False)
    usage: Usage | None = None
    answer: AttemptOutcome | None = None
    requests: int = 0
    trial: bool = False
    finish_reason: str | None = None
    _status: int | None = None
    _headers: Mapping[str, str] = field(default_factory=dict)
    _body: bytes = b""
    _error: BaseException | None = None

    def __post_init__(self) -> None:
        self.started_s = self.clock.now_s()

    @property
    def deadline_s(self) -> float:
        """When it times out, on its clock."""
        return self.started_s + self.timeout_s

    @property
    def timed_out(self) -> bool:
        """Whether its time is over."""
        return self.clock.now_s() > self.deadline_s

    def left_s(self) -> float:
        """Seconds until it times out, at least the millisecond that a socket timeout must have."""
        return max(0.001, self.deadline_s - self.clock.now_s())

    def note_request(self) -> None:
        """Note that a request is sent; the observations of an earlier one are dropped."""
        self.requests += 1
        self._status, self._headers, self._body, self._error = None, {}, b"", None
        self.usage = self.answer = self.finish_reason = None

    def note_response(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Note the response."""
        self._status = status
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._body = body[:READ_BODY_BYTES]

    def note_answer(
        self, content: object, called: bool, finish_reason: object, *, refused: bool = False
    ) -> None:
        """Note the answer's content.

        Parameters
        ----------
        content : object
            Of the message; white space counts as empty.
        called : bool
            Whether it calls a tool, or holds another kind of answer than content.
        finish_reason : object
            As the provider sent it.
        refused : bool
            Whether the model refuses to answer.
        """
        self.finish_reason = finish_reason if isinstance(finish_reason, str) else None
        if called or (content.strip() if isinstance(content, str) else content):
            self.answer = ANSWERED
        elif refused or finish_reason == "content_filter":
            self.answer = AttemptOutcome(OutcomeKind.CORE_UNFIT, "content filter", disputable=False)
        else:
            self.answer = AttemptOutcome(
                OutcomeKind.NO_ANSWER, f"nothing said, finish_reason {finish_reason}"
            )

    def note_usage(self, input_tokens: object, output_tokens: object, cached_tokens: object = None) -> None:
        """Note reported token counts; null and 0, which some servers send, are ignored."""
        counts = [
            count
            for count in (input_tokens, output_tokens)
            if isinstance(count, int) and not isinstance(count, bool) and count > 0
        ]
        if len(counts) == 2:
            cached = cached_tokens if isinstance(cached_tokens, int) else 0
            self.usage = Usage(counts[0], counts[1], min(max(0, cached), counts[0]))

    def note_error(self, error: BaseException) -> None:
        """Note what the client raised; only the first is kept, as it is closest to the cause."""
        self._error = self._error or error

    @property
    def saw_anything(self) -> bool:
        """Whether the client has noted a response or an error."""
        return self._status is not None or self._error is not None

    def observation(self, status: int | None = None, message: str = "") -> Observation:
        """All that was noted; `status` and `message` are used where nothing was."""
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
        """The outcome of an attempt without an answer; parameters as for `observation`."""
        return classify(self.observation(status, message))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's `current_attempt` for the block."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Attempt | None] = ContextVar("eccos_attempt", default=None)


def current_attempt() -> Attempt | None:
    """The attempt that this thread is sending; None outside an attempt."""
    return _current.get()


def attempt_under_way() -> Attempt:
    """As `current_attempt`.

    Raises
    ------
    RuntimeError
        Called outside an attempt.
    """
    attempt = _current.get()
    if attempt is None:
        raise RuntimeError("called outside an attempt")
    return attempt


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
