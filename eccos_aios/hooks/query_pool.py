"""QueryPool: the threads in which AIOS's ``/query`` waits for its syscalls, fair among agents."""

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
RESERVED_THREADS = 64  # beyond the others, for agents of which no call has a thread
IDLE_S = 10.0  # seconds after which a thread that has nothing to do ends
LINGER_S = 0.5  # seconds that a shutdown waits for threads at work; a core that hangs may hold one for ever
REMEMBERED_AGENTS = 10_000  # lanes kept; those that are behind the clock are forgotten first
RATE_OVER = 64  # calls over which the rate of answers is measured
LONGEST_RETRY_S = 60.0  # seconds that an agent is asked to stay away


class PendingLimits(NamedTuple):
    """How many calls may wait for a core, and do.

    Attributes
    ----------
    max_pending : int
        Calls that may wait, in front of the scheduler and in it.
    pending : int
        Calls that wait in the scheduler.
    slots : int
        Calls that the cores hold at once. What the pool holds beyond them waits, or is about to.
    """

    max_pending: int
    pending: int
    slots: int


@dataclass(eq=False)
class Work:
    """Something to be done in a thread, for a client if one waits for it."""

    do: Callable[[], Any]
    future: Future[Any]
    client: Client | None


@dataclass(eq=False)
class Lane:
    """The work of one agent; None is the agent of all that is no agent's.

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

    AIOS waits for each call in a thread of asyncio's default executor: min(32, CPUs + 4) threads, first
    come, first served, so that an agent with 400 calls keeps all others away from any scheduler. Here each
    agent has a queue of its own. Whose call gets the next free thread is decided by start-time fair
    queueing over the configured weights (Goyal, Vin and Cheng, SIGCOMM 1996), as in
    `eccos_aios.schedule.fair_queue`. An agent of which no call has a thread yet gets one beyond the bound, so
    that it does not even wait for a call of another agent to end, which at a core that hangs may take
    minutes.

    Where as many calls wait as may wait, there is room for another one only at the expense of the agent
    that holds the most, by its weight: its newest call that has not been sent is turned away, or the new
    one if it is its own. So an agent that floods the kernel is turned away, and others are not.

    Threads are made when there is work for them and end when there is none for `IDLE_S`; they are daemons,
    for the process must not outlive its end because a core hangs. It is a ThreadPoolExecutor by name alone:
    asyncio takes no other.

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
        # Guards all below, lanes and work included; signalled when there is work, and at the end.
        self._changed = threading.Condition(threading.Lock())
        self._bound = threads
        self._weights: Mapping[str, float] = {}
        self._room: Callable[[], PendingLimits | None] = lambda: None
        self._clock = 0.0  # virtual: the start tag of the work that got its thread last
        self._lanes: dict[str | None, Lane] = {}
        self._heap: list[tuple[float, int, Lane]] = []
        self._entries = count()
        self._waiting = 0
        self._running = 0
        self._alive = 0  # threads
        self._idle = 0  # threads that wait for work
        self._closed = False
        self._ended_s: deque[float] = deque(maxlen=RATE_OVER)  # when the last work ended, monotonic

    def configure(
        self,
        threads: int,
        weights: Mapping[str, float],
        room: Callable[[], PendingLimits | None] = lambda: None,
    ) -> None:
        """Change the bound of the threads, the agents' weights, and what tells how much may wait.

        `room` is called for each call that comes in; None: any number may wait.
        """
        with self._changed:
            self._bound = threads
            self._weights = dict(weights)
            self._room = room
            self._changed.notify_all()

    @property
    def threads(self) -> int:
        """Threads at most, but for those in reserve."""
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
        """Have a function called in a thread; for an agent where `agent_of` finds one.

        The future gets an OverloadedError where there is no room for it, an AbandonedError where its client
        goes before it is begun, and RuntimeError where the process cannot start a single thread.

        Raises
        ------
        RuntimeError
            The pool is shut down.
        """
        work = Work(partial(fn, *args, **kwargs), Future(), CLIENT.get())
        agent = agent_of(fn, args)
        if agent is not None and not self._make_room(agent):
            self._turn_away(work)
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
        """Let all work that has no thread yet fail with an error."""
        with self._changed:
            refused = [work for lane in self._lanes.values() for work in lane.waiting]
            for lane in self._lanes.values():
                lane.waiting.clear()
            self._waiting = 0
        for work in refused:
            _refuse(work, error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work and end the threads as they become idle.

        What still waits fails: whoever waited for it has gone with the event loop. With `wait`, work that is
        under way is waited for, `LINGER_S` at most.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.refuse_waiting(RuntimeError("shut down before it was begun"))
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
        """The lane whose turn it is; the lock is held."""
        while self._heap:
            _, entry, lane = self._heap[0]
            if lane.waiting and entry == lane.entry:
                return lane
            heapq.heappop(self._heap)
        return None

    def _take(self) -> tuple[Lane, Work] | None:
        """The work whose turn it is, for a thread that has none; the lock is held."""
        lane = self._first()
        if lane is not None and lane.running and self._running >= self._bound:
            # What is left are the threads in reserve.
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
            del taken, work  # what an idle thread holds on to would never be freed

    def _next(self) -> tuple[Lane, Work] | None:
        """Wait for work; None when this thread has to end."""
        with self._changed:
            timed_out = False
            while (taken := self._take()) is None and not (self._closed or timed_out):
                self._idle += 1
                timed_out = not self._changed.wait(IDLE_S)
                self._idle -= 1
            self._alive -= taken is None
            return taken

    def _start_thread(self) -> None:
        """Start a thread that is counted already; where that fails, work waits for one that there is."""
        thread = threading.Thread(target=self._run, name=f"{self._name}-{next(self._numbers)}", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            with self._changed:
                self._alive -= 1
                alone = self._alive == 0
            if alone:
                self.refuse_waiting(RuntimeError(f"no thread can be started: {error}"))

    def _make_room(self, agent: str) -> bool:
        """Whether a call of an agent may come in; one of the agent that holds the most may have to leave."""
        room = self._room()
        if room is None:
            return True
        with self._changed:
            full = (
                self._waiting + room.pending >= room.max_pending
                or self._waiting + self._running >= room.max_pending + room.slots
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
            self._turn_away(victim)
            return True
        return any(work.client is not None and self._withdraw(work.client) for work in running)

    def _share(self, lane: Lane) -> float:
        """What an agent holds, by its weight; other work than agents' is never in the way."""
        return 0.0 if lane.agent is None else lane.held / self._weights.get(lane.agent, 1.0)

    def _turn_away(self, work: Work) -> None:
        _refuse(work, self._overloaded())

    def _withdraw(self, client: Client) -> bool:
        """Take back a client's call that waits in the scheduler; False where it is with a core."""
        if not client.withdraw():
            return False
        client.refusal = self._overloaded()
        client.leave()
        return True

    def _overloaded(self) -> Exception:
        from eccos_aios.schedule import OverloadedError

        return OverloadedError("as many calls wait as may wait (max_pending)", self.retry_after_s)

    def _abandon(self, lane: Lane, work: Work) -> bool:
        """Drop work whose client has gone; False where it has a thread already."""
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
    """The agent on whose behalf AIOS has a function called; None for whatever else asyncio runs.

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
