"""QueryPool: the threads in which AIOS's ``/query`` requests wait for their syscalls, fair among agents."""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from eccos_aios.hooks.clients import CLIENT, GONE, Client

QUERY_THREADS_PER_SLOT = 4  # a waiting call holds a thread too, and a plan needs calls that wait
RESERVED_THREADS = 64  # beyond the others, for agents none of whose calls has a thread
IDLE_S = 10.0  # seconds after which an idle thread ends
LINGER_S = 0.5  # seconds that a shutdown waits for busy threads; a core that hangs may hold one for ever
REMEMBERED_AGENTS = 10_000  # lanes; those behind the virtual clock are forgotten first
RATE_WINDOW = 64  # calls over which the rate of answers is measured
LONGEST_RETRY_S = 60.0  # seconds of Retry-After, at most


class PendingLimits(NamedTuple):
    """How many calls may wait for a core, and do.

    Attributes
    ----------
    max_pending : int
        Calls that may wait, in front of the scheduler and in it.
    pending : int
        Calls that wait in the scheduler.
    slots : int
        Calls that the cores hold at once. The pool's calls beyond them wait, or are about to.
    """

    max_pending: int
    pending: int
    slots: int


@dataclass(eq=False)
class Work:
    """A function to be called in a thread, for a client if one waits for it."""

    do: Callable[[], Any]
    future: Future[Any]
    client: Client | None


@dataclass(eq=False)
class Lane:
    """The work of one agent; agent None has the work that belongs to no agent.

    `turn` is the start tag of its first waiting work, `entry` the number of its valid entry in the heap.
    """

    agent: str | None
    turn: float = 0.0
    entry: int = -1
    waiting: OrderedDict[Work, None] = field(default_factory=OrderedDict)
    running: dict[Work, None] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """Work that waits or runs."""
        return len(self.waiting) + len(self.running)


class QueryPool(ThreadPoolExecutor):
    """An executor that is as fair among agents as the scheduler behind it.

    AIOS waits for each call in a thread of asyncio's default executor, which has min(32, CPUs + 4) threads
    and serves in order of arrival: an agent with 400 calls would keep all others from the scheduler. Here
    each agent has its own queue, and start-time fair queueing over the configured weights (Goyal, Vin and
    Cheng, SIGCOMM 1996) decides whose call gets the next free thread. An agent none of whose calls has a
    thread gets one beyond the bound, so that it need not wait for another agent's call to end, which may
    take minutes at a core that hangs.

    At the limit of waiting calls, another one is accepted only at the expense of the agent that holds the
    most, relative to its weight: that agent's newest call that has not been sent is refused, or the new one
    if it is its own. So an agent that floods the kernel is refused, and others are not.

    Threads are created when there is work for them and end after `IDLE_S` without any. They are daemons, so
    that a core that hangs cannot keep the process alive. The class is a ThreadPoolExecutor only because
    asyncio accepts no other as its default executor.

    Parameters
    ----------
    threads : int
        At most, but for `RESERVED_THREADS`.
    name : str
        What the threads' names begin with.
    """

    def __init__(self, threads: int, name: str = "eccos-query") -> None:
        super().__init__(1)
        self._name = name
        self._numbers = count(1)
        # Guards all below, lanes and work included; notified when there is work, and at the end.
        self._changed = threading.Condition(threading.Lock())
        self._bound = threads
        self._weights: Mapping[str, float] = {}
        self._limits: Callable[[], PendingLimits | None] = lambda: None
        # Not a schedule.FairQueue: that one tags each call on arrival, and serves by priority and age too.
        # Here the tag belongs to the agent's lane, so that refusing an agent's newest call costs it no turn,
        # and a thread in reserve may go to a lane out of order.
        self._clock = 0.0  # virtual: the start tag of the work that got its thread last
        self._lanes: dict[str | None, Lane] = {}
        self._heap: list[tuple[float, int, Lane]] = []
        self._entries = count()
        self._waiting = 0
        self._running = 0
        self._alive = 0  # threads
        self._idle = 0  # threads that wait for work
        self._closed = False
        self._ended_s: deque[float] = deque(maxlen=RATE_WINDOW)  # when the last work ended, monotonic

    def configure(
        self,
        threads: int,
        weights: Mapping[str, float],
        limits: Callable[[], PendingLimits | None] = lambda: None,
    ) -> None:
        """Change the bound of the threads, the agents' weights, and the limits of waiting calls.

        `limits` is called for each call that comes in; where it returns None, any number may wait.
        """
        with self._changed:
            self._bound = threads
            self._weights = dict(weights)
            self._limits = limits
            self._changed.notify_all()

    @property
    def threads(self) -> int:
        """Threads at most, without those in reserve."""
        with self._changed:
            return self._bound

    @property
    def waiting(self) -> int:
        """Work that has no thread yet."""
        with self._changed:
            return self._waiting

    @property
    def retry_after_s(self) -> float:
        """Seconds in which half of what waits is likely to be served, 1 to `LONGEST_RETRY_S`."""
        with self._changed:
            ended, waiting = list(self._ended_s), self._waiting + self._running
        spent_s = ended[-1] - ended[0] if len(ended) > 1 else 0.0
        expected_s = 0.5 * waiting * spent_s / (len(ended) - 1) if spent_s else 1.0
        return float(min(max(expected_s, 1.0), LONGEST_RETRY_S))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a thread, on behalf of an agent where `agent_of` finds one.

        The future gets an OverloadedError at the limit of waiting calls, an AbandonedError where its client
        disconnects before the call begins, and RuntimeError where the process cannot start a single thread.

        Raises
        ------
        RuntimeError
            The pool is shut down.
        """
        work = Work(partial(fn, *args, **kwargs), Future(), CLIENT.get())
        agent = agent_of(fn, args)
        if agent is not None and not self._may_wait(agent):
            self._refuse_overloaded(work)
            return work.future
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            lane = self._lane(agent)
            self._enqueue(lane, work)
            bound = self._bound + (0 if lane.running else RESERVED_THREADS)
            short = self._waiting > self._idle and self._alive < bound
            self._alive += short
            self._changed.notify()
        if short:
            self._start_thread()
        if work.client is not None:
            work.client.when_gone(partial(self._abandon, lane, work))
        return work.future

    def refuse_waiting(self, error: Exception) -> None:
        """Fail all work that has no thread yet with an error."""
        with self._changed:
            refused = [work for lane in self._lanes.values() for work in lane.waiting]
            for lane in self._lanes.values():
                lane.waiting.clear()
            self._waiting = 0
        for work in refused:
            _refuse(work, error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop accepting work and end the threads as they become idle.

        Waiting work fails, as it cannot be awaited after the event loop has ended. With `wait`, running
        work is waited for, `LINGER_S` at most.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.refuse_waiting(RuntimeError("shut down before it began"))
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: not self._running, LINGER_S)

    def _lane(self, agent: str | None) -> Lane:
        lane = self._lanes.get(agent)
        if lane is None:
            if len(self._lanes) >= REMEMBERED_AGENTS:
                self._lanes = {
                    key: lane for key, lane in self._lanes.items() if lane.held or lane.turn > self._clock
                }
            lane = self._lanes[agent] = Lane(agent)
        return lane

    def _enqueue(self, lane: Lane, work: Work) -> None:
        if not lane.waiting:
            lane.turn = max(lane.turn, self._clock)
            self._push(lane)
        lane.waiting[work] = None
        self._waiting += 1

    def _push(self, lane: Lane) -> None:
        lane.entry = next(self._entries)
        heapq.heappush(self._heap, (lane.turn, lane.entry, lane))

    def _first(self) -> Lane | None:
        """The lane whose turn it is; requires the lock."""
        while self._heap:
            _, entry, lane = self._heap[0]
            if lane.waiting and entry == lane.entry:
                return lane
            heapq.heappop(self._heap)
        return None

    def _take(self) -> tuple[Lane, Work] | None:
        """The work whose turn it is, for an idle thread; requires the lock."""
        lane = self._first()
        if lane is not None and lane.running and self._running >= self._bound:
            # Only threads in reserve are left.
            quiet = (each for each in self._lanes.values() if each.waiting and not each.running)
            lane = min(quiet, key=lambda each: (each.turn, each.entry), default=None)
        if lane is None:
            return None
        work, _ = lane.waiting.popitem(last=False)
        lane.running[work] = None
        self._waiting -= 1
        self._running += 1
        self._clock = max(self._clock, lane.turn)
        lane.turn += 1.0 / self._weights.get(lane.agent or "", 1.0)
        if lane.waiting:
            self._push(lane)
        return lane, work

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            lane, work = taken
            try:
                _do(work)
            finally:
                with self._changed:
                    del lane.running[work]
                    self._running -= 1
                    self._ended_s.append(time.monotonic())
                    if self._closed:
                        self._changed.notify_all()
            del taken, work  # an idle thread would keep them alive

    def _next(self) -> tuple[Lane, Work] | None:
        """Wait for work; None when this thread must end."""
        with self._changed:
            timed_out = False
            while (taken := self._take()) is None and not (self._closed or timed_out):
                self._idle += 1
                timed_out = not self._changed.wait(IDLE_S)
                self._idle -= 1
            self._alive -= taken is None
            return taken

    def _start_thread(self) -> None:
        """Start a thread that is counted already; where that fails, the work waits for an existing one."""
        thread = threading.Thread(target=self._run, name=f"{self._name}-{next(self._numbers)}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            with self._changed:
                self._alive -= 1
                alone = self._alive == 0
            if alone:
                self.refuse_waiting(RuntimeError(f"no thread can be started: {error}"))

    def _may_wait(self, agent: str) -> bool:
        """Whether an agent's call is accepted; one of the agent that holds the most may be refused for it."""
        limits = self._limits()
        if limits is None:
            return True
        with self._changed:
            full = (
                self._waiting + limits.pending >= limits.max_pending
                or self._waiting + self._running >= limits.max_pending + limits.slots
            )
            if not full:
                return True
            most = max(self._lanes.values(), key=self._share, default=None)
            own = self._lanes.get(agent)
            share = (1 + (own.held if own else 0)) / self._weights.get(agent, 1.0)
            if most is None or most is own or self._share(most) <= share:
                return False
            if most.waiting:
                victim, _ = most.waiting.popitem()
                self._waiting -= 1
                running = []
            else:
                victim, running = None, list(reversed(most.running))
        if victim is not None:
            self._refuse_overloaded(victim)
            return True
        return any(work.client is not None and self._withdraw(work.client) for work in running)

    def _share(self, lane: Lane) -> float:
        """What an agent holds, relative to its weight; 0 for work of no agent, which is never refused."""
        return 0.0 if lane.agent is None else lane.held / self._weights.get(lane.agent, 1.0)

    def _refuse_overloaded(self, work: Work) -> None:
        _refuse(work, self._overloaded())

    def _withdraw(self, client: Client) -> bool:
        """Withdraw a client's call that waits in the scheduler; False if it is with a core."""
        if not client.withdraw():
            return False
        client.refusal = self._overloaded()
        client.leave()
        return True

    def _overloaded(self) -> Exception:
        from eccos_aios.schedule import OverloadedError

        return OverloadedError("as many calls wait as may wait (max_pending)", self.retry_after_s)

    def _abandon(self, lane: Lane, work: Work) -> bool:
        """Drop work whose client has disconnected; False if it has a thread already."""
        from eccos_aios.schedule import AbandonedError

        with self._changed:
            waits = work in lane.waiting
            if waits:
                del lane.waiting[work]
                self._waiting -= 1
        if waits:
            if work.client is not None:
                work.client.note_dropped()
            _fail(work, AbandonedError(GONE))
        return waits


def agent_of(fn: Callable[..., Any], args: tuple[Any, ...]) -> str | None:
    """The agent on whose behalf AIOS calls a function; None for anything else that asyncio runs.

    ``asyncio.to_thread(execute_request, agent_name, query)`` gives the executor a partial of a context's
    ``run`` with these three.
    """
    if isinstance(fn, partial):
        args = (*fn.args, *args)
    is_query = len(args) >= 2 and getattr(args[0], "__name__", "") == "execute_request"
    return args[1] if is_query and isinstance(args[1], str) else None


def _do(work: Work) -> None:
    if not work.future.set_running_or_notify_cancel():
        return
    try:
        result = work.do()
    except BaseException as error:  # noqa: BLE001 - it is the future's, whatever it is
        work.future.set_exception(error)
    else:
        work.future.set_result(result)


def _refuse(work: Work, error: Exception) -> None:
    if work.client is not None:
        work.client.refusal = error
    _fail(work, error)


def _fail(work: Work, error: Exception) -> None:
    if work.future.set_running_or_notify_cancel():
        work.future.set_exception(error)
