"""The collection: a thread pool per core, as wide as its quota; graded outcomes go to the journal."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from eccos_aios.collect.ask import Asker, Backoff, OverBudgetError, PricedAnswer, StoppedError
from eccos_aios.collect.budget import Budget
from eccos_aios.collect.client import DEFAULT_TIMEOUT_S, AttemptError, Client
from eccos_aios.collect.endpoint import Endpoint
from eccos_aios.collect.journal import Journal
from eccos_aios.collect.plan import CorePlan, Plan
from eccos_aios.collect.prompt import request_body
from eccos_aios.collect.question import Question, grade_answer

GIVE_UP_AFTER = 5  # consecutive calls of a core that fail after all their attempts
DROPPED_AT = 2  # interrupts after which calls under way are dropped
MAX_THREADS = 256  # per core; a larger quota is meant for a batch, not for concurrent calls
RIGHT_FROM = 0.5  # quality from which an outcome counts as correct, for readers that ignore quality
UNASKED_STATUSES = frozenset({400, 413, 422})  # the question's fault, not the core's

Ended = Literal["complete", "budget", "interrupted", "incomplete"]


@dataclass
class Tally:
    """Progress of one core; changed only by the collecting thread.

    Attributes
    ----------
    name : str
    total : int
        Questions that it has to answer, those recorded before included.
    recorded : int
        Outcomes in the history.
    failed : int
        Calls of this run that got no answer.
    quality_sum : float
        Over the outcomes in the history.
    input_tokens, output_tokens : int
        Of this run.
    cost_usd : float
        Of this run.
    latencies_s : list of float
        Of this run.
    stopped : str
        Why the core is no longer asked; empty while it is.
    last_failure : str
        The error of the last failed call.
    failures_in_a_row : int
    trouble : callable
        Returns the error of the last attempt; empty if it was answered.
    """

    name: str
    total: int
    recorded: int = 0
    failed: int = 0
    quality_sum: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    stopped: str = ""
    last_failure: str = ""
    failures_in_a_row: int = 0
    trouble: Callable[[], str] = str

    @property
    def left(self) -> int:
        """Questions left; none if it has stopped."""
        return 0 if self.stopped else self.total - self.recorded

    @property
    def quality(self) -> float | None:
        """Mean over the outcomes in the history."""
        return self.quality_sum / self.recorded if self.recorded else None

    def summary(self) -> dict[str, Any]:
        """Fields of the ``--json`` output."""
        return {
            "recorded": self.recorded,
            "missing": self.total - self.recorded,
            "failed": self.failed,
            "quality": self.quality,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": self.cost_usd,
            "latency_s_p50": statistics.median(self.latencies_s) if self.latencies_s else None,
            "stopped": self.stopped or None,
            "last_failure": self.last_failure or None,
        }


@dataclass(frozen=True)
class CollectionResult:
    """The result of a collection.

    Attributes
    ----------
    ended : {"complete", "budget", "interrupted", "incomplete"}
        ``incomplete``: calls failed, so that outcomes are missing.
    tallies : list of Tally
        In the manifest's order.
    unknown_usd : float
        Upper bound, US dollars, of attempts without an answer that may be billed.
    seconds : float
    """

    ended: Ended
    tallies: list[Tally]
    unknown_usd: float
    seconds: float

    @property
    def cost_usd(self) -> float:
        """US dollars of this run's answers."""
        return sum(tally.cost_usd for tally in self.tallies)

    def summary(self) -> dict[str, Any]:
        """Fields of the ``--json`` output."""
        return {
            "ended": self.ended,
            "cost_usd": self.cost_usd,
            "unknown_usd": self.unknown_usd,
            "seconds": self.seconds,
            "cores": {tally.name: tally.summary() for tally in self.tallies},
        }


class Collection:
    """Asks every core the questions of a plan, and records the outcomes.

    Parameters
    ----------
    plan : Plan
    endpoints : mapping of str to Endpoint
        By the cores' names.
    journal : Journal
        Is not closed here.
    max_usd : float, optional
        For all outcomes of the plan's questions, those recorded before included.
    timeout_s : float
        Seconds without a byte after which an attempt fails.
    backoff : Backoff
    keep_text : bool
        Record the answers, not only their quality.
    """

    def __init__(
        self,
        plan: Plan,
        endpoints: Mapping[str, Endpoint],
        journal: Journal,
        *,
        max_usd: float | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        backoff: Backoff | None = None,
        keep_text: bool = True,
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._keep_text = keep_text
        self._endpoints = endpoints
        self._budget = Budget(max_usd, plan.recorded_usd)
        self._askers = [
            Asker(core.core, Client(endpoints[core.core.name], timeout_s), self._budget, backoff or Backoff())
            for core in plan.cores
        ]
        self.tallies = [_tally(core, asker) for core, asker in zip(plan.cores, self._askers, strict=True)]
        self._done: queue.SimpleQueue[Future[_CallResult] | None] = queue.SimpleQueue()  # None: an interrupt

    def run(
        self,
        on_progress: Callable[[], None] = lambda: None,
        on_interrupt: Callable[[int], None] = lambda under_way: None,
    ) -> CollectionResult:
        """Ask until no question is left, the budget is used up, or `interrupt` is called.

        Parameters
        ----------
        on_progress : callable
            Called in this thread after calls have ended.
        on_interrupt : callable
            Called in this thread, at each interrupt, with the number of calls under way.

        Raises
        ------
        HistoryError
            Outcomes cannot be written.
        """
        start = time.monotonic()
        pools = [
            ThreadPoolExecutor(min(asker.core.slots, MAX_THREADS), f"collect-{asker.core.name}")
            for asker in self._askers
        ]
        interrupts = 0
        try:
            left = self._submit(pools)
            while left and interrupts < DROPPED_AT:
                finished, interrupted = self._wait()
                left -= len(finished)
                self._count(finished)
                on_progress()
                if interrupted:
                    interrupts += interrupted
                    self._stop("interrupted")
                    on_interrupt(sum(asker.client.under_way for asker in self._askers))
        finally:
            for asker in self._askers:
                asker.stopped.set()
                asker.client.close()
            self._budget.wake()
            for pool in pools:
                pool.shutdown(cancel_futures=True)
        return CollectionResult(
            self._ended(interrupts > 0), self.tallies, self._budget.unknown_usd, time.monotonic() - start
        )

    def interrupt(self) -> None:
        """End early: at the first call once the calls under way have ended, at the second at once.

        May be called from any thread and from a signal handler.
        """
        self._done.put(None)

    def _submit(self, pools: list[ThreadPoolExecutor]) -> int:
        submitted = 0
        for place, (pool, plan) in enumerate(zip(pools, self._plan.cores, strict=True)):
            for question in plan.todo:
                pool.submit(self._ask, place, question).add_done_callback(self._done.put)
                submitted += 1
        return submitted

    def _ask(self, place: int, question: Question) -> _CallResult:
        """Runs in the pool of a core; an answer is on disk before the slot is free again."""
        asker = self._askers[place]
        if asker.stopped.is_set():
            return _CallResult(place)
        model = self._endpoints[asker.core.name].model
        body = request_body(question, model, self._plan.max_output_tokens)
        try:
            priced = asker.ask(body)
        except StoppedError:
            return _CallResult(place)
        except (AttemptError, OverBudgetError) as error:
            if isinstance(error, OverBudgetError) or error.refused:
                asker.stopped.set()
            return _CallResult(place, failure=error)
        quality = grade_answer(question, priced.answer.text, priced.answer.tool_calls)
        self._journal.append(question, self._outcome(asker.core.name, priced, quality))
        return _CallResult(place, priced=priced, quality=quality)

    def _wait(self) -> tuple[list[_CallResult], int]:
        """Wait for finished calls and take all of them; also returns the number of interrupts."""
        events = [self._done.get()]
        with suppress(queue.Empty):
            while True:
                events.append(self._done.get_nowait())
        finished = [event.result() for event in events if event is not None]
        return finished, len(events) - len(finished)

    def _count(self, finished: list[_CallResult]) -> None:
        for one in finished:
            if one.priced is not None:
                _count_answer(self.tallies[one.place], one.priced, one.quality)
            elif one.failure is not None:
                self._count_failure(one.place, one.failure)

    def _outcome(self, name: str, priced: PricedAnswer, quality: float) -> dict[str, Any]:
        outcome: dict[str, Any] = {
            "model_name": name,
            "correctness": quality >= RIGHT_FROM,
            "quality": round(quality, 6),
            "input_token_length": priced.input_tokens,
            "output_token_length": priced.output_tokens,
            "latency_s": round(priced.answer.latency_s, 4),
            "cost_usd": round(priced.cost_usd, 12),
        }
        if priced.counted:
            outcome["tokens_counted"] = True
        if self._keep_text:
            calls = [call.get("function") for call in priced.answer.tool_calls or ()]
            outcome["prediction"] = calls or priced.answer.text
        return outcome

    def _count_failure(self, place: int, failure: AttemptError | OverBudgetError) -> None:
        tally = self.tallies[place]
        if isinstance(failure, OverBudgetError):
            self._stop_core(place, "budget")
            return
        tally.failed += 1
        tally.last_failure = str(failure)
        if failure.status not in UNASKED_STATUSES:
            tally.failures_in_a_row += 1
        if failure.refused or tally.failures_in_a_row >= GIVE_UP_AFTER:
            self._stop_core(place, str(failure))

    def _stop_core(self, place: int, reason: str) -> None:
        self.tallies[place].stopped = self.tallies[place].stopped or reason
        self._askers[place].stopped.set()
        self._budget.wake()

    def _stop(self, reason: str) -> None:
        for place, tally in enumerate(self.tallies):
            if tally.recorded < tally.total:
                self._stop_core(place, reason)

    def _ended(self, interrupted: bool) -> Ended:
        if all(tally.recorded == tally.total for tally in self.tallies):
            return "complete"
        if interrupted:
            return "interrupted"
        if all(tally.stopped == "budget" or tally.recorded == tally.total for tally in self.tallies):
            return "budget"
        return "incomplete"


@dataclass(frozen=True)
class _CallResult:
    """A question put to a core: its answer, or the failure; neither where it was not sent."""

    place: int  # of the core in the manifest
    priced: PricedAnswer | None = None
    quality: float = 0.0
    failure: AttemptError | OverBudgetError | None = None


def _tally(plan: CorePlan, asker: Asker) -> Tally:
    qualities = [
        float(outcome["correctness"] if outcome.get("quality") is None else outcome["quality"])
        for outcome in plan.recorded
    ]
    total = len(plan.todo) + len(plan.recorded)
    return Tally(
        plan.core.name,
        total,
        recorded=len(plan.recorded),
        quality_sum=sum(qualities),
        trouble=lambda: asker.trouble,
    )


def _count_answer(tally: Tally, priced: PricedAnswer, quality: float) -> None:
    tally.recorded += 1
    tally.failures_in_a_row = 0
    tally.quality_sum += quality
    tally.input_tokens += priced.input_tokens
    tally.output_tokens += priced.output_tokens
    tally.cost_usd += priced.cost_usd
    tally.latencies_s.append(priced.answer.latency_s)
