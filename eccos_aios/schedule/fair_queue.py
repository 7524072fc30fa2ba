"""FairQueue: the order in which waiting calls are served, fair among agents."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from eccos_aios.config import default_of
from eccos_aios.schedule.call import Call

REMEMBERED_AGENTS = 10_000  # agents whose turns are stored; beyond, turns that have passed are dropped
SHOWN_AGENTS = 20  # in a status
LOOKED_AT = 8  # times the number wanted: entries examined at most; the rest are left for a later round
DEFAULT_MAX_AGE_S: float = default_of("max_age_s")
SPARE_ENTRIES = 64  # void entries that a heap may hold in excess of its valid ones

Entry: TypeAlias = tuple[tuple[float, ...], int, Call]


class FairQueue:
    """Weighted fair queueing among agents, priorities above it, and an age at which every call goes first.

    Each call gets a turn on a virtual clock: an agent's next turn is 1 / weight after its last one, but
    never before the clock, which stands at the turn of the last call served (start-time fair queueing,
    Goyal, Vin and Cheng, SIGCOMM 1996). So an agent that queues 500 calls at once delays another agent's
    single call by at most one turn.

    The cost of `front` grows with the number of calls wanted, not with the length of the queue. Not
    thread-safe: the scheduler's lock guards it.

    Parameters
    ----------
    weights : mapping of str to float
        Shares of agents, above 0; 1 for those that are not listed.
    max_age_s : float
        Seconds after which a call goes before all younger ones, of any priority.
    """

    def __init__(
        self, weights: Mapping[str, float] | None = None, max_age_s: float = DEFAULT_MAX_AGE_S
    ) -> None:
        self.weights = dict(weights or {})
        self.max_age_s = max_age_s
        self._clock = 0.0
        self._next_turn: dict[str, float] = {}
        self._tickets: dict[Call, int] = {}  # of waiting calls; an entry with another ticket is void
        self._ticket = 0
        self._by_turn: list[Entry] = []
        self._by_age: list[Entry] = []
        self._waiting: Counter[str] = Counter()  # by agent

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, call: object) -> bool:
        return call in self._tickets

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._tickets))

    def join(self, call: Call) -> None:
        """Assign a call its turn and queue it."""
        call.turn = max(self._clock, self._next_turn.get(call.agent, 0.0))
        self._next_turn[call.agent] = call.turn + 1.0 / self.weights.get(call.agent, 1.0)
        if len(self._next_turn) > REMEMBERED_AGENTS:
            self._next_turn = {agent: turn for agent, turn in self._next_turn.items() if turn > self._clock}
        self.rejoin(call)

    def rejoin(self, call: Call) -> None:
        """Queue a call again at the turn it had."""
        if call in self._tickets:
            return
        self._ticket += 1
        self._tickets[call] = self._ticket
        self._waiting[call.agent] += 1
        heapq.heappush(self._by_turn, ((-call.priority, call.turn, call.arrived_s), self._ticket, call))
        heapq.heappush(self._by_age, ((call.arrived_s,), self._ticket, call))

    def leave(self, call: Call) -> None:
        """Remove a call, if it is queued."""
        if self._tickets.pop(call, None) is None:
            return
        self._waiting[call.agent] -= 1
        if not self._waiting[call.agent]:
            del self._waiting[call.agent]
        for heap in (self._by_turn, self._by_age):
            if len(heap) > 2 * len(self._tickets) + SPARE_ENTRIES:
                heap[:] = [entry for entry in heap if self._is_valid(entry)]
                heapq.heapify(heap)

    def served(self, call: Call) -> None:
        """Advance the clock to the turn of a call that got its slot."""
        self._clock = max(self._clock, call.turn)

    def front(
        self, wanted: int, now_s: float, is_served: Callable[[Call], bool] = lambda call: True
    ) -> list[Call]:
        """The calls that go first, in order.

        Parameters
        ----------
        wanted : int
            How many, at most.
        now_s : float
            On the scheduler's clock.
        is_served : callable
            Whether a round could do anything for a call; others are skipped and keep their turn.
        """
        aged_s = now_s - self.max_age_s
        front = self._first(self._by_age, wanted, is_served, lambda entry: entry[0][0] <= aged_s)
        taken = set(front)
        rest = self._first(self._by_turn, wanted, lambda call: call not in taken and is_served(call))
        return (front + rest)[:wanted]

    def waiting_of(self, agent: str) -> int:
        """Number of an agent's calls in the queue."""
        return self._waiting[agent]

    def busiest(self, agents: int = SHOWN_AGENTS) -> dict[str, int]:
        """Number of calls in the queue of each of the agents with the most, the most first."""
        return dict(self._waiting.most_common(agents))

    def last_of_busiest(self) -> Call | None:
        """The last call of the agent with the most calls; None if the queue is empty. Examines all calls."""
        if not self._waiting:
            return None
        (agent, _), *_ = self._waiting.most_common(1)
        return max((call for call in self._tickets if call.agent == agent), key=lambda call: call.turn)

    def _first(
        self,
        heap: list[Entry],
        wanted: int,
        is_served: Callable[[Call], bool],
        is_due: Callable[[Entry], bool] = lambda entry: True,
    ) -> list[Call]:
        looked_at: list[Entry] = []
        found: list[Call] = []
        while heap and len(found) < wanted and len(looked_at) < LOOKED_AT * wanted and is_due(heap[0]):
            entry = heapq.heappop(heap)
            if not self._is_valid(entry):
                continue
            looked_at.append(entry)
            if is_served(entry[2]):
                found.append(entry[2])
        for entry in looked_at:
            heapq.heappush(heap, entry)
        return found

    def _is_valid(self, entry: Entry) -> bool:
        return self._tickets.get(entry[2]) == entry[1]
