"""Line: the order in which pending calls are served, fair among agents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eccos_aios.schedule.call import Call

REMEMBERED_AGENTS = 10_000  # agents whose turns are kept; those that are behind the clock are forgotten first


class Line:
    """Weighted fair queueing among agents, priorities above it, and an age at which every call goes first.

    Each call gets a turn on a virtual clock: an agent's next call comes 1 / weight after its last one, but
    never before the clock, which stands at the turn of the last call served (start-time fair queueing,
    Goyal, Vin and Cheng, SIGCOMM 1996). So an agent that queues 500 calls at once delays the next agent's
    one call by at most one turn.

    Parameters
    ----------
    weights : mapping of str to float
        Shares of agents, above 0; 1 for those that are not listed.
    max_age_s : float
        Seconds after which a call goes before all younger ones, whatever their priority.
    """

    def __init__(self, weights: Mapping[str, float] | None = None, max_age_s: float = 60.0) -> None:
        self.weights = dict(weights or {})
        self.max_age_s = max_age_s
        self._clock = 0.0
        self._next_turn: dict[str, float] = {}

    def join(self, call: Call) -> None:
        """Give a call its turn."""
        call.turn = max(self._clock, self._next_turn.get(call.agent, 0.0))
        self._next_turn[call.agent] = call.turn + 1.0 / self.weights.get(call.agent, 1.0)
        if len(self._next_turn) > REMEMBERED_AGENTS:
            self._next_turn = {agent: turn for agent, turn in self._next_turn.items() if turn > self._clock}

    def served(self, call: Call) -> None:
        """Let the clock follow a call that got its slot."""
        self._clock = max(self._clock, call.turn)

    def order(self, calls: Iterable[Call], now_s: float) -> list[Call]:
        """The calls, who goes first at the front.

        Parameters
        ----------
        calls : iterable of Call
            Each has joined.
        now_s : float
            Seconds on the monotonic clock.
        """
        aged_s = now_s - self.max_age_s

        def place(call: Call) -> tuple[float, ...]:
            if call.arrived_s <= aged_s:
                return (0.0, call.arrived_s)
            return (1.0, -call.priority, call.turn, call.arrived_s)

        return sorted(calls, key=place)
