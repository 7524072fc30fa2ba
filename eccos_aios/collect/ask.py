"""Asking a core one question: attempts, backoff between them, and the most that each can cost."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eccos_aios.collect.budget import Budget, worst_cost_usd
from eccos_aios.collect.client import Answer, AttemptError, Client
from eccos_aios.core import Core, Price
from eccos_aios.predict import call_text, count_tokens

# Parameters that OpenAI's reasoning models refuse, with their replacement; None: left out.
_REPLACEMENTS: Mapping[str, str | None] = {"max_tokens": "max_completion_tokens", "temperature": None}

UNREACHED_ATTEMPTS = 2


@dataclass(frozen=True)
class Backoff:
    """How often a call is attempted, and how long the pauses between attempts are.

    Attributes
    ----------
    attempts : int
        At most.
    first_s : float
        Upper bound of the first pause, seconds; it doubles with every attempt. Half of each pause is
        random, so that calls that failed together are not retried together.
    most_s : float
        Upper bound of every pause, seconds, even where a core asks for more.
    after_timeout_s : float
        Seconds that a slot stays occupied after a call that timed out: the core drops a call only when it
        notices that its client has gone.
    """

    attempts: int = 6
    first_s: float = 2.0
    most_s: float = 60.0
    after_timeout_s: float = 1.0

    def pause_s(self, attempt: int, asked_s: float | None, rng: random.Random) -> float:
        """Seconds to wait after attempt number `attempt` (from 0); `asked_s` is what the core asked for."""
        longest = min(self.most_s, self.first_s * 2.0**attempt)
        jittered = longest * rng.uniform(0.5, 1.0)
        return min(self.most_s, max(jittered, asked_s or 0.0))


@dataclass
class Asker:
    """Asks one core, from any thread.

    Attributes
    ----------
    core : Core
    client : Client
    budget : Budget
        Shared by all cores.
    backoff : Backoff
    stopped : threading.Event
        Set: no further attempt is made, and pauses end.
    trouble : str
        The error of the last attempt; empty if it was answered.
    """

    core: Core
    client: Client
    budget: Budget
    backoff: Backoff
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.price: Price = self.core.resolved_price
        self._rng = random.Random()
        # Needs no lock: each of these is only ever replaced as a whole.
        self._refused: frozenset[str] = frozenset()
        self._reached = False
        self.trouble = ""

    def ask(self, body: Mapping[str, Any]) -> PricedAnswer:
        """Send a request until it is answered.

        A parameter that the core refuses is replaced from then on. A core that no attempt has reached yet is
        tried only `UNREACHED_ATTEMPTS` times: its address is wrong, or it is not running.

        Raises
        ------
        AttemptError
            The error of the last attempt.
        OverBudgetError
            Another attempt could exceed the budget.
        StoppedError
            `stopped` was set before there was an answer.
        """
        worst_usd = worst_cost_usd(self.price, body)
        attempt = 0
        while True:
            sent = self._without_refused(body)
            result = self._attempt(sent, worst_usd)
            self.trouble = "" if isinstance(result, PricedAnswer) else str(result)
            if isinstance(result, PricedAnswer):
                self._reached = True
                return result
            self._reached |= not result.unreachable
            if result.parameter in _REPLACEMENTS and result.parameter in sent:
                self._refused |= {result.parameter}
                continue
            attempt += 1
            most = self.backoff.attempts if self._reached else UNREACHED_ATTEMPTS
            if not result.is_transient or attempt >= min(most, self.backoff.attempts):
                raise result
            if self.stopped.wait(self.backoff.pause_s(attempt - 1, result.retry_after_s, self._rng)):
                raise StoppedError from result

    def _attempt(self, body: Mapping[str, Any], worst_usd: float) -> PricedAnswer | AttemptError:
        if not self.budget.reserve(worst_usd, self.stopped.is_set):
            raise StoppedError if self.stopped.is_set() else OverBudgetError
        spent_usd, unknown_usd = 0.0, worst_usd
        try:
            priced = _priced(self.client.complete(body), body, self.price)
            spent_usd, unknown_usd = priced.cost_usd, 0.0
            return priced
        except AttemptError as error:
            unknown_usd = worst_usd if error.may_cost else 0.0
            if error.timed_out:
                self.stopped.wait(self.backoff.after_timeout_s)
            return error
        finally:
            self.budget.settle(worst_usd, spent_usd=spent_usd, unknown_usd=unknown_usd)

    def _without_refused(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request with the parameters that the core has refused replaced."""
        accepted = dict(body)
        for parameter in self._refused & accepted.keys():
            value, replacement = accepted.pop(parameter), _REPLACEMENTS[parameter]
            if replacement is not None:
                accepted[replacement] = value
        return accepted


class OverBudgetError(Exception):
    """Another attempt could exceed the budget."""


class StoppedError(Exception):
    """The collection is ending."""


@dataclass(frozen=True)
class PricedAnswer:
    """An answer with its tokens and price.

    Attributes
    ----------
    answer : Answer
    input_tokens, output_tokens : int
    counted : bool
        Whether the tokens are estimated here, because the provider did not report them.
    cost_usd : float
    """

    answer: Answer
    input_tokens: int
    output_tokens: int
    counted: bool
    cost_usd: float


def input_tokens(body: Mapping[str, Any]) -> float:
    """Input tokens of a request, as the predictors estimate them."""
    return call_text(body["messages"], body.get("tools")).input_tokens


def _priced(answer: Answer, body: Mapping[str, Any], price: Price) -> PricedAnswer:
    sent, received = answer.input_tokens, answer.output_tokens
    counted = sent is None or received is None
    if sent is None:
        sent = round(input_tokens(body))
    if received is None:
        texts = [answer.text, *(str(call.get("function")) for call in answer.tool_calls or ())]
        received = round(count_tokens("\n".join(texts)).expected)
    return PricedAnswer(answer, sent, received, counted, price.usd(sent, received))
